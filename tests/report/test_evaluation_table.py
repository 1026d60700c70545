"""Tables of evaluations: figures worked out by hand, pairs, and what must not be compared."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raycp.errors import ConfigError
from raycp.report.evaluation import csv_text, metric_rows, notes, paired_rows, plain_text
from raycp.runs.evaluation import SCHEMA


@dataclass(frozen=True)
class Evaluation:
    name: str
    config: dict[str, Any]
    table: pa.Table
    path: str = "evaluations/some"


def made(name: str = "a", shift: float = 0.0, **changes: Any) -> Evaluation:
    """Four images at one sigma; the optimal transport of the first two."""
    l2 = [1.0 + shift, 2.0 + shift, 3.0 + shift, 4.0 + shift]
    of_sigma = {
        "correct": [1.0, 0.5, 0.0, 1.0], "l2": l2, "squared_l2": [v**2 for v in l2], "lpips": [0.1] * 4,
        "fid_term": [2.0, 2.0, 2.0, 6.0], "optimal_transport_term": [1.0, 2.0, None, None],
    }  # fmt: skip
    columns: dict[str, list[Any]] = {key: [None] * 4 + values for key, values in of_sigma.items()}
    columns["correct"] = [1.0, 1.0, 1.0, 0.0, *of_sigma["correct"]]
    columns |= {
        "sigma": [0.0] * 4 + [0.5] * 4,
        "image_index": [0, 5, 10, 15] * 2,
        "label": [1] * 8,
        "numerics": ["cpu"] * 8,
    }
    config: dict[str, Any] = {
        "config": {
            "evaluate": {"draws": 2, "bootstrap": 400, "confidence": 0.95},
            "certify": {"sigmas": [0.5], "seed": 0, "noise": "sound"},
        },
        "weights": {"features": "ff", "perceptual": "pp"},
        "networks": {
            "features": "Inception 2015-12-05, 2048 features, ff",
            "perceptual": "vgg, resized to 224",
        },
        "data": {"sha256": "dd", "source": "the digits", "image_index": [0, 5, 10, 15]},
    }
    for key, value in changes.items():
        section, _, rest = key.partition("__")
        config[section] = config[section] | {rest: value}
    return Evaluation(name, config, pa.table(columns, schema=SCHEMA))


def test_metrics_are_means_over_images() -> None:
    rows = {(row.sigma, row.metric): row for row in metric_rows(made())}
    values = {key: row.value for key, row in rows.items()}
    assert values == pytest.approx(
        {
            (0.0, "accuracy"): 0.75, (0.5, "accuracy"): 0.625, (0.5, "fid"): 3.0, (0.5, "lpips"): 0.1,
            (0.5, "transport"): 2.5, (0.5, "transport_model"): 5.0, (0.5, "squared_l2"): 7.5,
            (0.5, "optimal_transport"): 1.5,
        }
    )  # fmt: skip
    assert {key: row.images for key, row in rows.items() if row.images != 4} == {
        (0.5, "optimal_transport"): 2
    }
    assert rows[0.0, "accuracy"].draws == 1
    assert rows[0.5, "accuracy"].draws == 2
    assert (rows[0.5, "fid"].network, rows[0.5, "lpips"].network, rows[0.5, "transport"].network) == (
        "Inception 2015-12-05, 2048 features, ff", "vgg, resized to 224", "",
    )  # fmt: skip
    transport = rows[0.5, "transport"]
    assert 1.0 <= transport.low < 2.5 < transport.high <= 4.0


def test_the_csv_has_full_precision() -> None:
    evaluation = made(shift=1 / 3)
    found = list(csv.DictReader(io.StringIO(csv_text(metric_rows(evaluation)))))
    transport = next(row for row in found if row["metric"] == "transport")
    assert float(transport["value"]) == np.mean([1 + 1 / 3, 2 + 1 / 3, 3 + 1 / 3, 4 + 1 / 3])
    assert list(found[0]) == [
        "evaluation", "sigma", "metric", "unit", "value", "low", "high", "images", "draws", "network",
    ]  # fmt: skip


def test_the_table_and_its_notes() -> None:
    rows = metric_rows(made())
    lines = plain_text(rows).splitlines()
    assert lines[0].split() == [
        "evaluation", "sigma", "accuracy", "fid", "lpips", "transport", "squared_l2", "optimal_transport",
    ]  # fmt: skip
    assert lines[1].split()[:4] == ["a", "clean", "0.75", "[0.25,"]
    assert lines[1].split()[-5:] == ["-"] * 5
    assert lines[2].startswith("a           0.5    0.625 [")
    said = notes([made()], rows)
    assert said[0] == (
        "in brackets: 95% bootstrap intervals over images, 400 samples, each by itself; 4 images, 2 draws of each"
    )
    assert said[1].startswith(
        "features: Inception 2015-12-05, 2048 features, ff; FID is between the same images, clean and purified"
    )
    assert said[3].startswith("optimal_transport: Wasserstein-1 between 2 clean and 2 purified images")


def test_pairs_know_a_constant_difference_exactly() -> None:
    rows = {(row.sigma, row.metric): row for row in paired_rows([made("a"), made("b", shift=0.25)])}
    transport = rows[0.5, "transport"]
    assert (transport.evaluation, transport.value) == ("b - a", 0.25)
    assert transport.low == pytest.approx(0.25)
    assert transport.high == pytest.approx(0.25)
    assert rows[0.5, "accuracy"].value == 0
    text = plain_text(list(rows.values()), difference=True)
    assert "+0.25 [+0.25, +0.25]" in text


def test_distances_in_other_features_have_no_difference() -> None:
    other = made("b", weights__features="gg")
    metrics = {row.metric for row in paired_rows([made("a"), other])}
    assert "fid" not in metrics
    assert "lpips" in metrics


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data__sha256": "ee"}, "data.sha256"),
        ({"data__image_index": [1, 2, 3, 4]}, "data.image_index"),
        ({"config__evaluate": {"draws": 3, "bootstrap": 400, "confidence": 0.95}}, "evaluate.draws"),
        ({"config__certify": {"sigmas": [0.5], "seed": 1, "noise": "sound"}}, "certify.seed"),
    ],
)
def test_pairs_of_other_samples_are_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"not of the same noisy samples: {key} differ"):
        paired_rows([made(), made("b", **changes)])


def test_evaluations_of_different_images_are_said_to_be() -> None:
    one, same = made("one", data__source="the digits"), made("same", data__source="the digits")
    other = made("other", data__source="the letters", data__sha256="ee", data__image_index=[1, 2, 3, 4])
    rows = metric_rows(one)
    assert not any("different" in note for note in notes([one, same], rows))
    assert (
        "rows are of different images: one, same: 4 images [0, 5, …, 15 (every 5th)] of the digits; other: 4 images "
        "[1–4] of the letters. Their figures are no match for each other."
    ) in notes([one, other, same], rows)

"""Metrics of purified images in a comparison: claims against paired differences, text, CSV, picture, page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from scipy import stats

from raycp.config.claims import Claim, Metric
from raycp.config.suite import Suite
from raycp.report.claims import CONFIRMED, CONTRADICTED, UNDECIDED
from raycp.report.comparison_files import report_comparison
from raycp.report.comparison_page import Making
from raycp.report.evaluation import METRICS
from raycp.report.quality import Quality, compare_quality, quality_text
from raycp.report.quality_page import HEADINGS
from raycp.report.quality_plot import SHOWN
from tests.report.html_page import Page
from tests.report.test_evaluation_table import Evaluation, made

NEARER = Claim(better="near", worse="far", metric="transport", says="near is nearer")
FARTHER = Claim(better="far", worse="near", metric="transport", says="far is nearer")
ALIKE = Claim(better="near", worse="far", metric="lpips", says="near looks nearer")
CERTIFIED = Claim(better="near", worse="far", says="near certifies more")


class Unnoted(Suite):
    """A suite without configurations, for runs that were made by hand."""

    def notes(self) -> list[str]:
        return []


def of_many(evaluation: Evaluation, times: int = 25) -> Evaluation:
    """The four images of `made`, so many times: means stay what they are."""
    parts = [evaluation.table.filter(pc.equal(evaluation.table["sigma"], sigma)) for sigma in (0.0, 0.5)]
    table = pa.concat_tables([part for part in parts for _ in range(times)])
    return replace(evaluation, table=table)


@pytest.fixture
def evaluations() -> list[Evaluation]:
    """The second moves every image by 0.5 more; LPIPS is one for both. 100 images; the transport of 50 of them."""
    return [of_many(made("near")), of_many(made("far", shift=0.5))]


def compared(evaluations: list[Evaluation], *claims: Claim) -> Quality:
    found = compare_quality(claims, evaluations)
    assert found is not None
    return found


def test_less_is_better(evaluations: list[Evaluation]) -> None:
    found = compared(evaluations, NEARER, FARTHER, ALIKE, CERTIFIED)
    assert [item.claim for item in found.checked] == [NEARER, FARTHER, ALIKE], (
        "one sigma; the last has no metric"
    )
    assert [item.verdict for item in found.checked] == [CONFIRMED, CONTRADICTED, UNDECIDED]
    # Every image differs by the same 0.5, so that the interval has no width.
    assert [(item.difference, item.low, item.high) for item in found.checked] == [
        (pytest.approx(-0.5),) * 3, (pytest.approx(0.5),) * 3, (0.0, 0.0, 0.0),
    ]  # fmt: skip
    assert {item.images for item in found.checked} == {100}
    assert compare_quality((CERTIFIED,), []) is None


def test_intervals_hold_together(evaluations: list[Evaluation]) -> None:
    """By hand: the squares differ by l2 + .25 for l2 of 1 to 4, and two claims make intervals of 97.5% each."""
    claims = (
        Claim(better="near", worse="far", metric="squared_l2", says="a"),
        Claim(better="far", worse="near", metric="squared_l2", says="b"),
    )
    one, other = compared(evaluations, *claims).checked
    error = (125.0 / 99) ** 0.5 / 10  # 25 times (1.5^2 + .5^2 + .5^2 + 1.5^2) is 125
    reach = stats.t.ppf(1 - 0.0125, 99) * error
    assert (one.difference, one.low, one.high) == pytest.approx((-2.75, -2.75 - reach, -2.75 + reach))
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    single = compared(evaluations, claims[0]).checked[0]
    assert one.low < single.low < single.high < one.high


def test_few_images_decide_nothing(evaluations: list[Evaluation]) -> None:
    """Of the images that have the metric: optimal transport has half of them."""
    claim = Claim(better="near", worse="far", metric="optimal_transport", says="a")
    found = compared(evaluations, NEARER, claim)
    assert [item.claim for item in found.checked] == [NEARER]
    assert (
        found.notes[-1]
        == "not checked: a [near < far by optimal_transport]: 50 images; its intervals need 100."
    )
    many = [of_many(each, 2) for each in evaluations]
    assert [item.images for item in compared(many, NEARER, claim).checked] == [200, 100]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data__sha256": "ee"}, "are not of the same noisy samples: data.sha256 differ"),
        ({"weights__perceptual": "qq"}, "have not both measured lpips, with the same network"),
        ({"networks__perceptual": "vgg, not resized"}, "have not both measured lpips, with the same network"),
    ],
)
def test_what_cannot_be_paired_is_not_checked(change: dict[str, Any], why: str) -> None:
    found = compared([of_many(made("near")), of_many(made("far", **change))], ALIKE)
    assert not found.checked
    assert [
        note
        for note in found.notes
        if note.startswith("not checked: near looks nearer [near < far by lpips]: ")
    ]
    assert why in found.notes[-1]
    assert "near looks nearer [near < far by lpips]: not checked\n" in quality_text(found)


def test_a_claim_waits_for_both_and_keeps_to_its_sigmas(evaluations: list[Evaluation]) -> None:
    assert not compared(evaluations[:1], NEARER).checked
    alone = compare_quality((NEARER, CERTIFIED), [])
    assert alone is not None and not alone.rows and not alone.checked
    assert quality_text(alone).endswith("near is nearer [near < far by transport]: not checked\n")
    elsewhere = NEARER.model_copy(update={"sigmas": (0.25,)})
    assert not compared(evaluations, elsewhere).checked


def test_text_csv_picture_and_page(make_run: Callable, evaluations: list[Evaluation]) -> None:
    runs = [make_run([(0.5, i, 1, 1, 0.6) for i in range(4)], name=name) for name in ("near", "far")]
    suite = Unnoted({}, (CERTIFIED, NEARER))
    making = Making(("raycp",), "raycp compare", datetime(2026, 1, 2, tzinfo=UTC))
    report = report_comparison(suite, runs, making, evaluations)
    assert "\nPurified images\nmethod  sigma  accuracy" in report.text
    lines = report.text[report.text.index("Purified images") :].splitlines()
    assert [line.split()[:3] for line in lines[2:4]] == [["near", "0.5", "0.625"], ["far", "0.5", "0.625"]]
    assert lines[5].endswith("below 0 as claimed (approximate 95% intervals, for all 1 together)")
    assert lines[6:] == [
        "near is nearer [near < far by transport]: 1 confirmed", "  sigma 0.5  -0.5 (-0.5 to -0.5)  confirmed",
    ]  # fmt: skip
    assert "near is nearer" not in report.text[: report.text.index("Purified images")]
    rows = list(csv.DictReader(io.StringIO(report.files["evaluation.csv"].decode())))
    assert {(row["evaluation"], row["sigma"]) for row in rows} == {
        ("near", "0.0"), ("near", "0.5"), ("far", "0.0"), ("far", "0.5"),
    }  # fmt: skip
    (claim,) = csv.DictReader(io.StringIO(report.files["evaluation-claims.csv"].decode()))
    assert (claim["better"], claim["metric"], claim["verdict"], claim["intervals"]) == (
        "near", "transport", "confirmed", "1",
    )  # fmt: skip
    assert Image.open(io.BytesIO(report.files["evaluation.png"])).size[0] > 1000
    page = Page(report.files["comparison.html"].decode())
    table = next(table for table in page.tables if table[0][1] == "accuracy of samples (%)")
    assert table[1] == ["σ = 0.5"]
    assert table[2][:2] == ["near", "62.5|" + _ends("near", evaluations)]
    assert table[2][2].startswith("3|") and table[3][4].startswith("3|")  # FID; transport of far, 2.5 + 0.5
    claims = next(
        table
        for table in page.tables
        if table[0] == ["σ", "metric", "difference (interval)", "images", "verdict"]
    )
    assert claims[1:] == [
        ["near is nearer|near < far by transport"], ["0.5", "transport", "−0.5 (−0.5 to −0.5)", "100", "✓ confirmed"],
    ]  # fmt: skip
    words = " ".join(page.text.split())
    assert (
        "1 of 1 claims about purified images is confirmed wherever checked: near is nearer [near < far by transport]"
        in words
    )


def _ends(name: str, evaluations: list[Evaluation]) -> str:
    (row,) = [
        row
        for row in compared(evaluations).rows
        if (row.evaluation, row.sigma, row.metric) == (name, 0.5, "accuracy")
    ]
    return f"{100 * row.low:.1f}–{100 * row.high:.1f}"


def test_a_comparison_without_evaluations_says_nothing_of_them(make_run: Callable) -> None:
    runs = [make_run([(0.5, i, 1, 1, 0.6) for i in range(4)], name="near")]
    making = Making(("raycp",), "raycp compare", datetime(2026, 1, 2, tzinfo=UTC))
    report = report_comparison(Unnoted({}), runs, making)
    assert "Purified images" not in report.text
    assert not [name for name in report.files if name.startswith("evaluation")]
    assert 'id="quality"' not in report.files["comparison.html"].decode()


def test_the_metrics_have_one_set_of_names() -> None:
    names = set(METRICS) - {"transport_model"}
    assert set(get_args(Metric)) == names - {"accuracy"}
    assert set(HEADINGS) == names and set(SHOWN) <= names

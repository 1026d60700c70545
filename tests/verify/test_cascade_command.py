"""`raycp cascade` on honest runs: certificates from the ledger's own counts, and runs that cannot have one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_runs import change, only_file

from raycp.statistics import Stage, certify_cascade

Run = Callable[..., tuple[int, str, str]]
Make = Callable[[str], Path]


def counts_of(run: Path) -> dict[tuple[float, int, str], np.ndarray]:
    """Class counts by sigma, image and phase, added up from the ledger's file by hand."""
    found: dict[tuple[float, int, str], np.ndarray] = {}
    for row in pq.read_table(only_file(run)).to_pylist():
        counts = found.setdefault((row["sigma"], row["image_index"], row["phase"]), np.zeros(10, np.int64))
        classes = range(10) if row["classes"] is None else row["classes"]  # sparse where that is shorter
        np.add.at(counts, np.array(classes, dtype=int), np.array(row["counts"]))
    return found


def test_certificates_are_those_of_the_counts(raycp: Run, spoiled: Make) -> None:
    run = spoiled("fixed")
    status, out, err = raycp("cascade", run)
    assert status == 0 and f"certificates in {run}/cascade.parquet" in err
    table = pq.read_table(run / "cascade.parquet").to_pylist()
    counts, slack = counts_of(run), json.loads((run / "config.json").read_text())["slack"]
    images = sorted({image for _, image, _ in counts})
    assert [row["image_index"] for row in table] == images and len(images) == 8
    for row in table:
        stages = [
            Stage(
                sigma,
                int(counts[sigma, row["image_index"], "selection"].argmax()),
                counts[sigma, row["image_index"], "estimation"],
                slack[str(sigma)],
            )
            for sigma in (0.5, 0.25)
        ]
        expected = certify_cascade(stages, 0.001)
        assert (row["predicted"], row["radius"], row["sigma"]) == (
            expected.predicted, expected.radius, expected.sigma,
        )  # fmt: skip
        assert row["correct"] == (row["predicted"] == row["label"])
    assert len({row["sigma"] for row in table}) >= 2  # not one noise level for all
    right = sum(row["correct"] for row in table)
    assert f"{1000 * right // 8 / 10:.1f}" in out.splitlines()[4] and out.splitlines()[4].startswith(
        "cascade"
    )
    status, out, _ = raycp("cascade", run, "--format", "json", "--alpha", "0.1")
    records = json.loads(out)
    assert [record["row"] for record in records] == ["sigma 0.25", "sigma 0.5", "envelope", "cascade"]
    loose = pq.read_table(run / "cascade.parquet")
    assert loose.schema.metadata[b"alpha"] == b"0.1"
    assert sum(loose["radius"].to_pylist()) > sum(row["radius"] for row in table)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("skip_wrong", "was made with skip_wrong: true"),
        ("decide", "was made with rule: decide"),
        ("fixed-partial", "is not finished; give its `raycp certify` command again"),
    ],
)
def test_runs_without_all_samples_are_refused(raycp: Run, honest: Make, name: str, words: str) -> None:
    run = honest(name)
    status, out, err = raycp("cascade", run)
    assert status != 0 and out == "" and words in err
    assert not (run / "cascade.parquet").exists()


def test_a_ledger_that_lacks_samples_is_named(raycp: Run, spoiled: Make) -> None:
    run = spoiled("fixed")
    change(only_file(run), lambda rows: rows.pop())
    status, _, err = raycp("cascade", run)
    assert status == 1 and "the ledger lacks samples of 1 of 16 (sigma, image), first sigma 0.5, image" in err
    status, _, err = raycp("cascade", run, "--alpha", "1.5")
    assert status == 2 and "alpha must lie between 0 and 1, got 1.5" in err

"""Envelopes over several methods: one row for a method that has a network for each noise level."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from raycp.config.suite import Suite
from raycp.report.comparison import comparison_text
from raycp.report.comparison_files import PAGE, report_comparison
from raycp.report.comparison_page import Making
from raycp.report.envelopes import with_envelopes
from raycp.report.findings import Findings, compare_methods
from raycp.report.table import ENVELOPE, Table, certified_table
from tests.report.html_page import Page

MAKING = Making(
    ("raycp", "compare", "s.yaml"), "raycp compare s.yaml --out x", datetime(2026, 1, 2, tzinfo=UTC)
)
GAUSSIAN = {"gaussian": ("g-25", "g-50")}
RADII = [0.0, 0.25, 0.5]
WITHIN = 1.5
"""A radius above all of these."""


class Unnoted(Suite):
    """A suite without configurations, for runs that were made by hand."""

    def notes(self) -> list[str]:
        return []


def images(sigma: float, at_quarter: int, at_half: int, right: int, number: int = 12) -> list[Any]:
    """Of so many images, how many are certified at .25 and .5, and are right at all."""
    return [
        (sigma, i, 1, 1 if i < right else 2, WITHIN if i < at_half else 0.3 if i < at_quarter else 0.1)
        for i in range(number)
    ]


@pytest.fixture
def runs(make_run: Callable) -> list[Any]:
    """`g-25` has 10, 6 and 2 of 12 images at 0, .25 and .5, `g-50` 8, 6 and 5; `plain` has both sigmas itself."""

    def costing(run: Any, classifier: str) -> Any:
        config = run.config["config"] | {"classifier": {"kind": "directory", "path": classifier}}
        cost = {str(sigma): {"evaluations": 0, "operations": 1e9} for sigma in (0.25, 0.5)}
        return run.but(config=run.config | {"config": config, "sample_cost": cost})

    plain = [*images(0.25, 1, 0, 4), *images(0.5, 3, 1, 3)]
    return [
        costing(make_run(images(0.5, 6, 5, 8), name="g-50", radii=RADII), "models/g-50"),
        costing(make_run(images(0.25, 6, 2, 10), name="g-25", radii=RADII), "models/g-25"),
        costing(make_run(plain, name="plain", radii=RADII), "models/plain"),
    ]


def compared(runs: Sequence[Any], envelopes: dict[str, tuple[str, ...]] = GAUSSIAN) -> Findings:
    return compare_methods(Unnoted({}, envelopes=envelopes), runs)


def notes_of(runs: Sequence[Any], envelopes: dict[str, tuple[str, ...]] = GAUSSIAN) -> list[str]:
    """What is said of the envelope; there is no row of it."""
    found = compared(runs, envelopes)
    assert [row for row in found.table.rows if row.members or row.run in envelopes] == []
    return [note for note in found.notes if note.startswith("gaussian")]


def test_the_best_sigma_for_each_radius_by_hand(runs: list[Any]) -> None:
    table = compared(runs).table
    assert [(row.run, row.sigma) for row in table.rows] == [
        ("g-50", 0.5), ("g-25", 0.25), ("gaussian", None), ("plain", 0.25), ("plain", 0.5), ("plain", None),
    ]  # fmt: skip
    row = table.rows[2]
    # At .25 the two are equal: the smallest sigma has it, though its method comes second.
    assert [(cell.eps, cell.count, cell.total, cell.sigma) for cell in row.cells] == [
        (0.0, 10, 12, 0.25), (0.25, 6, 12, 0.25), (0.5, 5, 12, 0.5),
    ]  # fmt: skip
    assert {cell.lower_bound for cell in row.cells} == {None}
    assert {cell.lower_bound for row in table.rows[:2] for cell in row.cells} != {None}
    assert (row.members, row.num_images, row.decided) == (("g-25", "g-50"), 12, 12)
    assert (row.acr, row.abstained, row.samples, row.seconds, row.largest_radius) == (None,) * 5
    assert "gaussian: envelope over the sigmas of g-25 and g-50." in table.notes
    # The method that has both sigmas keeps its own: 4, 3 and 1 of 12.
    assert [cell.count for cell in table.rows[5].cells] == [4, 3, 1]


def test_nothing_else_changes(runs: list[Any]) -> None:
    """Curves, points, claims and all other rows are as without envelopes."""
    plain = report_comparison(Unnoted({}), runs).files
    files = report_comparison(Unnoted({}, envelopes=GAUSSIAN), runs).files
    assert {name for name in files if files[name] != plain[name]} == {"table.csv"}
    lines, before = (content["table.csv"].decode().splitlines() for content in (files, plain))
    assert [line for line in lines if not line.startswith("gaussian,")] == before
    without = compared(runs, {})
    assert not any("gaussian" in note for note in without.notes)


def test_a_radius_that_one_sigma_alone_reaches(make_run: Callable) -> None:
    """N = 400 certifies no radius of .75 at sigma .25 and one at .5; neither reaches 2."""
    protocol = {"num_estimation": 400, "radii": [0.0, 0.75, 2.0]}
    quarter = [(0.25, i, 1, 1, 0.1) for i in range(12)]
    half = [(0.5, i, 1, 1 if i < 5 else 2, 0.8) for i in range(12)]
    runs = [make_run(quarter, name="g-25", **protocol), make_run(half, name="g-50", **protocol)]
    row = compared(runs).table.rows[-1]
    assert [(cell.count, cell.sigma) for cell in row.cells[:2]] == [(12, 0.25), (5, 0.5)]
    assert (row.cells[2].count, row.cells[2].attainable) == (None, False)


def test_radii_that_members_do_not_share(make_run: Callable) -> None:
    runs = [
        make_run(images(0.25, 6, 2, 10), name="g-25", radii=[0.0, 0.25]),
        make_run(images(0.5, 6, 5, 8), name="g-50", radii=[0.5]),
    ]
    assert [(cell.eps, cell.count) for cell in compared(runs).table.rows[-1].cells] == [
        (0.0, 10), (0.25, 6), (0.5, 5),
    ]  # fmt: skip


def test_text_has_a_dash_where_members_differ(runs: list[Any]) -> None:
    found = compared(runs)
    lines = comparison_text(found.table, found.rows).splitlines()
    assert lines[0].split()[:4] == ["method", "classifier", "sigma", "images"]
    # 10, 6 and 5 of 12
    assert lines[3].split() == ["gaussian", "–", "envelope", "12", "83.3", "50.0", "41.6", *["–"] * 6]
    shared = [run.but(config=run.config | {"config": runs[0].config["config"]}) for run in runs[:2]]
    found = compared(shared)
    assert [row.classifier for row in found.rows] == ["models/g-50"] * 3
    assert comparison_text(found.table, found.rows).splitlines()[0].split()[:2] == ["method", "sigma"]


def test_csv(runs: list[Any]) -> None:
    report = report_comparison(Unnoted({}, envelopes=GAUSSIAN), runs)
    rows = list(csv.DictReader(io.StringIO(report.files["table.csv"].decode())))
    (row,) = [row for row in rows if row["method"] == "gaussian"]
    assert (row["row"], row["sigma"], row["imported"], row["classifier"]) == (ENVELOPE, "", "False", "")
    assert row["data"] == "the test split of the digits"
    assert float(row["certified_accuracy_at_0.5"]) == 5 / 12
    assert (row["certified_images_at_0.25"], row["certified_images_lower_bound_at_0.25"]) == ("6", "")
    assert {row[name] for name in ("acr", "samples", "network_evaluations", "gflop_per_sample")} == {""}


def test_the_page_has_it_among_the_envelopes(runs: list[Any]) -> None:
    html = report_comparison(Unnoted({}, envelopes=GAUSSIAN), runs, MAKING).files[PAGE].decode()
    page = Page(html)
    table = next(table for table in page.tables if [ENVELOPE] in table)
    after = table[table.index([ENVELOPE]) + 1 :]
    assert [line[:5] for line in after] == [
        ["gaussian|g-25|g-50", "12", "83.3|σ 0.25", "50.0|σ 0.25", "41.6|σ 0.5"],
        ["plain", "12", "33.3|σ 0.25", "25.0|σ 0.5", "8.3|σ 0.5"],
    ]
    assert {cell for line in after for cell in line[5:]} == {"–"}
    assert sum(line[0].startswith("gaussian") for table in page.tables for line in table) == 1
    assert "gaussian: envelope over the sigmas of g-25 and g-50." in page.text


def test_a_member_that_has_no_row(runs: list[Any]) -> None:
    _, quarter, plain = runs
    assert notes_of([quarter, plain]) == ["gaussian: no envelope, because g-50 has no row in this table."]
    assert notes_of([plain]) == ["gaussian: no envelope, because g-25 and g-50 have no row in this table."]


def test_a_member_that_is_partial(runs: list[Any], make_run: Callable) -> None:
    """Also where both are, and have decided the same images."""
    _, quarter, plain = runs
    early = make_run(images(0.5, 6, 5, 8)[:9], name="g-50", num_images=12)
    assert notes_of([quarter, early, plain]) == ["gaussian: no envelope, because g-50 is partial."]
    too = make_run(images(0.25, 6, 2, 10)[:9], name="g-25", num_images=12)
    assert notes_of([too, early]) == ["gaussian: no envelope, because g-25 and g-50 are partial."]
    assert notes_of([quarter, make_run([], name="g-50", sigmas=[0.5], num_images=12)]) == [
        "gaussian: no envelope, because g-50 is partial."
    ]


@pytest.mark.parametrize("sha256", ["cc", None])
def test_members_of_other_images(runs: list[Any], make_run: Callable, sha256: str | None) -> None:
    """As many, but not the same ones."""
    quarter = runs[1]
    moved = [(sigma, i + 3, *rest) for sigma, i, *rest in images(0.5, 6, 5, 8)]
    others = make_run(moved, name="g-50")
    others.config["data"]["sha256"] = sha256
    assert notes_of([quarter, others]) == [
        "gaussian: no envelope, because g-25 and g-50 are not of the same images."
    ]


def test_members_of_other_data(runs: list[Any]) -> None:
    half, quarter, _ = runs
    elsewhere = half.but(config=half.config | {"data": {"sha256": "dd", "source": "another set"}})
    assert notes_of([quarter, elsewhere]) == [
        "gaussian: no envelope, because g-25 and g-50 are not of the same images."
    ]


def imported(run: Any, indexed: bool = True) -> Any:
    certify = {key: run.config["config"]["certify"][key] for key in ("sigmas", "alpha", "radii")}
    (sigma,) = certify["sigmas"]
    config = {
        "kind": "imported",
        "config": {"certify": certify},
        "data": {"source": None, "image_index": list(range(12))},
        "indexed": indexed,
        "files": [{"name": f"noise_{sigma}", "sha256": "0" * 64, "sigma": sigma, "notes": []}],
    }
    return run.but(config=config)


def test_an_envelope_over_published_logs(runs: list[Any]) -> None:
    half, quarter, plain = runs
    found = compared([imported(quarter), imported(half), plain])
    lines = comparison_text(found.table, found.rows).splitlines()
    assert lines[3].split()[:4] == ["gaussian", "(imported)", "envelope", "12"]
    assert found.imported == ("g-25", "g-50"), "the envelope is no log"
    assert "pareto: without g-25, g-50, imported: what they cost is not known." in found.notes
    # One log and one method: what a log does not say makes no column, and the row is not imported.
    found = compared([quarter, imported(half)])
    assert [(row.imported, row.classifier, row.data) for row in found.rows if row.row.sigma is None] == [
        (False, None, None)
    ]
    assert comparison_text(found.table, found.rows).splitlines()[0].split()[:2] == ["method", "sigma"]


def test_logs_that_do_not_say_their_images(runs: list[Any]) -> None:
    half, quarter, _ = runs
    assert notes_of([quarter, imported(half, indexed=False)]) == [
        "gaussian: no envelope, because the logs do not say which images they are of."
    ]


def test_members_that_have_envelopes_keep_them(make_run: Callable) -> None:
    """And two envelopes that share their last member stand in the order of the suite."""
    low = make_run([*images(0.25, 6, 2, 10), *images(0.5, 7, 2, 8)], name="low", radii=RADII)
    high = make_run(images(1.0, 1, 4, 3), name="high", radii=RADII)
    table: Table = with_envelopes(
        certified_table([low, high]), [low, high], {"one": ("low", "high"), "two": ("high", "low")}
    )
    assert [(row.run, row.sigma) for row in table.rows] == [
        ("low", 0.25), ("low", 0.5), ("low", None), ("high", 1.0), ("one", None), ("two", None),
    ]  # fmt: skip
    assert [[cell.count for cell in row.cells] for row in table.rows[2:]] == [
        [10, 7, 2], [3, 3, 3], [10, 7, 3], [10, 7, 3],
    ]  # fmt: skip

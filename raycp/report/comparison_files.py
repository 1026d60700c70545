"""What is made of the runs of a suite and its published logs: its table, its claims, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raycp.config.suite import Suite
from raycp.report.claims import check_claims, claim_records, claims_text
from raycp.report.comparison import IMPORTED, MethodRow, comparison_records, comparison_text, method_rows
from raycp.report.conditions import conditions
from raycp.report.curves import certified_curves, curve_records
from raycp.report.formats import csv_text
from raycp.report.method_plots import draw_method_curves, draw_pareto
from raycp.report.numerals import exact
from raycp.report.pareto import Point, pareto_points, pareto_records
from raycp.report.results import RunLike
from raycp.report.table import ENVELOPE, certified_table


@dataclass(frozen=True)
class ComparisonReport:
    """The outcome of a suite.

    Attributes:
        text: the table and the claims, for reading.
        notes: what a reader of the table must know.
        files: content of each file by its name.
    """

    text: str
    notes: tuple[str, ...]
    files: dict[str, bytes]


def report_comparison(suite: Suite, runs: Sequence[RunLike]) -> ComparisonReport:
    """Make the outcome of the methods that have a run, in the order of the suite.

    Args:
        suite: its claims, its radii, and in what its methods differ.
        runs: at least one, each named after its method; published logs among them, named after their row.

    Raises:
        StorageError: certificates are damaged.
    """
    table, curves = certified_table(runs), certified_curves(runs)
    rows = method_rows(runs, table)
    imported = {row.row.run for row in rows if row.imported}
    checked = check_claims(suite.claims, {run.name: run for run in runs})
    points = pareto_points(runs, rows, suite.pareto_radii)
    files = {"table.csv": csv_text(comparison_records(table, rows)).encode()}
    if curves:
        files["curves.csv"] = csv_text(curve_records(curves)).encode()
        named = [replace(curve, run=curve.run + IMPORTED * (curve.run in imported)) for curve in curves]
        files["curves.png"] = draw_method_curves(named, _conditions(runs, [run.num_images for run in runs]))
    if points:
        files["pareto.csv"] = csv_text(pareto_records(points)).encode()
        files["pareto.png"] = draw_pareto(
            points,
            _conditions(
                [run for run in runs if run.name not in imported], [point.images for point in points]
            ),
        )
    if checked.items:
        files["claims.csv"] = csv_text(claim_records(checked.items)).encode()
    claims = claims_text(suite.claims, checked.items)
    envelope = [f"envelope: {ENVELOPE}."] if any(row.sigma is None for row in table.rows) else []
    return ComparisonReport(
        text=comparison_text(table, rows) + (f"\n{claims}" if claims else ""),
        notes=(
            *table.notes,
            *envelope,
            *checked.notes,
            *_pareto_notes(rows, points),
            *(f"{note}." for note in suite.notes()),
        ),
        files=files,
    )


def _conditions(runs: Sequence[RunLike], images: Sequence[int]) -> str:
    """Of the pictures: what is one for all methods, in words; published logs are held to be of the methods' data."""
    setups = [conditions(run) for run in runs]
    facts = [
        [f"N = {setup.num_estimation:,}" if setup.num_estimation else "" for setup in setups],
        [f"α = {exact(setup.alpha)}" if setup.alpha else "" for setup in setups],
        [f"rule {setup.rule}" if setup.rule else "" for setup in setups],
        [f"{number:,} images" for number in images],
        [setup.data for setup in setups if not setup.imported],
    ]
    return ", ".join(values[0] for values in facts if len(set(values)) == 1 and values[0])


def _pareto_notes(rows: Sequence[MethodRow], points: Sequence[Point]) -> list[str]:
    """On which images the points are, where they are not all images of all methods."""
    if not points:
        return []
    images, shown = points[0].images, {point.method for point in points}
    absent = list(dict.fromkeys(row.row.run for row in rows if row.row.run not in shown and not row.imported))
    imported = list(dict.fromkeys(row.row.run for row in rows if row.imported))
    notes = []
    if any(row.row.num_images != images for row in rows if row.row.run in shown):
        notes.append(f"pareto: accuracy on the {images:,} images that all of its methods have.")
    if absent:
        notes.append(f"pareto: without {', '.join(absent)}, unfinished or of other data.")
    if imported:
        notes.append(f"pareto: without {', '.join(imported)}, imported: what they cost is not known.")
    return notes

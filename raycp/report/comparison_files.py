"""What is made of the runs of a suite and its published logs: its table, its claims, its pictures, its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raycp.config.suite import Suite
from raycp.report.claims import claim_records, claims_text
from raycp.report.comparison import IMPORTED, comparison_records, comparison_text
from raycp.report.comparison_page import Making, render_comparison
from raycp.report.curves import curve_records
from raycp.report.evaluation import EvaluationLike
from raycp.report.evaluation import csv_text as evaluation_csv
from raycp.report.findings import compare_methods
from raycp.report.formats import csv_text
from raycp.report.method_plots import draw_method_curves, draw_pareto
from raycp.report.pareto import pareto_records
from raycp.report.quality import metric_claim_records, quality_text
from raycp.report.quality_plot import draw_quality
from raycp.report.results import RunLike

PAGE = "comparison.html"


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


def report_comparison(
    suite: Suite,
    runs: Sequence[RunLike],
    making: Making | None = None,
    evaluations: Sequence[EvaluationLike] = (),
) -> ComparisonReport:
    """Make the outcome of the methods that have a run, in the order of the suite.

    Args:
        suite: its claims, its radii, its envelopes, and in what its methods differ.
        runs: at least one, each named after its method; published logs among them, named after their row.
        making: what the page says of its own making; None: no page.
        evaluations: of purified images, each named after its method.

    Raises:
        StorageError: certificates or examples are damaged.
    """
    found = compare_methods(suite, runs, evaluations)
    files = {"table.csv": csv_text(comparison_records(found.table, found.rows)).encode()}
    if found.curves:
        title = found.common_conditions([run.num_images for run in runs])
        files["curves.csv"] = csv_text(curve_records(found.curves)).encode()
        named = [
            replace(curve, run=curve.run + IMPORTED * (curve.run in found.imported)) for curve in found.curves
        ]
        files["curves.png"] = draw_method_curves(named, title)
    if found.points:
        files["pareto.csv"] = csv_text(pareto_records(found.points)).encode()
    if found.priced:
        title = found.common_conditions([point.images for point in found.points], imported=False)
        files["pareto.png"] = draw_pareto(found.points, title)
    if found.checked.items:
        files["claims.csv"] = csv_text(claim_records(found.checked.items)).encode()
    if found.quality is not None and found.quality.rows:
        files["evaluation.csv"] = evaluation_csv(found.quality.rows).encode()
        files["evaluation.png"] = draw_quality(found.quality.noisy_rows, found.drawn, found.quality.title)
        if found.quality.checked:
            records = metric_claim_records(found.quality.checked)
            files["evaluation-claims.csv"] = csv_text(records).encode()
    if making is not None:
        files[PAGE] = render_comparison(found, making).encode()
    parts = [
        comparison_text(found.table, found.rows),
        claims_text(found.claims, found.checked.items),
        quality_text(found.quality) if found.quality else "",
    ]
    return ComparisonReport(
        text="\n".join(part for part in parts if part),
        notes=(*found.notes, *(found.quality.notes if found.quality else ())),
        files=files,
    )

"""What the page of a comparison says of the purified images: a table, a picture, claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raycp.config.claims import Claim
from raycp.report.evaluation import METRICS, MetricRow
from raycp.report.findings import Findings
from raycp.report.forest import signed
from raycp.report.method_table import ShownCell
from raycp.report.numerals import DASH
from raycp.report.quality import CheckedMetric, difference_text
from raycp.report.quality_plot import draw_quality
from raycp.report.theme import DARK, LIGHT

HEADINGS = {
    "accuracy": "accuracy of samples (%)",
    "fid": "FID",
    "lpips": "LPIPS",
    "transport": "transport E|x − x̂|",
    "squared_l2": "squared L2",
    "optimal_transport": "optimal transport",
}
"""What the page calls each metric."""


@dataclass(frozen=True)
class QualityRow:
    """The metrics of one method at one sigma, in the order of the headings."""

    method: str
    cells: tuple[ShownCell, ...]


@dataclass(frozen=True)
class QualityClaim:
    """A claim about a metric, and for each sigma the difference with its interval."""

    claim: Claim
    items: tuple[tuple[CheckedMetric, str], ...]


@dataclass(frozen=True)
class QualitySection:
    """The section of the page.

    Attributes:
        headings: of the metrics that were measured.
        groups: by sigma.
        pictures: for a light page and a dark one; none where nothing is measured yet.
        claims: about metrics, in the order of the suite.
        joint: number of intervals that hold together.
        notes: what a reader must know.
    """

    headings: tuple[str, ...]
    groups: tuple[tuple[float, tuple[QualityRow, ...]], ...]
    pictures: tuple[bytes, ...]
    claims: tuple[QualityClaim, ...]
    joint: int
    notes: tuple[str, ...]


def quality_section(found: Findings) -> QualitySection | None:
    """The section of a comparison; None where no purified images were measured and no claim is about them."""
    quality = found.quality
    if quality is None:
        return None
    rows = quality.noisy_rows
    metrics = [name for name in METRICS if name in HEADINGS and any(row.metric == name for row in rows)]
    return QualitySection(
        headings=tuple(HEADINGS[metric] for metric in metrics),
        groups=tuple(
            (sigma, _rows([row for row in rows if row.sigma == sigma], metrics))
            for sigma in sorted({row.sigma for row in rows})
        ),
        pictures=tuple(
            draw_quality(rows, found.drawn, quality.title, theme) for theme in (LIGHT, DARK) if rows
        ),
        claims=tuple(
            QualityClaim(
                claim,
                tuple(
                    (item, signed(difference_text(item))) for item in quality.checked if item.claim is claim
                ),
            )
            for claim in quality.claims
        ),
        joint=len(quality.checked),
        notes=quality.notes,
    )


def _rows(rows: Sequence[MetricRow], metrics: Sequence[str]) -> tuple[QualityRow, ...]:
    found = {(row.evaluation, row.metric): row for row in rows}
    return tuple(
        QualityRow(method, tuple(_cell(found.get((method, metric)), metric) for metric in metrics))
        for method in dict.fromkeys(row.evaluation for row in rows)
    )


def _cell(row: MetricRow | None, metric: str) -> ShownCell:
    if row is None:
        return ShownCell(DASH)
    if metric == "accuracy":
        return ShownCell(f"{100 * row.value:.1f}", f"{100 * row.low:.1f}–{100 * row.high:.1f}", row.value)
    return ShownCell(f"{row.value:.4g}", f"{row.low:.4g}–{row.high:.4g}", row.value)

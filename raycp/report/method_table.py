"""The table of a comparison for a page: by sigma, with intervals, and with the best value of each column marked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raycp.report.comparison import MethodRow
from raycp.report.findings import Findings
from raycp.report.method_images import SameImages
from raycp.report.numerals import DASH, exact, percent
from raycp.report.results import read_sigmas
from raycp.report.table import Cell
from raycp.statistics import round_down, share_interval


@dataclass(frozen=True)
class ShownCell:
    """A figure: its text, what stands small below it, what to sort by (None: last), whether it is the best."""

    text: str
    small: str = ""
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class ShownRow:
    """One method at one sigma, or an envelope."""

    method: str
    members: tuple[str, ...]
    """Of an envelope over several methods: these."""
    images: ShownCell
    accuracies: tuple[ShownCell, ...]
    """Per radius of the table."""
    costs: tuple[ShownCell, ...]
    """ACR, abstentions, samples per image, evaluations, GFLOP and milliseconds per sample."""


@dataclass(frozen=True)
class Group:
    """The methods at one sigma, or (sigma None) their envelopes."""

    sigma: float | None
    rows: tuple[ShownRow, ...]
    best_images: int
    """Images of the rows among which the best is sought; 0 where there are fewer than two of them."""


def shown_groups(found: Findings, same: SameImages) -> tuple[Group, ...]:
    """The rows by sigma, in the order of the methods, the envelopes last."""
    keys = {_key(row): row.row.sigma for row in found.rows}
    order = sorted(keys, key=lambda key: _place(keys[key]))
    images = {
        (run.name, exact(results.sigma)): results.image_index_M.tobytes()
        for run in same.runs
        for results in read_sigmas(run)
    }
    groups = []
    for key in order:
        rows = [row for row in found.rows if _key(row) == key]
        rivals = [] if keys[key] is None else _rivals(rows, images)
        groups.append(
            Group(
                sigma=keys[key],
                rows=tuple(_shown(row, rivals) for row in rows),
                best_images=rivals[0].row.num_images if rivals else 0,
            )
        )
    return tuple(groups)


def _key(row: MethodRow) -> str:
    return "" if row.row.sigma is None else exact(row.row.sigma)


def _place(sigma: float | None) -> tuple[bool, bool, float]:
    return sigma is None, sigma is not None and math.isnan(sigma), sigma or 0.0


def _rivals(rows: Sequence[MethodRow], images: dict[tuple[str, str], bytes]) -> list[MethodRow]:
    """The rows that may be ranked: decided, and of the same images as most others; at least two."""
    ended = [row for row in rows if not row.row.partial and (row.row.run, _key(row)) in images]
    counts = Counter(images[row.row.run, _key(row)] for row in ended)
    if not counts:
        return []
    most = counts.most_common(1)[0][0]
    chosen = [row for row in ended if images[row.row.run, _key(row)] == most]
    return chosen if len(chosen) > 1 else []


def _shown(row: MethodRow, rivals: Sequence[MethodRow]) -> ShownRow:
    of = row.row
    best_acr = max((rival.row.acr or 0.0 for rival in rivals), default=None)
    cells = []
    for column, cell in enumerate(of.cells):
        highest = max((rival.row.cells[column].count or 0 for rival in rivals), default=0)
        cells.append(_accuracy(row, cell, row in rivals and 0 < highest == cell.count))
    per_image = row.samples_per_image
    return ShownRow(
        method=of.run,
        members=of.members,
        images=ShownCell(
            f"{of.decided:,}" if of.partial else f"{of.num_images:,}",
            f"of {of.num_images:,}" if of.partial else "",
            of.decided,
        ),
        accuracies=tuple(cells),
        costs=(
            ShownCell(
                DASH if of.acr is None else round_down(of.acr, 3), "", of.acr,
                row in rivals and bool(best_acr) and of.acr == best_acr,
            ),
            ShownCell(DASH if of.abstained is None else f"{of.abstained:,}", "", of.abstained),
            ShownCell(DASH if per_image is None else f"{per_image:,.0f}", "", per_image),
            ShownCell(DASH if row.evaluations is None else f"{row.evaluations:,}", "", row.evaluations),
            _three_digits(row.operations, 1e-9),
            _three_digits(row.seconds_per_sample, 1e3),
        ),
    )  # fmt: skip


def _three_digits(value: float | None, unit: float) -> ShownCell:
    return ShownCell(DASH if value is None else f"{value * unit:.3g}", "", value)


def _accuracy(row: MethodRow, cell: Cell, best: bool) -> ShownCell:
    if cell.count is None:
        return ShownCell(DASH)
    text, value = percent(cell.count, cell.total), cell.count / cell.total
    if row.row.sigma is None:
        return ShownCell(text, f"σ {exact(cell.sigma or 0.0)}", value)
    return ShownCell(text, "" if row.row.partial else interval_in_words(cell.count, cell.total), value, best)


def interval_in_words(count: int, total: int) -> str:
    """The exact 95% interval of a share in percent, one decimal, rounded outwards."""
    low, high = share_interval(count, total)
    return f"{np.floor(1000 * low) / 10:.1f}–{np.ceil(1000 * high) / 10:.1f}"

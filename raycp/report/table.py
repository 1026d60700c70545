"""The table of a report: certified accuracy per sigma and radius, ACR, abstentions, samples and seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raycp.report.conditions import Conditions, conditions
from raycp.report.mixed_images import mixed_images
from raycp.report.numerals import exact
from raycp.report.results import RunLike, SigmaResults, labels_of, read_sigmas
from raycp.statistics import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_lower_bound,
    round_down,
)

RHO = 0.001
"""Failure probability of the high-probability lower bound of certified accuracy."""

ENVELOPE = "best sigma per eps (envelope, not one certificate)"
"""Label of the row that takes, radius by radius, the largest certified accuracy over sigma."""


@dataclass(frozen=True)
class Cell:
    """Certified accuracy at one radius.

    `count` of `total` images are classified correctly with radius >= eps. `count` is None where there is no figure:
    `attainable` is then False if no certificate of this run can reach eps, else nothing is decided yet.
    """

    eps: float
    count: int | None
    total: int
    accuracy: float | None = None
    """count / total."""
    printed: tuple[int, int] | None = None
    """`count` with every radius read half a printed unit lower, and higher; None where radii are not rounded."""
    lower_bound: int | None = None
    """Images that are truly certified, at least, with probability 1 - RHO; None where alpha is not recorded."""
    attainable: bool = True
    sigma: float | None = None
    """The noise level the figure is taken from."""


@dataclass(frozen=True)
class TableRow:
    """One sigma of one run, or (sigma None) the envelope over the sigmas of one run or of several."""

    run: str
    """What the run is called; an envelope over several runs has a name of its own."""
    sigma: float | None
    num_images: int
    decided: int
    cells: tuple[Cell, ...]
    acr: float | None
    """Average certified radius, pixel units; None for an envelope and where nothing is decided."""
    abstained: int | None
    skipped: int | None
    """Images that skip_wrong left out of the estimation."""
    listed: int
    """Images with a row, decided or not: what shares are of."""
    samples: int | None
    seconds: float | None
    largest_radius: float | None
    """The largest radius that N can certify, pixel units; None where N is not recorded, -inf where it is none."""
    members: tuple[str, ...] = ()
    """Of an envelope over several runs: these."""

    @property
    def partial(self) -> bool:
        """Whether images of this row are still undecided."""
        return self.decided < self.num_images


@dataclass(frozen=True)
class Table:
    """Rows that share their radii, and what a reader must know about them."""

    radii: tuple[float, ...]
    """The columns: L2 radii eps, pixel units, increasing."""
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


def certified_table(runs: Sequence[RunLike]) -> Table:
    """Compute the table of one or several runs.

    The columns are the radii of all runs together: `certify.radii`, or the default ones. A radius beyond the largest
    that N samples can certify at a sigma has no figure there.
    """
    runs = tuple(runs)
    per_run = [
        (label, conditions(run), read_sigmas(run)) for label, run in zip(labels_of(runs), runs, strict=True)
    ]
    radii = tuple(sorted({eps for _, setup, _ in per_run for eps in setup.radii}))
    rows: list[TableRow] = []
    notes: list[str] = []
    for label, setup, sigmas in per_run:
        of_run = [_row(label, results, setup, radii) for results in sigmas]
        rows += of_run
        notes += _notes(of_run, setup, named=len(runs) > 1)
        if len(of_run) > 1:
            named = f"{label}: " if len(runs) > 1 else ""
            if not all(results.indexed for results in sigmas):
                notes.append(f"{named}no envelope, because the logs do not say which images they are of.")
            elif decided_the_same(sigmas):
                rows.append(envelope(label, of_run))
            else:
                notes.append(f"{named}no envelope, because the sigmas have not decided the same images.")
    return Table(radii, tuple(rows), (*mixed_images(runs), *notes))


def _row(run: str, results: SigmaResults, setup: Conditions, radii: Sequence[float]) -> TableRow:
    largest = setup.largest_radius(results.sigma)
    decided = results.decided
    return TableRow(
        run=run,
        sigma=results.sigma,
        num_images=results.num_images,
        decided=decided,
        cells=tuple(_cell(results, eps, setup.alpha, largest) for eps in radii),
        acr=average_certified_radius(results.radius_M, results.correct_M) if results.known else None,
        abstained=int((results.abstained_M & ~results.undecided_M).sum()) if decided else None,
        skipped=int(results.skipped_M.sum()) if decided else None,
        listed=len(results.radius_M),
        samples=results.samples,
        seconds=results.seconds,
        largest_radius=largest,
    )


def _cell(results: SigmaResults, eps: float, alpha: float | None, largest: float | None) -> Cell:
    total, sigma = len(results.radius_M), results.sigma
    if largest is not None and eps > largest:
        return Cell(eps, None, total, attainable=False, sigma=sigma)
    if not results.known:
        return Cell(eps, None, total, sigma=sigma)
    accuracy = certified_accuracy(results.radius_M, results.correct_M, eps)
    half_unit_M = 0.0 if results.half_unit_M is None else results.half_unit_M
    # What rounding may have lifted to eps is no evidence.
    least, most = (
        certified_accuracy(results.radius_M + sign * half_unit_M, results.correct_M, eps) for sign in (-1, 1)
    )
    bound = None if alpha is None else certified_accuracy_lower_bound(least, total, alpha, RHO)
    return Cell(
        eps=eps,
        count=round(accuracy * total),
        total=total,
        accuracy=accuracy,
        printed=None if results.half_unit_M is None else (round(least * total), round(most * total)),
        lower_bound=None if bound is None else math.floor(bound * total + 1e-6),
        sigma=sigma,
    )


def decided_the_same(sigmas: Sequence[SigmaResults]) -> bool:
    """Whether the same images have a row at each of these noise levels, and there are some."""
    first = sigmas[0].image_index_M
    return len(first) > 0 and all(np.array_equal(first, other.image_index_M) for other in sigmas[1:])


def envelope(name: str, rows: Sequence[TableRow]) -> TableRow:
    """Per radius the largest certified accuracy over sigma; ties go to the smallest sigma.

    Args:
        name: what to call it.
        rows: one per sigma, of the same images.
    """
    by_sigma = sorted(rows, key=lambda row: row.sigma or 0.0)
    columns = zip(*(row.cells for row in by_sigma), strict=True)
    best = [max(column, key=lambda cell: -1 if cell.count is None else cell.count) for column in columns]
    return TableRow(
        run=name,
        sigma=None,
        num_images=rows[0].num_images,
        decided=rows[0].decided,
        # The lower bound holds for a sigma fixed in advance, not for the best of several.
        cells=tuple(replace(cell, lower_bound=None) for cell in best),
        acr=None,
        abstained=None,
        skipped=None,
        listed=rows[0].listed,
        samples=None,
        seconds=None,
        largest_radius=None,
    )


def _notes(rows: Sequence[TableRow], setup: Conditions, named: bool) -> list[str]:
    notes = [
        f"{f'{rows[0].run}: ' if named else ''}imported from {file.name}{_at(file.sigma)}: {note}"
        for file in setup.imported
        for note in (f"made by other code; {setup.claims_in_words}.", *file.notes)
    ]
    for row in rows:
        assert row.sigma is not None
        where = f"{row.run}, σ = {exact(row.sigma)}" if named else f"σ = {exact(row.sigma)}"
        if row.partial:
            figures = "figures are of those" if row.decided else "no figures yet"
            if row.listed > row.decided:
                figures = (
                    "the others count with what is certified of them so far, so every figure may only grow"
                )
            elif row.decided and setup.skip_wrong:
                figures += " and biased downwards: wrong images are decided sooner (skip_wrong)"
            notes.append(f"{where}: partial, {row.decided} of {row.num_images} images decided; {figures}.")
        if not all(cell.attainable for cell in row.cells):
            assert row.largest_radius is not None and setup.alpha is not None
            limit = (
                f"no radius above {round_down(row.largest_radius, 3)}"
                if row.largest_radius >= 0
                else "nothing"
            )
            notes.append(
                f"{where}: – marks radii not attainable at this N; with N = {setup.num_estimation:,} and "
                f"α = {exact(setup.alpha)} {limit} can be certified."
            )
        notes += _rounding_notes(row, where)
        if row.skipped:
            notes.append(
                f"{where}: {row.skipped} images whose selected class was wrong were not estimated (skip_wrong) and "
                "count as wrong; how many of them would have abstained is not known."
            )
    return notes


def _at(sigma: float | None) -> str:
    return "" if sigma is None else f" (σ = {exact(sigma)})"


def _rounding_notes(row: TableRow, where: str) -> list[str]:
    """Where it matters that radii are known as printed only."""
    ranges = [
        f"{cell.printed[0]:,} to {cell.printed[1]:,} of {cell.total:,} at ε = {exact(cell.eps)}"
        for cell in row.cells
        if cell.count is not None and cell.printed is not None and cell.printed[0] < cell.printed[1]
    ]
    if not ranges:
        return []
    return [
        f"{where}: radii are as printed in the log; read half a printed unit lower and higher they certify "
        f"{'; '.join(ranges)}."
    ]

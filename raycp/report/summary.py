"""A run in words: one paragraph that carries every condition its figures hang on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from raycp.report.conditions import NOT_RECORDED, Conditions
from raycp.report.numerals import DASH, exact, percent
from raycp.report.results import SigmaResults
from raycp.statistics import round_down

if TYPE_CHECKING:
    from raycp.report.table import TableRow


def summary(rows: Sequence[TableRow], setup: Conditions) -> str:
    """The paragraph for one run, from its rows (one per sigma)."""
    if setup.imported:
        return _of_import(rows, setup)
    sigmas = listed([exact(row.sigma) for row in rows if row.sigma is not None])
    images = rows[0].num_images
    sentences = [
        f"This run certifies {images:,} images of {setup.data}. The base classifier is {setup.classifier} "
        f"after {setup.purifier}; it is smoothed by Gaussian noise of standard deviation σ = {sigmas} in pixel "
        f"units (images in [0,1]), drawn as {setup.noise_in_words}.",
        f"Each certificate selects its class with N0 = {_count(setup.num_selection)} samples and bounds the "
        f"probability of that class with {setup.samples_in_words} fresh ones ({setup.bound_in_words}).",
    ]
    if setup.composition is not None:
        sentences.append(setup.composition)
    if setup.alpha is None:
        sentences.append(f"The failure probability α of a certificate is {NOT_RECORDED}.")
    else:
        sentences.append(
            f"It is false with probability at most α = {exact(setup.alpha)}: of {images:,} at one σ, at most "
            f"{setup.alpha * images:.3g} are false on average."
        )
    partial = [
        f"{row.decided:,} at σ = {exact(row.sigma)}" for row in rows if row.partial and row.sigma is not None
    ]
    if partial:
        sentences.append(f"The run is partial: of {images:,} images {listed(partial)} are decided.")
    return " ".join(sentences)


def _of_import(rows: Sequence[TableRow], setup: Conditions) -> str:
    files = [f"{file.name} (SHA-256 {file.sha256[:12]}…)" for file in setup.imported]
    sigmas = listed([exact(row.sigma) for row in rows if row.sigma is not None])
    data = "a data set that was not said" if setup.data == NOT_RECORDED else setup.data
    return (
        f"Imported from {listed(files)}: {rows[0].num_images:,} images of {data}, certified by other code with "
        f"Gaussian noise of standard deviation σ = {sigmas}; {setup.claims_in_words}. There are no counts to check it "
        "by. Correct is recomputed from label and prediction; radii are as printed, and may exceed the certified ones "
        "by half a printed unit."
    )


def headline(row: TableRow) -> str:
    """The first and the last figure of one sigma, and its ACR."""
    shown = [cell for cell in row.cells if cell.count is not None]
    figures = [
        f"{percent(cell.count or 0, cell.total)}% ({cell.count}/{cell.total}) at ε = {exact(cell.eps)}"
        for cell in (shown if len(shown) < 2 else (shown[0], shown[-1]))
    ]
    acr = "" if row.acr is None else f"average certified radius {round_down(row.acr, 3)}"
    certified = f"certified accuracy {listed(figures)}; " if figures else ""
    return f"{certified}{acr}" or "no image is decided yet"


def indices_in_words(index_M: npt.ArrayLike) -> str:
    """Exactly which images, as briefly as their pattern allows: `0, 20, ..., 9980 (every 20th)` or ranges."""
    index_M = np.unique(np.asarray(index_M, dtype=np.int64))
    if len(index_M) == 0:
        return "none"
    steps = np.diff(index_M)
    if len(index_M) > 3 and steps[0] > 1 and np.all(steps == steps[0]):
        return f"{index_M[0]}, {index_M[1]}, …, {index_M[-1]} (every {_ordinal(int(steps[0]))})"
    runs = np.split(index_M, np.flatnonzero(steps != 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def spread_in_words(results: SigmaResults) -> str:
    """Quartiles of the radius over correctly classified images, rounded down, pixel units."""
    radius = results.radius_M[results.correct_M]
    if len(radius) == 0:
        return DASH
    quartiles = np.quantile(radius, (0.25, 0.5, 0.75, 1.0), method="inverted_cdf")
    return " / ".join(round_down(float(value), 3) for value in quartiles)


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _count(number: int | None) -> str:
    return NOT_RECORDED if number is None else f"{number:,}"


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"

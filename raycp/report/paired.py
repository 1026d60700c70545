"""Runs compared on the same images: differences of certified accuracy with exact paired intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raycp.errors import ConfigError
from raycp.report.conditions import conditions
from raycp.report.numerals import exact
from raycp.report.results import RunLike, SigmaResults, labels_of, read_sigmas
from raycp.statistics import paired_difference


@dataclass(frozen=True)
class Comparison:
    """Certified accuracy of `run` less that of `base`, at one sigma and radius."""

    base: str
    run: str
    sigma: float
    eps: float
    images: int
    only_base: int
    """Images certified at eps by `base` alone."""
    only_run: int
    low: float
    """Ends of the interval of the difference."""
    high: float

    @property
    def difference(self) -> float:
        """Between -1 and 1."""
        return (self.only_run - self.only_base) / self.images

    @property
    def verdict(self) -> str:
        """`higher` or `lower` where the interval excludes 0, else undecided."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "undecided"


def compare(runs: Sequence[RunLike], joint: bool = False, confidence: float = 0.95) -> list[Comparison]:
    """Each run after the first against the first, at the noise levels and radii that both have.

    The images of one run may be a part of the other's: then the two are compared on these.

    Args:
        runs: the base, and those compared with it.
        joint: all intervals hold together with this confidence (Bonferroni), not each by itself.
        confidence: two-sided.

    Raises:
        ConfigError: each run has images that the other one lacks, they are of different data, one has not ended, or
            one is imported from a log that does not say its images or its sigma.
    """
    labels = labels_of(runs)
    found = [
        counted
        for label, run in zip(labels[1:], runs[1:], strict=True)
        for counted in count_pair(runs[0], run, labels[0], label)
    ]
    return with_intervals(found, joint, confidence)


def count_pair(base: RunLike, run: RunLike, base_label: str, label: str) -> list[Comparison]:
    """What only one of two runs certifies, at the noise levels and radii that both have; still without intervals."""
    for each in (base, run):
        _check_comparable(each)
    base_sigmas = {results.sigma: results for results in read_sigmas(base)}
    radii = [eps for eps in conditions(base).radii if eps in conditions(run).radii]
    found = []
    for results in read_sigmas(run):
        other = base_sigmas.get(results.sigma)
        if other is None:
            continue
        chosen = _common_images(other, results, base.path, run.path)
        for eps in radii:
            pair = zip((other, results), chosen, strict=True)
            first, second = ((r.correct_M & (r.radius_M >= eps))[at] for r, at in pair)
            only_base, only_run = int((first & ~second).sum()), int((second & ~first).sum())
            found.append(
                Comparison(base_label, label, results.sigma, eps, len(first), only_base, only_run, 0, 0)
            )
    return found


def with_intervals(
    found: Sequence[Comparison], joint: bool = False, confidence: float = 0.95
) -> list[Comparison]:
    """The comparisons with their intervals; `joint`: they hold all together (Bonferroni)."""
    each = 1 - (1 - confidence) / len(found) if joint and found else confidence
    return [_with_interval(comparison, each) for comparison in found]


def _check_comparable(run: RunLike) -> None:
    for results in read_sigmas(run):
        if not results.indexed:
            raise ConfigError(
                f"{run.path} is imported from a log without idx: which image a line is of is not known, so it cannot "
                "be compared image by image."
            )
        if math.isnan(results.sigma):
            raise ConfigError(f"{run.path} is imported without its sigma; import it again with --sigma.")


def _with_interval(c: Comparison, confidence: float) -> Comparison:
    low, high = paired_difference(c.only_base, c.only_run, c.images, confidence)
    return replace(c, low=low, high=high)


def paired_text(comparisons: Sequence[Comparison], joint: bool = False) -> str:
    """A line for each comparison, in percent."""
    which = f"95% interval, {f'for all {len(comparisons)} together' if joint else 'each by itself'}"
    lines = [f"certified accuracy, difference ({which}), images that only one of the two certifies"]
    for c in comparisons:
        lines.append(
            f"{c.run} - {c.base}  sigma {exact(c.sigma)}  eps {exact(c.eps)}  {interval_text(c)}  "
            f"{c.only_run} against {c.only_base} of {c.images}  {c.verdict}"
        )
    return "\n".join(lines) + "\n"


def interval_text(c: Comparison) -> str:
    """The difference and its interval, percentage points."""
    return f"{100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f})"


def _common_images(
    one: SigmaResults, other: SigmaResults, first: str, second: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where the images that both runs have are in either."""
    where = f"at sigma {exact(one.sigma)}"
    for results, path in ((one, first), (other, second)):
        lacking = results.num_images - results.decided
        if lacking:
            raise ConfigError(
                f"{path} has {lacking} undecided images {where}; let it end, by the same raycp certify, and "
                "compare then."
            )
    common, at_one, at_other = np.intersect1d(one.image_index_M, other.image_index_M, return_indices=True)
    sizes = len(one.image_index_M), len(other.image_index_M)
    if len(common) < min(sizes):
        raise ConfigError(
            f"{first} and {second} are not of the same images {where} ({sizes[0]} and {sizes[1]}, {len(common)} in "
            "both); compare runs with the same data.select, or with images that the other one has, too."
        )
    if not np.array_equal(one.label_M[at_one], other.label_M[at_other]):
        raise ConfigError(f"{first} and {second} are not of the same data: their labels differ {where}.")
    return at_one, at_other

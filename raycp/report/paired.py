"""Runs compared on the same images: differences of certified accuracy with exact paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    Args:
        runs: the base, and those compared with it.
        joint: all intervals hold together with this confidence (Bonferroni), not each by itself.
        confidence: two-sided.

    Raises:
        ConfigError: the runs are not of the same images, or an image is undecided in one of them.
    """
    labels = labels_of(runs)
    base, base_sigmas = runs[0], {results.sigma: results for results in read_sigmas(runs[0])}
    found: list[Comparison] = []
    for label, run in zip(labels[1:], runs[1:], strict=True):
        radii = [eps for eps in conditions(base).radii if eps in conditions(run).radii]
        for results in read_sigmas(run):
            other = base_sigmas.get(results.sigma)
            if other is None:
                continue
            _require_same_images(other, results, base.path, run.path)
            for eps in radii:
                first, second = (r.correct_M & (r.radius_M >= eps) for r in (other, results))
                only_base, only_run = int((first & ~second).sum()), int((second & ~first).sum())
                found.append(
                    Comparison(labels[0], label, results.sigma, eps, len(first), only_base, only_run, 0, 0)
                )
    each = 1 - (1 - confidence) / len(found) if joint and found else confidence
    return [_with_interval(comparison, each) for comparison in found]


def _with_interval(c: Comparison, confidence: float) -> Comparison:
    low, high = paired_difference(c.only_base, c.only_run, c.images, confidence)
    return replace(c, low=low, high=high)


def paired_text(comparisons: Sequence[Comparison], joint: bool = False) -> str:
    """A line for each comparison, in percent."""
    which = f"95% interval, {f'for all {len(comparisons)} together' if joint else 'each by itself'}"
    lines = [f"certified accuracy, difference ({which}), images that only one of the two certifies"]
    for c in comparisons:
        interval = f"{100 * c.difference:+.1f} ({100 * c.low:+.1f} to {100 * c.high:+.1f})"
        lines.append(
            f"{c.run} - {c.base}  sigma {exact(c.sigma)}  eps {exact(c.eps)}  {interval}  "
            f"{c.only_run} against {c.only_base} of {c.images}  {c.verdict}"
        )
    return "\n".join(lines) + "\n"


def _require_same_images(one: SigmaResults, other: SigmaResults, first: str, second: str) -> None:
    if one.image_index_M.tolist() != other.image_index_M.tolist():
        raise ConfigError(
            f"{first} and {second} are not of the same images at sigma {exact(one.sigma)} "
            f"({len(one.image_index_M)} and {len(other.image_index_M)}); compare runs with "
            "the same data.select that have ended."
        )
    for results, path in ((one, first), (other, second)):
        if results.undecided_M.any():
            raise ConfigError(
                f"{path} has {int(results.undecided_M.sum())} undecided images at sigma {exact(results.sigma)}; let it "
                "end, by the same raycp certify, and compare then."
            )

"""Bootstrap intervals cover what they say, by simulation with fixed seeds.

Of R simulations a nominal 95% interval that covers with probability p does so in R p of them, give or take four times
sqrt(R p (1 - p)): what is asked for here fails for a right interval once in about 15,000 changes of the seed, and the
range of p allowed for is that of first-order intervals at these sample sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from raycp.quality.bootstrap import mean_interval
from raycp.quality.terms import frechet_terms, transport_terms

R = 400
Pairs = tuple[np.ndarray, np.ndarray]


def coverage(truth: float, terms_of: Callable[[np.random.Generator], np.ndarray]) -> float:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(R):
        found = mean_interval(terms_of(rng), 300, 0.95)
        hits += found.low <= truth <= found.high
    return hits / R


def within(found: float, low: float, high: float) -> bool:
    slack = [4 * math.sqrt(p * (1 - p) / R) for p in (low, high)]
    return low - slack[0] <= found <= high + slack[1]


def test_means() -> None:
    assert within(coverage(1.0, lambda rng: rng.exponential(size=100)), 0.92, 0.96)
    assert within(coverage(0.7, lambda rng: (rng.random(100) < 0.7).astype(float)), 0.92, 0.96)


def pairs(rng: np.random.Generator) -> Pairs:
    """Clean rows, and purified ones: nearer to the mean, and shifted."""
    clean = rng.normal(size=(150, 2))
    return clean, 0.6 * clean + 0.3 * rng.normal(size=(150, 2)) + np.array([0.5, 0.0])


def expected(statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], runs: int) -> float:
    """The mean of a statistic over sets of this size: what its interval is about."""
    rng = np.random.default_rng(1)
    return float(np.mean([statistic(*pairs(rng)).mean() for _ in range(runs)]))


@pytest.mark.parametrize("statistic", [frechet_terms, transport_terms], ids=["FID", "optimal transport"])
def test_distances_of_sets(statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    truth = expected(statistic, 1500)
    assert within(coverage(truth, lambda rng: statistic(*pairs(rng))), 0.92, 0.97)


def test_the_same_images_are_resampled_alike() -> None:
    """So the interval of a difference is that of pairs: a constant shift between two methods has no width."""
    a = np.random.default_rng(2).normal(size=500)
    shift = mean_interval(a + 0.125 - a, 200, 0.9)
    assert shift.low == pytest.approx(shift.high)
    ours, theirs = mean_interval(a, 200, 0.9), mean_interval(a + 0.125, 200, 0.9)
    assert theirs.low - ours.low == pytest.approx(0.125)
    assert ours == mean_interval(a, 200, 0.9)
    assert ours.value == a.mean()


def test_large_sets_are_drawn_in_parts_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    a = np.random.default_rng(3).normal(size=50)
    whole = mean_interval(a, 200, 0.95)
    monkeypatch.setattr("raycp.quality.bootstrap._AT_ONCE", 51)
    assert mean_interval(a, 200, 0.95) == whole

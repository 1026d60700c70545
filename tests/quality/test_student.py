"""Student's intervals against a table, and how often joint ones are wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from raycp.quality.student import student_interval

CLAIMS, R = 15, 500


def test_by_hand() -> None:
    """Of 1, 2, 3: standard deviation 1, and t of 2 degrees of freedom at 97.5% is 4.303 in every table."""
    found = student_interval(np.array([1.0, 2.0, 3.0]), 0.95)
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)


@pytest.mark.parametrize(
    ("n", "draw", "most"),
    [
        (10, lambda rng, n: rng.normal(size=n), 0.05),
        (100, lambda rng, n: rng.exponential(size=n) - rng.exponential(size=n), 0.05),
        (1000, lambda rng, n: rng.exponential(size=n) - 1, 0.07),
    ],
    ids=["normal", "difference of skew ones", "skew"],
)
def test_joint_intervals_are_seldom_wrong(
    n: int, draw: Callable[[np.random.Generator, int], np.ndarray], most: float
) -> None:
    """Fifteen true zeros, intervals for all together: at least one excludes 0 in 5% of the cases, if they are right."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(R):
        found = [student_interval(draw(rng, n), 1 - 0.05 / CLAIMS) for _ in range(CLAIMS)]
        wrong += any(interval.low > 0 or interval.high < 0 for interval in found)
    # Fails for a right interval once in 1,000 changes of the seed.
    assert wrong <= stats.binom.isf(0.001, R, most)
    assert wrong >= stats.binom.ppf(0.001, R, 0.025), "no wider than it has to be"

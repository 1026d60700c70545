"""The exact interval of a share, by summing the binomial."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from raycp.statistics import share_interval


@pytest.mark.parametrize(("count", "total"), [(1, 5), (3, 12), (641, 1000), (999, 1000)])
def test_each_end_is_where_the_count_becomes_unlikely(count: int, total: int) -> None:
    low, high = share_interval(count, total, 0.9)
    assert binom.sf(count - 1, total, low) == pytest.approx(0.05, rel=1e-6)
    assert binom.cdf(count, total, high) == pytest.approx(0.05, rel=1e-6)
    assert low < count / total < high


def test_ends_of_nothing_and_of_all() -> None:
    assert share_interval(0, 4) == (0.0, pytest.approx(1 - 0.025**0.25))
    assert share_interval(4, 4) == (pytest.approx(0.025**0.25), 1.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.83, 0.999])
def test_it_covers_every_share_as_often_as_it_says(share: float) -> None:
    total = 40
    ends = [share_interval(count, total) for count in range(total + 1)]
    covered = np.array([low <= share <= high for low, high in ends])
    assert binom.pmf(np.arange(total + 1), total, share)[covered].sum() >= 0.95

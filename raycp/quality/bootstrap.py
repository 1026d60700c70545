"""Bootstrap intervals of means over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SEED = 0
_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A value with its two-sided interval."""

    value: float
    low: float
    high: float


def mean_interval(values_n: npt.NDArray[np.float64], replicates: int, confidence: float) -> Interval:
    """The mean of n values with its interval; see `mean_intervals`."""
    return mean_intervals(values_n[:, None], replicates, confidence)[0]


def mean_intervals(values_nk: npt.NDArray[np.float64], replicates: int, confidence: float) -> list[Interval]:
    """The means of k columns and their percentile bootstrap intervals (Efron 1979) over draws of images.

    The draws depend on n alone: two methods on the same images are resampled alike, and the interval of the difference
    of their values is the interval of a paired difference.

    Args:
        values_nk: one row per image.
        replicates: bootstrap samples.
        confidence: of each interval; reached as n grows, and not at all where the values are all alike.
    """
    n = len(values_nk)
    rng = np.random.default_rng(_SEED)
    at_once = max(1, _AT_ONCE // n)
    means = []
    for first in range(0, replicates, at_once):
        rows = min(at_once, replicates - first)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(times @ values_nk / n)
    low_k, high_k = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    columns = zip(values_nk.mean(axis=0), low_k, high_k, strict=True)
    return [Interval(float(value), float(low), float(high)) for value, low, high in columns]

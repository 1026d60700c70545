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
    """The mean of n values and its percentile bootstrap interval (Efron 1979) over draws of images.

    The draws depend on n and the number of replicates alone: two methods on the same images are resampled alike, and
    the interval of the difference of their values is the interval of a paired difference.

    Args:
        values_n: one value per image.
        replicates: bootstrap samples.
        confidence: of the interval; reached as n grows, and not at all where the values are all alike.
    """
    n = len(values_n)
    rng = np.random.default_rng(_SEED)
    rows = max(1, _AT_ONCE // n)
    means = np.concatenate(
        [
            values_n[rng.integers(n, size=(min(rows, replicates - first), n))].mean(axis=1)
            for first in range(0, replicates, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values_n.mean()), float(low), float(high))

"""Mean and covariance of features, in float64, from shards of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

_ROWS = 1024
"""Rows of a shard: fixed, so that the same rows in the same order give the same bits."""


@dataclass(frozen=True)
class Moments:
    """Sums over n rows of d features.

    Attributes:
        count: n.
        mean: float64 [d].
        scatter: sum of (x - mean)(x - mean)^T, float64 [d, d].
    """

    count: int
    mean: npt.NDArray[np.float64]
    scatter: npt.NDArray[np.float64]

    @property
    def covariance(self) -> npt.NDArray[np.float64]:
        """`scatter / (n - 1)`, [d, d]."""
        return self.scatter / (self.count - 1)


def moments(features_nd: npt.NDArray[np.floating]) -> Moments:
    """The moments of rows [n, d], n at least 1: shards of 1024 rows, merged in order."""
    assert len(features_nd)
    return merged(_of_shard(features_nd[i : i + _ROWS]) for i in range(0, len(features_nd), _ROWS))


def merged(parts: Iterable[Moments]) -> Moments:
    """The moments of all rows of several parts, folded in order.

    Source: Chan, Golub & LeVeque 1979, pairwise update of sums of squares about the mean, which has no cancellation.
    """
    return reduce(_merge, parts)


def _of_shard(rows: npt.NDArray[np.floating]) -> Moments:
    x = rows.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    return Moments(len(x), mean, x.T @ x)


def _merge(a: Moments, b: Moments) -> Moments:
    n = a.count + b.count
    delta = b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.count * b.count / n)
    return Moments(n, a.mean + delta * (b.count / n), scatter)

"""The Frechet distance between Gaussians fitted to two sets of features, and what each row contributes to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raycp.quality.moments import Moments

_NULL = 1e-12
"""Eigenvalues below this part of the largest count as zero: a feature that never fires has no variance."""


@dataclass(frozen=True)
class FrechetDistance:
    """`|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)`, and its derivative.

    Source: Dowson & Landau 1982; as FID, Heusel et al. 2017, arXiv 1706.08500. The trace of the root is
    the sum of the singular values of `S1^1/2 S2^1/2`; no root of a matrix that is not symmetric is taken.

    Attributes:
        value: the squared distance that is called FID.
        slope: `2 (m1 - m2)`, its derivative by m1 and, with the other sign, by m2, [d].
        curvature_1, curvature_2: its derivatives by S1 and S2, `I - A` with A the linear map that carries one Gaussian
            onto the other, [d, d].
    """

    first: Moments
    second: Moments
    value: float
    slope: npt.NDArray[np.float64]
    curvature_1: npt.NDArray[np.float64]
    curvature_2: npt.NDArray[np.float64]

    def influence_of_first(self, rows_nd: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """First-order influence on the value of each row of the first set, float64 [n]; their mean is 0."""
        return _influence(rows_nd, self.first, self.slope, self.curvature_1)

    def influence_of_second(self, rows_nd: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """First-order influence on the value of each row of the second set, float64 [n]; their mean is 0."""
        return _influence(rows_nd, self.second, -self.slope, self.curvature_2)


def frechet_distance(first: Moments, second: Moments) -> FrechetDistance:
    """The distance between the Gaussians with these moments, each of more rows than features.

    With n rows it is biased: two samples of one Gaussian are at a positive distance, of the order of (number of
    features) / n. Only distances at equal n compare.
    """
    root_1, inverse_1 = _roots(first.covariance)
    root_2, inverse_2 = _roots(second.covariance)
    u, singular, v_t = np.linalg.svd(root_1 @ root_2)
    slope = 2 * (first.mean - second.mean)
    traces = float(np.trace(first.covariance) + np.trace(second.covariance))
    value = float(slope @ slope) / 4 + traces - 2 * float(singular.sum())
    identity = np.eye(len(slope))
    return FrechetDistance(
        first,
        second,
        max(value, 0.0),  # rounding, where both sets are the same
        slope,
        identity - inverse_1 @ (u * singular) @ u.T @ inverse_1,
        identity - inverse_2 @ (v_t.T * singular) @ v_t @ inverse_2,
    )


def _roots(covariance: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Symmetric root and its pseudo-inverse; no row leaves the space in which that is the inverse."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > _NULL * max(values[-1], np.finfo(np.float64).tiny)
    root = np.sqrt(np.where(kept, values, 0.0))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=kept)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _influence(
    rows_nd: npt.NDArray[np.floating],
    moments: Moments,
    slope: npt.NDArray[np.float64],
    curvature: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    x = rows_nd.astype(np.float64) - moments.mean
    n = moments.count
    effect: npt.NDArray[np.float64] = x @ slope + np.einsum("nd,nd->n", x @ curvature, x) * (n / (n - 1))
    centred: npt.NDArray[np.float64] = effect - effect.mean()
    return centred

"""From what was measured of each sample to one number per image and metric, whose mean over images is the metric.

Samples are rows: `draws` of the first image, then `draws` of the second, and so on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raycp.quality.frechet import frechet_distance
from raycp.quality.moments import moments
from raycp.quality.optimal_transport import optimal_transport

Values = npt.NDArray[np.float64]


def mean_over_draws(samples: npt.NDArray[np.generic], draws: int) -> Values:
    """Mean of each image's samples, float64 [n]."""
    means: Values = samples.astype(np.float64).reshape(-1, draws).mean(axis=1)
    return means


def frechet_terms(clean_nd: npt.NDArray[np.float32], purified_md: npt.NDArray[np.float32]) -> Values:
    """FID between the features of n clean images and of all their purified samples, as terms, float64 [n].

    Args:
        clean_nd: features of the clean images; n above d.
        purified_md: features of the samples, m = n * draws.
    """
    n = len(clean_nd)
    distance = frechet_distance(moments(clean_nd), moments(purified_md))
    of_samples = mean_over_draws(distance.influence_of_second(purified_md), len(purified_md) // n)
    return distance.value + distance.influence_of_first(clean_nd) + of_samples


def transport_terms(clean_nv: npt.NDArray[np.floating], purified_mv: npt.NDArray[np.floating]) -> Values:
    """Optimal transport between n clean images and n purified ones, mean over draws, as terms, float64 [n]."""
    draws = len(purified_mv) // len(clean_nv)
    each = [optimal_transport(clean_nv, purified_mv[draw::draws]).terms_n for draw in range(draws)]
    terms: Values = np.mean(each, axis=0)
    return terms

"""Certified accuracy and average certified radius of a set of images, and how a radius is printed.

Source: Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918).
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from raycp.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper


def certified_accuracy(
    radius_M: npt.NDArray[np.floating], correct_M: npt.NDArray[np.bool_], eps: float
) -> float:
    """Share of images that are classified correctly and certified at L2 radius `eps` or more (radius >= eps).

    Args:
        radius_M: certified radii, pixel units [M]; 0 for abstentions.
        correct_M: whether the certified class is the label; false for abstentions [M].
    """
    return float(np.mean(correct_M & (radius_M >= eps))) if len(radius_M) else 0.0


def average_certified_radius(radius_M: npt.NDArray[np.floating], correct_M: npt.NDArray[np.bool_]) -> float:
    """ACR: mean of the radius, counting 0 for images that are wrong or abstained, pixel units."""
    return float(np.mean(np.where(correct_M, radius_M, 0.0))) if len(radius_M) else 0.0


def certified_accuracy_lower_bound(
    accuracy: float, num_images: int, alpha: float, rho: float = 0.001
) -> float:
    """Lower bound of the true certified accuracy on these images, valid with probability at least 1 - rho.

    Each certificate is false with probability at most alpha, independently over images, so the number of false ones
    is stochastically below Bin(M, alpha): the bound takes off its (1 - rho) quantile, accuracy - q / M.

    Deviation from Cohen et al. 2019, who bound the same binomial by Bernstein's inequality (and drop a factor 2
    in code): the quantile is exact and never looser than a valid Bernstein bound.

    Args:
        accuracy: certified accuracy of the M images.
        num_images: M.
        alpha: failure probability of one certificate.
        rho: failure probability of this bound.

    Returns:
        The bound, at least 0.
    """
    if num_images == 0:
        return 0.0
    quantile = 0
    while bdtrc(quantile, num_images, alpha) > rho:  # P(Bin(M, alpha) > quantile)
        quantile += 1
    return max(0.0, accuracy - quantile / num_images)


def share_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share, for instance of the images of a distribution that are certified.

    Over images drawn independently, each end misses the share with probability at most (1 - confidence) / 2. For images
    drawn without replacement from a data set it is wider than need be.

    Args:
        count: images that count, 0 <= count <= total.
        total: all images, at least 1.
        confidence: two-sided.

    Source: Clopper and Pearson 1934.
    """
    error = (1 - confidence) / 2
    return clopper_pearson_lower(count, total, error), clopper_pearson_upper(count, total, error)


def paired_difference(
    only_first: int, only_second: int, num_images: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Exact interval for the difference of two shares found on the same images, second minus first.

    Images on which both agree say nothing of the sign. Given that m images differ, those that only the second one has
    are Bin(m, theta), and theta > 1/2 exactly where the second share is larger: the Clopper-Pearson interval of theta
    becomes (2 theta - 1) m / num_images. The interval excludes 0 exactly where McNemar's exact test rejects; its width
    is conditional on m.

    Args:
        only_first: images that count for the first one alone.
        only_second: images that count for the second one alone.
        num_images: all images.
        confidence: two-sided.

    Returns:
        Lower and upper end; both 0 where no image differs.

    Source: McNemar 1947; Clopper and Pearson 1934.
    """
    differing, error = only_first + only_second, (1 - confidence) / 2
    if differing == 0:
        return 0.0, 0.0
    low = clopper_pearson_lower(only_second, differing, error)
    high = clopper_pearson_upper(only_second, differing, error)
    return (2 * low - 1) * differing / num_images, (2 * high - 1) * differing / num_images


def round_down(value: float, digits: int) -> str:
    """`value` >= 0 in decimal, rounded towards 0: no printed radius exceeds the certified one."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_DOWN))

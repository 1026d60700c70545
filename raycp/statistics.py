"""Every certified number comes from here: binomial bounds, radii, and accuracies. NumPy and SciPy, float64.

Notation: of N independent noisy copies of an image, n_A were given class A; p_A is the probability that a copy is
given class A. All bounds are rounded outwards, radii downwards, so that float64 never claims more than the theorem.

Source: Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918): Theorem 1, CERTIFY and PREDICT; Clopper, Pearson 1934.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, betainc, betaincinv, ndtri

ABSTAIN = -1
"""The class that stands for "no certificate" in results."""

Bound = Literal["one_sided", "two_class"]

# The relative error of betaincinv was at most 1.3e-12 in the failure probability over N <= 1e5; ndtri errs by a few
# units in the last place. Both margins are far below the digits anyone prints.
_BOUND_MARGIN = 1e-12
_RADIUS_MARGIN = 2.0**-48


def clopper_pearson_lower(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson lower bound: the p with P(Bin(n, p) >= k) = alpha.

    For every p, P(bound > p) <= alpha over the n draws.

    Args:
        k: number of successes, 0 <= k <= n.
        n: number of independent draws, at least 1.
        alpha: failure probability, in (0, 1).

    Returns:
        The bound in [0, 1), rounded down; exactly 0 for k = 0, alpha^(1/n) for k = n.

    Raises:
        ValueError: an argument is outside its range.
    """
    _check_binomial(k, n, alpha)
    if k == 0:
        return 0.0
    p = np.exp(np.log(alpha) / n) if k == n else betaincinv(k, n - k + 1, alpha)
    return float(p * (1.0 - _BOUND_MARGIN))


def clopper_pearson_upper(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson upper bound: P(bound < p) <= alpha; exactly 1 for k = n, rounded up.

    Failures are successes of the other kind, so the bound is 1 - lower(n - k).

    Args and errors as for `clopper_pearson_lower`.
    """
    return 1.0 - clopper_pearson_lower(n - k, n, alpha)


def certified_radius(sigma: float, p_A_lower: float, p_B_upper: float | None = None) -> float:
    """The L2 radius sigma/2 (Phi^-1(p_A_lower) - Phi^-1(p_B_upper)), rounded down.

    Args:
        sigma: standard deviation of the smoothing noise, pixel units.
        p_A_lower: lower bound of the probability of class A.
        p_B_upper: upper bound of the probability of any other class; None stands for 1 - p_A_lower, for which the
            radius is sigma Phi^-1(p_A_lower).

    Returns:
        The radius in pixel units; `-inf` where the bounds certify nothing (p_A_lower < 1/2, or < p_B_upper).

    Source: Cohen et al. 2019, Theorem 1.
    """
    if p_B_upper is None:
        if p_A_lower < 0.5:
            return -np.inf
        radius = sigma * ndtri(p_A_lower)
    else:
        if p_A_lower < p_B_upper:
            return -np.inf
        radius = sigma / 2 * (ndtri(p_A_lower) - ndtri(p_B_upper))
    return float(max(0.0, radius * (1.0 - _RADIUS_MARGIN)))


def largest_certifiable_radius(
    sigma: float, n: int, alpha: float, bound: Bound = "one_sided", slack: float = 0.0
) -> float:
    """The radius of an image all of whose n samples are of one class: no run with this n certifies more.

    Args and units as for `certify`; `-inf` if n is too small to certify anything.
    """
    counts = np.array([n, 0])
    certificate = certify(counts, counts, sigma, alpha, bound, slack)
    return -np.inf if certificate.predicted == ABSTAIN else certificate.radius


@dataclass(frozen=True)
class Certificate:
    """The outcome of CERTIFY for one image.

    With probability at least 1 - alpha over the estimation samples, the smoothed classifier returns `predicted`
    everywhere within L2 distance `radius`, or `predicted` is ABSTAIN.
    """

    selected: int
    """Class with the most selection samples (the lowest such class)."""
    predicted: int
    """`selected`, or ABSTAIN."""
    radius: float
    """Pixel units; 0 when abstaining."""
    p_A_lower: float
    p_B_upper: float
    n_A: int
    """Estimation samples of the selected class."""
    n: int
    """Estimation samples."""


def select_class(selection_counts_K: npt.NDArray[np.integer]) -> int:
    """The class with the most selection samples; ties go to the lowest class."""
    return int(np.argmax(selection_counts_K))


def certify(
    selection_counts_K: npt.NDArray[np.integer],
    estimation_counts_K: npt.NDArray[np.integer],
    sigma: float,
    alpha: float,
    bound: Bound = "one_sided",
    slack: float = 0.0,
) -> Certificate:
    """CERTIFY of Cohen et al. 2019 on class counts of two disjoint sets of samples.

    `one_sided` bounds p_A at alpha and takes p_B <= 1 - p_A. `two_class` bounds p_A from below at alpha/2 and every
    other class from above at alpha/2 each: the true runner-up is one fixed class, so the largest of those bounds
    exceeds its probability with no further union bound. The bound must be chosen before looking at the counts.

    Args:
        selection_counts_K: class counts of the N0 selection samples, int [K].
        estimation_counts_K: class counts of the N estimation samples, int [K], independent of the selection.
        sigma: noise level, pixel units.
        alpha: failure probability of the certificate.
        slack: total variation distance between the noise that was drawn and the Gaussian of the theorem; it is
            taken from p_A and added to p_B.

    Raises:
        ValueError: no estimation samples, or alpha outside (0, 1).
    """
    selected = select_class(selection_counts_K)
    n, n_A = int(estimation_counts_K.sum()), int(estimation_counts_K[selected])
    if bound == "one_sided":
        p_A_lower = max(0.0, clopper_pearson_lower(n_A, n, alpha) - slack)
        p_B_upper = 1.0 - p_A_lower
        radius = certified_radius(sigma, p_A_lower)
    else:
        others = np.delete(estimation_counts_K, selected)
        p_A_lower = max(0.0, clopper_pearson_lower(n_A, n, alpha / 2) - slack)
        p_B_upper = min(1.0, clopper_pearson_upper(int(others.max(initial=0)), n, alpha / 2) + slack)
        radius = certified_radius(sigma, p_A_lower, p_B_upper)
    certified = radius >= 0
    return Certificate(
        selected=selected,
        predicted=selected if certified else ABSTAIN,
        radius=radius if certified else 0.0,
        p_A_lower=p_A_lower,
        p_B_upper=p_B_upper,
        n_A=n_A,
        n=n,
    )


def predict(counts_K: npt.NDArray[np.integer], alpha: float) -> int:
    """PREDICT of Cohen et al. 2019: the smoothed classifier's class, or ABSTAIN.

    A two-sided binomial test of the two most frequent classes against 1/2. The class returned is not the smoothed
    classifier's with probability at most alpha. Ties between runners-up go to the lowest class.

    Args:
        counts_K: class counts of the samples, int [K], K >= 2.
        alpha: failure probability, in (0, 1).
    """
    order = np.argsort(-counts_K, kind="stable")
    n_A, n_B = int(counts_K[order[0]]), int(counts_K[order[1]])
    _check_binomial(n_A, n_A + n_B, alpha)
    # P(Bin(n, 1/2) >= k) = I_{1/2}(k, n - k + 1)
    p_value = 1.0 if n_A == n_B else 2.0 * betainc(n_A, n_B + 1, 0.5)
    return int(order[0]) if p_value <= alpha else ABSTAIN


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


def round_down(value: float, digits: int) -> str:
    """`value` >= 0 in decimal, rounded towards 0: no printed radius exceeds the certified one."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_DOWN))


def _check_binomial(k: int, n: int, alpha: float) -> None:
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"counts must satisfy 0 <= k <= n and n >= 1, got k={k}, n={n}.")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}.")

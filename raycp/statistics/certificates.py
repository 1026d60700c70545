"""CERTIFY and PREDICT on class counts, and the radius of Theorem 1.

Source: Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918): Theorem 1, CERTIFY and PREDICT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, ndtri

from raycp.statistics.binomial import check_binomial, clopper_pearson_lower, clopper_pearson_upper

ABSTAIN = -1
"""The class that stands for "no certificate" in results."""

Bound = Literal["one_sided", "two_class"]

# ndtri errs by a few units in the last place.
RADIUS_MARGIN = 2.0**-48


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
    return float(max(0.0, radius * (1.0 - RADIUS_MARGIN)))


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
    check_binomial(n_A, n_A + n_B, alpha)
    # P(Bin(n, 1/2) >= k) = I_{1/2}(k, n - k + 1)
    p_value = 1.0 if n_A == n_B else 2.0 * betainc(n_A, n_B + 1, 0.5)
    return int(order[0]) if p_value <= alpha else ABSTAIN

"""Certificates of the multi-scale smoothed classifier, from the class counts at several noise levels.

Of the noise levels, largest first, the first one decides at which a class has more than half of the probability; its
class is the answer, and where there is none, there is no answer. Large noise answers the easy images with large radii,
small noise the rest.

Source: Jeong & Shin 2023 (arXiv 2310.16779), multi-scale smoothing, read in the authors' code (certify.py and
core_mdds.py of jh-jeong/smoothing-multiscale). Two things are done otherwise. Their failure probability is
alpha/(k + 1) at the stage k at which sampling happened to end, which does not bound the sum over the stages at which it
may end; here every bound has its share of alpha beforehand. And their bound of the other classes is an asymptotic one
(Goodman's); here it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from raycp.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper
from raycp.statistics.certificates import ABSTAIN, RADIUS_MARGIN, certified_radius


@dataclass(frozen=True)
class Stage:
    """One image at one noise level.

    Attributes:
        sigma: noise level, pixel units.
        selected: the class with most selection samples.
        counts_K: class counts of the estimation samples, int [K], independent of the selection samples.
        slack: total variation distance between the noise that was drawn and the Gaussian of the theorem.
    """

    sigma: float
    selected: int
    counts_K: npt.NDArray[np.integer]
    slack: float = 0.0


@dataclass(frozen=True)
class CascadeCertificate:
    """With probability at least 1 - alpha, the cascade answers `predicted` everywhere within L2 distance `radius`.

    Attributes:
        predicted: a class, or ABSTAIN.
        radius: pixel units; 0 when abstaining.
        sigma: the noise level that decides; None when abstaining.
    """

    predicted: int
    radius: float
    sigma: float | None


def certify_cascade(stages: Sequence[Stage], alpha: float) -> CascadeCertificate:
    """The certificate of one image.

    A class c is the answer within R if it keeps more than half at some stage, and no other class gets there at an
    earlier one (c itself may: the answer is the same). With lower bound p of c and upper bounds q of the other classes,
    `R = min(sigma Phi^-1(p), -sigma_j Phi^-1(q_j) over the earlier stages j)`, by Theorem 1 of Cohen et al. (2019) for
    each. All stages are tried and the largest radius is taken: all hold at once, and can therefore not disagree.

    Of S stages each has alpha/S: half of it for the lower bound, and half for the upper ones; all of it for the lower
    bound at the last stage, which is never an earlier one. The upper bounds of all classes but c need no more than
    alpha/4S each: whatever c is, the most probable of the others is the most probable class of all or the second, so
    that only two fixed classes must be bounded rightly.

    Args:
        stages: the noise levels, strictly decreasing, with the same K classes, K >= 2.
        alpha: failure probability of the certificate.

    Raises:
        ValueError: no stages, or not decreasing; no samples, or alpha outside (0, 1).
    """
    sigmas = [stage.sigma for stage in stages]
    if not sigmas or any(first <= second for first, second in pairwise(sigmas)):
        raise ValueError(f"sigmas must be strictly decreasing, at least one, got {sigmas}.")
    share = alpha / len(stages)
    best = CascadeCertificate(ABSTAIN, 0.0, None)
    for number, stage in enumerate(stages):
        n, n_A = int(stage.counts_K.sum()), int(stage.counts_K[stage.selected])
        last = number == len(stages) - 1
        p_lower = clopper_pearson_lower(n_A, n, share if last else share / 2) - stage.slack
        radius = certified_radius(stage.sigma, max(0.0, p_lower))
        for earlier in stages[:number]:
            radius = min(radius, _room(earlier, stage.selected, share / 4))
        if radius > best.radius or (best.predicted == ABSTAIN and radius >= 0):
            best = CascadeCertificate(stage.selected, radius, stage.sigma)
    return best


def _room(stage: Stage, answer: int, alpha: float) -> float:
    """The distance within which no class but `answer` gets more than half here; `-inf` where there is none."""
    others = np.delete(stage.counts_K, answer)
    q_upper = clopper_pearson_upper(int(others.max()), int(stage.counts_K.sum()), alpha) + stage.slack
    if q_upper > 0.5:
        return -np.inf
    return float(max(0.0, -stage.sigma * ndtri(q_upper) * (1.0 - RADIUS_MARGIN)))

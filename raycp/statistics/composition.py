"""The certificate of a composition: a smoothed selector decides between a smoothed classifier and a core classifier.

`F(x) = G(x) if S(x) else core(x)`. S(x) says whether `normalised_entropy` of the base classifier's logits at x + n is
at most the threshold with probability above 1/2; G is the smoothed classifier of the same base classifier. The core
sees the image itself, without noise.

Source: Horvath, Mueller, Fischer, Vechev 2022 (ACES, arXiv 2204.00487), as in the authors' code; docs/aces.md says what
differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr, softmax

from raycp.statistics.certificates import ABSTAIN, Certificate, certify, predict

Counts = npt.NDArray[np.integer]

CORE, CERTIFIED = 0, 1
"""Rows of the counts, and the choices of the selector."""


def normalised_entropy(logits_BK: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Entropy of the softmax in units of that of the uniform distribution: float64 [B], in [0, 1] up to rounding.

    Args:
        logits_BK: [B, K], K >= 2, finite.
    """
    entropy_B: npt.NDArray[np.float64] = entr(softmax(logits_BK.astype(np.float64), axis=1)).sum(axis=1)
    return entropy_B / math.log(logits_BK.shape[1])


@dataclass(frozen=True)
class CompositeCertificate:
    """What is known of F at one image.

    With probability at least 1 - alpha over the estimation samples, F returns `predicted` everywhere within L2 distance
    `radius` (at radius 0: at the image itself), or `predicted` is ABSTAIN.
    """

    predicted: int
    """A class, or ABSTAIN."""
    radius: float
    """Pixel units; 0 when abstaining."""
    selector: Certificate
    """Of S: its classes are CORE and CERTIFIED."""
    certified: Certificate
    """Of G."""


def certify_composition(
    selection_counts_2K: Counts,
    estimation_counts_2K: Counts,
    core_class: int,
    sigma: float,
    alpha: float,
    core_radius: float = 0.0,
    slack: float = 0.0,
) -> CompositeCertificate:
    """CERTIFY of the composition, each of S and G at alpha/2, on the same samples; see `compose`.

    It is false only if one of the two certificates is, so with probability at most alpha, whatever the dependence of
    their counts.

    Args:
        selection_counts_2K: selection samples by choice of the selector (row CORE: entropy above the threshold, row
            CERTIFIED: at most) and class of the base classifier, int [2, K].
        estimation_counts_2K: estimation samples likewise, independent of the selection.
        core_class: what the core says of the image.
        sigma: noise level, pixel units.
        alpha: failure probability.
        core_radius: within which the core is known to say the same, pixel units; 0: nothing is known but its answer.
        slack: see `certify`.

    Raises:
        ValueError: counts of another shape, no estimation samples, a class that is none of the K, a negative core
            radius, or alpha outside (0, 1).
    """
    _check(selection_counts_2K, core_class)
    _check(estimation_counts_2K, core_class)
    if not core_radius >= 0:
        raise ValueError(f"core_radius must be at least 0, got {core_radius}.")
    choice = certify(selection_counts_2K.sum(1), estimation_counts_2K.sum(1), sigma, alpha / 2, slack=slack)
    certified = certify(
        selection_counts_2K.sum(0), estimation_counts_2K.sum(0), sigma, alpha / 2, slack=slack
    )
    predicted, radius = compose(
        (choice.predicted, choice.radius), (certified.predicted, certified.radius), (core_class, core_radius)
    )
    return CompositeCertificate(predicted, radius, choice, certified)


def compose(
    choice: tuple[int, float], certified: tuple[int, float], core: tuple[int, float]
) -> tuple[int, float]:
    """The class of F and the radius within which it is certain, from what is certain of S, of G and of the core.

    Where S chooses G, F is the class of G within the smaller of their radii. Where S chooses the core, F is its class
    within the smaller of these two radii. Where G and the core say the same class, the choice does not matter within
    the smaller of theirs, even if S abstains. The largest radius of those that apply is returned.

    Args:
        choice: CORE, CERTIFIED or ABSTAIN, and its radius.
        certified: class of G or ABSTAIN, and its radius.
        core: class of the core, and its radius, at least 0.

    Returns:
        The class and its radius, or ABSTAIN and 0.
    """
    known = [(ABSTAIN, 0.0)]
    if choice[0] == CORE:
        known.append((core[0], min(choice[1], core[1])))
    elif choice[0] == CERTIFIED and certified[0] != ABSTAIN:
        known.append((certified[0], min(choice[1], certified[1])))
    if certified[0] == core[0]:
        known.append((core[0], min(certified[1], core[1])))
    return max(known, key=lambda item: (item[1], item[0] != ABSTAIN))


def predict_composition(counts_2K: Counts, core_class: int, alpha: float) -> int:
    """PREDICT of the composition, each of S and G at alpha/2: the class of F at the image, or ABSTAIN.

    Where S abstains, the class that G and the core agree on. A class that is not F's is returned with probability at
    most alpha.

    Args:
        counts_2K: samples by choice and class; see `certify_composition`.
    """
    _check(counts_2K, core_class)
    choice, certified = predict(counts_2K.sum(1), alpha / 2), predict(counts_2K.sum(0), alpha / 2)
    if choice == CORE:
        return core_class
    if choice == CERTIFIED:
        return certified
    return core_class if certified == core_class else ABSTAIN


def _check(counts_2K: Counts, core_class: int) -> None:
    if counts_2K.ndim != 2 or counts_2K.shape[0] != 2 or counts_2K.shape[1] < 2:
        raise ValueError(f"counts must be [2, K] with K >= 2, got {list(counts_2K.shape)}.")
    if not 0 <= core_class < counts_2K.shape[1]:
        raise ValueError(f"core_class must be one of {counts_2K.shape[1]} classes, got {core_class}.")

"""What sampling must cost about: Wald's sequential test, run by someone who knows each image's p_A.

Source: Wald 1945 (sequential probability ratio test). No strict limit: a rule may give up power at a radius.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raycp.config import CertifyProtocol
from raycp.simulate.images import ReplayedImages
from raycp.simulate.replay import FixedReplay
from raycp.statistics.sequential import thresholds

Floats = npt.NDArray[np.float64]


def reference_samples(
    images: ReplayedImages, protocol: CertifyProtocol, slack: float, radii: Sequence[float]
) -> Floats:
    """Samples per image, float64 [M]: log(1/alpha) / KL(p_A || p_eps), at most N.

    eps is the largest of the radii that N samples with round(p_A N) votes certify, p_eps = Phi(eps / sigma). Images
    that certify none of them cost 0: who knows p_A does not sample where there is nothing to certify. Under skip_wrong
    an image of a wrong selected class costs N0, as it does every rule.
    """
    fixed = FixedReplay(protocol, images.sigma, slack)
    grid = np.array(sorted(radii), dtype=np.float64)
    p_eps = thresholds(images.sigma, grid, slack)
    result = np.zeros(len(images))
    for m, p_A in enumerate(images.p_A_M.tolist()):
        if protocol.skip_wrong and images.wrong_M[m]:
            result[m] = protocol.num_selection
            continue
        _, radius = fixed(np.array([round(p_A * protocol.num_estimation)]))
        certified = int(np.searchsorted(grid, radius, side="right"))
        if certified:
            distance = divergence(p_A, float(p_eps[certified - 1]))
            needed = math.log(1 / protocol.alpha) / distance if distance > 0 else math.inf
            result[m] = min(needed, protocol.num_estimation)
    return result


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats."""
    total = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            total += math.inf if b <= 0 else a * math.log(a / b)
    return total

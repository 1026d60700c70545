"""The laws of sequential counts, written again from the definitions: the oracle of the tests beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

from raycp.certify.boundaries import BoundaryTable, boundary_tables
from raycp.config import CertifyProtocol
from raycp.config.certify import Sequential

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SIGMA = 0.5
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
REACH = 12
"""Standard deviations of one step that are summed; what is left out is below 1e-25."""


def crossing_by_look(p: float, looks_J: Sequence[int], boundary_J: npt.ArrayLike) -> Floats:
    """P_p(H_i >= u_i for some i <= j) for each j: every step is one convolution with a law of scipy.stats."""
    mass, lowest, drawn, crossed = np.ones(1), 0, 0, [0.0]
    for look, u in zip(looks_J, np.asarray(boundary_J).tolist(), strict=True):
        step = look - drawn
        spread = REACH * math.sqrt(step * p * (1 - p)) + 50
        low, high = max(0, math.floor(step * p - spread)), min(step, math.ceil(step * p + spread))
        mass = np.convolve(mass, binom.pmf(np.arange(low, high + 1), step, p))
        lowest, drawn = lowest + low, look
        below = lowest + np.arange(len(mass)) < u
        crossed.append(crossed[-1] + float(mass[~below].sum()))
        mass = np.append(mass[below], 0.0)
        first = int(np.argmax(mass > 1e-30))
        mass, lowest = mass[first:], lowest + first
    return np.array(crossed[1:])


def true_thresholds(radii_G: Floats, sigma: float, slack: float) -> Floats:
    """The largest probability, as drawn, of an image that is not certifiably robust at each radius."""
    worst: Floats = np.minimum(1.0, norm.cdf(radii_G / sigma) + slack)
    return worst


def false_boundary(table: BoundaryTable, p: float, slack: float) -> Ints:
    """Votes at each look that certify anything false of an image with probability p; nestedness is not assumed."""
    false_G = true_thresholds(table.radii_G, table.sigma, slack) >= p
    if not false_G.any():
        return table.looks_J + 1
    least: Ints = table.efficacy_GJ[false_G].min(axis=0)
    return least


def protocol_of(rule: str, num_samples: int, alpha: float, **sequential: object) -> CertifyProtocol:
    """A protocol of one noise level."""
    return CertifyProtocol.model_validate(
        {
            "rule": rule, "num_estimation": num_samples, "alpha": alpha, "sigmas": (SIGMA,),
            "sequential": Sequential.model_validate(sequential),
        }
    )  # fmt: skip


def table_of(
    rule: str, num_samples: int, alpha: float, slack: float = 0.0, **sequential: object
) -> BoundaryTable:
    """The boundary table of `protocol_of` for the radii `RADII`."""
    protocol = protocol_of(rule, num_samples, alpha, **sequential)
    return boundary_tables(protocol, {SIGMA: slack}, RADII)[SIGMA]


def votes_at_looks(
    rng: np.random.Generator, p: float, looks_J: Sequence[int], runs: int
) -> npt.NDArray[np.int64]:
    """Votes at every look of `runs` independent images with probability p, int64 [runs, J]."""
    steps = np.diff(np.asarray(looks_J), prepend=0)
    votes: Ints = np.cumsum(rng.binomial(steps, p, size=(runs, len(steps))), axis=1)
    return votes


def excess(false: npt.NDArray[np.bool_], alpha: float) -> float:
    """Standard deviations by which the false certificates exceed what alpha allows.

    Above 5 in fewer than 1 of a million experiments if the error is at most alpha and alpha * runs at least 1,000.
    """
    runs = len(false)
    return float((false.sum() - alpha * runs) / math.sqrt(alpha * (1 - alpha) * runs))

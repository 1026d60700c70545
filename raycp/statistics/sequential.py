"""Exact group-sequential tests of a binomial probability: certify p_A > p0 as soon as the counts allow it.

After L_j samples (look j of J, fixed in advance) H_j of them were class A. The efficacy boundary u_1 <= ... <= u_J is
the smallest one for which

    P_p0(H_i >= u_i for some i <= j) <= s_j        (cumulative alpha spending, s_J = alpha),

computed by recursion on the exact binomial law. A crossing certifies p_A > p0: its probability does not fall with p,
so for every p_A <= p0 a false certificate has probability at most alpha, whenever and for whatever reason sampling
stops. The futility boundary says when going on is not worth it; it is non-binding, that is, the efficacy boundary
does not count on it, so it may be crossed, ignored or changed without touching the guarantee.

Over a grid of p0 the boundaries are made nested (u_j never falls as p0 grows). All false claims then contain the
smallest false one, so the whole grid together is wrong with probability at most alpha: nothing is split over radii.

Source: Lan, DeMets 1983 (alpha spending); Jennison, Turnbull 1999, chapters 7 and 12 (exact binomial tests, repeated
confidence intervals). The futility rule is our own, see `futility_boundary`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve
from scipy.special import betaln, gammaln, ndtr, ndtri

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEGLIGIBLE = 1e-20
"""Tail mass of one look's binomial law that the recursion leaves out."""
ROUNDING = 1e-11
"""Taken off alpha: bounds the mass left out and the rounding of the sums over all looks, with room to spare."""
_DIRECT = 1 << 22
"""Products of a convolution above which the FFT takes over; its error is near 1e-16 in probability."""


def geometric_looks(num_samples: int, first: int = 100, growth: float = 1.15) -> tuple[int, ...]:
    """Sample sizes at which to look: `first`, then each `growth` times the one before, the last one `num_samples`.

    Args:
        num_samples: N, at least 1.
        first: samples at the first look.
        growth: ratio of two looks, above 1.

    Returns:
        Strictly increasing; the last step may be up to a third of a step longer than the others.
    """
    looks = [min(first, num_samples)]
    while looks[-1] < num_samples:
        looks.append(max(math.ceil(looks[-1] * growth), looks[-1] + 1))
        if looks[-1] * growth ** (1 / 3) >= num_samples:
            looks[-1] = num_samples
    return tuple(looks)


def spending(num_looks: int, total: float, last_share: float) -> Floats:
    """Cumulative error that may be spent by each look: even steps, and `last_share` of it kept for the last look.

    Returns:
        float64 [J], the last one `total`.
    """
    spent_J = total * (1.0 - last_share) * np.arange(1, num_looks + 1) / num_looks
    spent_J[-1] = total
    return spent_J


def efficacy_boundary(p0: float, looks_J: Sequence[int], spent_J: npt.ArrayLike) -> Ints:
    """Smallest counts u_j with P_p0(H_i >= u_i for some i <= j) <= spent_j.

    Args:
        p0: probability under test, in [0, 1].
        looks_J: sample sizes, strictly increasing.
        spent_J: cumulative error, in (0, 1) and not decreasing.

    Returns:
        int64 [J]; L_j + 1 where no count certifies at that look.
    """
    budget_J = np.asarray(spent_J, dtype=np.float64) - ROUNDING
    boundary = np.asarray(looks_J, dtype=np.int64) + 1
    if p0 >= 1.0:
        return boundary
    walk = _Walk(p0)
    crossed = 0.0
    for j, look in enumerate(looks_J):
        walk.advance(look)
        tail = np.cumsum(walk.mass[::-1])[::-1]  # P(no crossing before, H_j >= lowest + index)
        within = np.flatnonzero(tail <= budget_J[j] - crossed)
        cut = int(within[0]) if within.size else len(tail)
        boundary[j] = min(walk.lowest + cut, look + 1)
        crossed += walk.absorb(int(boundary[j]))
    return boundary


def crossing_probability(p: float, looks_J: Sequence[int], boundary_J: npt.ArrayLike) -> Floats:
    """P_p(H_i >= u_i for some i <= j) for each j, exactly: float64 [J].

    Args:
        p: true probability, in [0, 1].
        looks_J: sample sizes.
        boundary_J: counts u_j.
    """
    boundary = np.asarray(boundary_J)
    if p in (0.0, 1.0):
        counts = np.asarray(looks_J) * int(p)
        return np.maximum.accumulate(counts >= boundary).astype(np.float64)
    walk = _Walk(p)
    crossed: list[float] = []
    for look, u in zip(looks_J, boundary, strict=True):
        walk.advance(look)
        crossed.append((crossed[-1] if crossed else 0.0) + walk.absorb(int(u)))
    return np.array(crossed)


class _Walk:
    """The law of H_j among the paths that have not crossed: `mass[i]` belongs to the count `lowest + i`."""

    def __init__(self, p: float) -> None:
        self._p = p
        self._look = 0
        self.lowest = 0
        self.mass: Floats = np.ones(1)

    def advance(self, look: int) -> None:
        """Draw up to `look` samples in all."""
        first, pmf = binomial_pmf(look - self._look, self._p)
        self._look = look
        if len(pmf) * len(self.mass) <= _DIRECT:
            self.mass = np.convolve(self.mass, pmf)
        else:
            self.mass = np.maximum(fftconvolve(self.mass, pmf), 0.0)
        self.lowest += first

    def absorb(self, boundary: int) -> float:
        """Take out the mass at counts of `boundary` or more, and return it."""
        cut = min(max(boundary - self.lowest, 0), len(self.mass))
        crossed = float(self.mass[cut:].sum())
        kept = self.mass[:cut]
        there = np.flatnonzero(kept > NEGLIGIBLE * 1e-5)
        if there.size:
            self.lowest += int(there[0])
            self.mass = kept[there[0] : there[-1] + 1]
        else:
            self.mass = np.zeros(1)
        return crossed


def binomial_pmf(n: int, p: float) -> tuple[int, Floats]:
    """The law of Bin(n, p) without tails of mass `NEGLIGIBLE`: its lowest count and the probabilities from there.

    Ratios of neighbours from the mode outwards: no cancelling logarithms of large factorials. Bernstein's inequality
    bounds what is left out.
    """
    variance, reach = n * p * (1 - p), -math.log(NEGLIGIBLE / 2)
    width = reach / 3 + math.sqrt(reach * reach / 9 + 2 * reach * variance)
    mode = min(n, math.floor((n + 1) * p))
    low, high = max(0, math.floor(n * p - width)), min(n, math.ceil(n * p + width))
    odds = p / (1 - p)
    up = np.arange(mode, high)
    down = np.arange(mode, low, -1)
    above = np.cumprod((n - up) / (up + 1) * odds)
    below = np.cumprod(down / (n - down + 1) / odds)
    pmf = np.concatenate([below[::-1], [1.0], above])
    return low, pmf / pmf.sum()


def futility_boundary(
    p0: float, looks_J: Sequence[int], boundary_J: npt.ArrayLike, exchange: float, points: int = 120
) -> Ints:
    """Counts at or below which going on costs more than `exchange` samples per certificate it may bring.

    Backward induction over the looks: with V_J = 0 below the boundary and `exchange` on it,

        V_j(h) = max(0, E[V_{j+1}(h + K)] - (L_{j+1} - L_j)),    K ~ BetaBinomial given h,

    and d_j is the largest h with V_j(h) = 0. The prior of p_A is Beta(p0, 1 - p0), one sample's worth, centred on the
    threshold. Counts are taken on a grid of `points` cells: the boundary is non-binding, so this costs at most a
    few samples and never validity.

    Args:
        p0: probability under test, in (0, 1).
        looks_J: sample sizes.
        boundary_J: the efficacy boundary.
        exchange: samples that one more certified image is worth.

    Returns:
        int64 [J]; -1 where no count is futile, L_J at the last look.
    """
    looks, boundary = np.asarray(looks_J, dtype=np.int64), np.asarray(boundary_J, dtype=np.int64)
    futile = np.full(len(looks), -1, dtype=np.int64)
    futile[-1] = looks[-1]
    if p0 >= 1.0 or p0 <= 0.0:
        return np.where(p0 >= 1.0, looks, futile)
    next_failures_P, next_value_P = np.zeros(1), np.zeros(1)
    for j in range(len(looks) - 2, -1, -1):
        n, step = int(looks[j]), int(looks[j + 1] - looks[j])
        # in failures n - h, which stay few where p0 is near 1
        lowest = n - int(boundary[j]) + 1
        highest = min(n, max(lowest, 0) + math.ceil(12 * math.sqrt(n * p0 * (1 - p0)) + 30))
        failures_P = np.unique(np.round(np.linspace(max(lowest, 0), highest, points)))
        cells, weight = _further_failures(1 - p0 + failures_P, p0 + n - failures_P, step, points)
        reached = failures_P[:, None] + cells
        crosses = reached <= looks[j + 1] - boundary[j + 1]
        value = np.where(crosses, exchange, np.interp(reached, next_failures_P, next_value_P, right=0.0))
        value_P = np.maximum(0.0, (value * weight).sum(axis=1) - step)
        hopeless = np.flatnonzero(value_P == 0.0)
        futile[j] = n - (failures_P[hopeless[0]] if hopeless.size else highest + 1)
        next_failures_P, next_value_P = failures_P, value_P
    return np.maximum(futile, -1)


def _further_failures(a_P: Floats, b_P: Floats, step: int, points: int) -> tuple[Floats, Floats]:
    """Failures among `step` more samples under Beta(a, b) for their probability: cells and weights, each [P, C]."""
    mean_P = step * a_P / (a_P + b_P)
    sd_P = np.sqrt(mean_P * b_P / (a_P + b_P) * (a_P + b_P + step) / (a_P + b_P + 1))
    low_P = np.maximum(0.0, np.floor(mean_P - 8 * sd_P - 10))
    high_P = np.minimum(step, np.ceil(mean_P + 12 * sd_P + 20))
    edges = np.floor(low_P[:, None] + (high_P - low_P + 1)[:, None] * np.linspace(0, 1, points + 1))
    cells = np.maximum((edges[:, :-1] + edges[:, 1:] - 1) / 2, 0.0)  # empty ones have no weight
    log_mass = (
        gammaln(step + 1) - gammaln(cells + 1) - gammaln(step - cells + 1)
        + betaln(cells + a_P[:, None], step - cells + b_P[:, None]) - betaln(a_P, b_P)[:, None]
    )  # fmt: skip
    weight = np.exp(log_mass) * np.diff(edges, axis=1)
    return cells, weight / weight.sum(axis=1, keepdims=True)


def exchange_rate(p0: float, samples: float) -> float:
    """Samples that one more certificate at p0 is worth: `samples` at p0 = 1/2, more where deciding is harder.

    Images spread over radii, that is over z = Phi^-1(p); around z0 those within about sqrt(p0 (1 - p0) / N) / phi(z0)
    are in doubt after N samples. Valuing a certificate in proportion to that width loses about as many at every
    radius.
    """
    z = ndtri(p0)
    return float(samples * math.sqrt(p0 * (1 - p0)) / math.exp(-z * z / 2) * 2.0)


def thresholds(sigma: float, radii_G: npt.ArrayLike, slack: float = 0.0) -> Floats:
    """p0 = Phi(radius / sigma) + slack, rounded up: p_A > p0 certifies the radius. float64 [G], at most 1.

    Args:
        sigma: noise level, pixel units.
        radii_G: L2 radii, pixel units.
        slack: total variation distance between the noise that is drawn and the Gaussian of the theorem.
    """
    z = np.asarray(radii_G, dtype=np.float64) / sigma * (1 + 2.0**-48)
    p0: Floats = np.minimum(1.0, ndtr(z) * (1 + 2.0**-50) + slack)
    return p0


def nested(boundary_GJ: Ints) -> Ints:
    """The smallest boundaries at or above these that never fall from one threshold to the next larger one."""
    result: Ints = np.maximum.accumulate(boundary_GJ, axis=0)
    return result

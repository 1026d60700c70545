"""Which N and alpha a log was made with, from its printed radii alone.

A certificate with m misses among N samples has the radius r_m = sigma Phi^-1(p_m), p_m the one-sided Clopper-Pearson
bound: P(Bin(N, p_m) >= N - m) = alpha, so p_m = BetaInv(alpha; N - m, m + 1). Whatever the images, the radii of a log
are of the set r_0 > r_1 > ... Two things exclude a (sigma, N, alpha):

Membership. A printed radius that is not within rounding of a member of the set. Near its top the set is sparser than
the printed digits are fine; lower down everything fits and nothing is learnt. This is certain.

Crowding. A larger N has a denser set, of which any radii are members; but then too many images share one of its members
while its neighbours stay empty. Misses are binomial: for an image with odds t of a miss, P(m) is proportional to
C(N, m) t^m, so that among images with m in a window W around B, each has m in B with a probability of at most
rho = max_t sum_B C(N, m) t^m / sum_W C(N, m) t^m, whatever its t. The number in B is stochastically below
Bin(number in W, rho). Each test is made at 1e-10, so that those of one log (one for each printed value, fewer than
10^4) exclude the truth with a probability below 1e-6 together, if the samples of different images are independent.

What is left may be one pair, several, or too many to tell. Only pairs of round numbers are tried; how far N may move,
with an alpha to match, before a radius falls out says how narrow the answer is.

Source of the radius: Clopper, Pearson 1934; CERTIFY of Cohen et al. 2019 (arXiv 1902.02918).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import bdtr, bdtrc, bdtrik, betaincinv, gammaln, ndtr, ndtri

from raycp.logs.lines import Floats, Ints

Rounding = Literal["nearest", "down"]

ROUNDINGS: tuple[Rounding, ...] = ("nearest", "down")
ROUND_N = tuple(
    round(first * 10**power)
    for power in range(1, 7)
    for first in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    if first * 10**power <= 1_000_000
)
"""The N that are tried."""
ROUND_ALPHA = tuple(float(f"{first}e-{power}") for power in range(1, 7) for first in (1, 2, 2.5, 3, 4, 5))
"""The alpha that are tried: with the halves of common ones, which a method that splits alpha gives to a certificate."""

_MOST_RADII = 150
_LENGTH = 400
_DENSE = 128
_FALSE_ALARM = 1e-10
# Some codes compute the radius in float32 before they print it.
_RELATIVE = 3e-7


@dataclass(frozen=True, eq=False)
class PrintedRadii:
    """The K distinct positive radii of a log, increasing.

    Attributes:
        radius_K: as printed, pixel units.
        half_unit_K: half a unit of the last printed digit.
        images_K: images with this radius.
    """

    radius_K: Floats
    half_unit_K: Floats
    images_K: Ints

    @classmethod
    def of(cls, radius_M: Floats, half_unit_M: Floats) -> PrintedRadii:
        """Those of M images."""
        radius_K, first, images_K = np.unique(radius_M, return_index=True, return_counts=True)
        positive = radius_K > 0
        return cls(radius_K[positive], half_unit_M[first][positive], images_K[positive])

    def largest(self, most: int) -> PrintedRadii:
        """The largest ones alone, at most so many."""
        return PrintedRadii(self.radius_K[-most:], self.half_unit_K[-most:], self.images_K[-most:])

    def interval(self, rounding: Rounding) -> tuple[Floats, Floats]:
        """What each may have been before it was printed: lower and upper ends [K]."""
        slack = _RELATIVE * self.radius_K
        if rounding == "down":
            return self.radius_K - slack, self.radius_K + 2 * self.half_unit_K + slack
        return self.radius_K - self.half_unit_K - slack, self.radius_K + self.half_unit_K + slack


@dataclass(frozen=True)
class Protocol:
    """A way that radii may have been made and printed."""

    sigma: float
    num_estimation: int
    alpha: float
    rounding: Rounding


@dataclass(frozen=True)
class Inference:
    """What the radii of a log leave possible.

    Attributes:
        fitting: all tried ways that are not excluded.
        tried: pairs (N, alpha) that were tried, each with both roundings.
        nearest: the way that fits all but the fewest radii, where none fits all.
        telling: distinct radii that lie where the set of the first of `fitting` is sparser than the printed digits.
        num_estimation_range: with a single pair, the least and the largest N found that fit with another alpha.
    """

    fitting: tuple[Protocol, ...]
    tried: int
    nearest: Protocol | None
    telling: int
    num_estimation_range: tuple[int, int] | None

    @property
    def pairs(self) -> tuple[tuple[int, float], ...]:
        """The distinct (N, alpha) among those that fit."""
        return tuple(dict.fromkeys((p.num_estimation, p.alpha) for p in self.fitting))


def possible_radii(sigma: float, num_estimation: int, alpha: float, first: int, last: int) -> Floats:
    """r_first > ... > r_last in pixel units, as far as they are at least 0 and last < N.

    Args:
        sigma: noise level, pixel units.
        num_estimation: N.
        alpha: failure probability of a certificate.
        first, last: misses among the N samples.
    """
    return sigma * _quantiles(num_estimation, alpha, first, last)


@lru_cache(maxsize=4096)
def _quantiles(num_estimation: int, alpha: float, first: int, last: int) -> Floats:
    misses = np.arange(first, min(last, num_estimation - 1) + 1)
    p = betaincinv(num_estimation - misses, misses + 1, alpha)
    z: Floats = np.asarray(ndtri(p), dtype=np.float64)
    return z[z >= 0]


@dataclass(frozen=True, eq=False)
class _Possible:
    """The possible radii around and below the largest printed one: `falling[i]` has `first + i` misses."""

    first: int
    falling: Floats
    reach: float
    """What is printed below this is not judged."""


def _possible(radii: PrintedRadii, protocol: Protocol) -> _Possible:
    sigma, n, alpha = protocol.sigma, protocol.num_estimation, protocol.alpha
    z = radii.radius_K[-1] / sigma
    # Misses at the largest radius, where P(Bin(n, 1 - p) <= m) = alpha, and members within a printed unit there.
    at_top = float(bdtrik(alpha, n, ndtr(-z)))
    density = n * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / sigma
    width = int(min(2 * radii.half_unit_K[-1] * density, _DENSE)) + 1
    if width > _DENSE:  # whatever is printed is close to a member
        return _Possible(0, np.zeros(0), np.inf)
    first = max(0, int(at_top if at_top > 0 else 0) - 3 * width - 10)
    last = first + _LENGTH + 7 * width
    falling = possible_radii(sigma, n, alpha, first, last)
    whole = last >= n - 1 or len(falling) < last - first + 1
    return _Possible(first, falling, 0.0 if whole else falling[-1])


def misfits(radii: PrintedRadii, protocol: Protocol) -> Floats:
    """The printed radii that this protocol cannot have made; those too far down to be told are not among them."""
    if not len(radii.radius_K):
        return radii.radius_K
    low_K, high_K = radii.interval(protocol.rounding)
    possible = _possible(radii, protocol)
    rising = possible.falling[::-1]
    nearest_K = np.searchsorted(rising, low_K)  # the first one at or above the lower end
    found_K = nearest_K < len(rising)
    found_K[found_K] &= rising[nearest_K[found_K]] <= high_K[found_K]
    wrong: Floats = radii.radius_K[~found_K & (low_K >= possible.reach)]
    return wrong


def crowded(radii: PrintedRadii, protocol: Protocol) -> bool:
    """Whether more images share a radius than this protocol allows beside its empty neighbours; see the module."""
    if not len(radii.radius_K):
        return False
    low_K, high_K = radii.interval(protocol.rounding)
    possible = _possible(radii, protocol)
    falling, rising = possible.falling, possible.falling[::-1]
    # Places B = [first, last] that may be printed as each radius, and W, longer by as many on either side.
    last_K = len(falling) - 1 - np.searchsorted(rising, low_K, side="left")
    first_K = len(falling) - np.searchsorted(rising, high_K, side="right")
    width_K = last_K - first_K + 1
    lowest = 0 if possible.first == 0 else width_K
    inside_K = (width_K > 0) & (first_K > lowest) & (last_K + width_K < len(falling))
    first, last, width = first_K[inside_K], last_K[inside_K], width_K[inside_K]
    images = radii.images_K[inside_K]
    begin, end = np.maximum(first - width, 0), last + width
    so_far = np.concatenate([[0], np.cumsum(radii.images_K)])
    total = so_far[np.searchsorted(low_K, falling[begin], side="right")]
    total = total - so_far[np.searchsorted(high_K, falling[end], side="left")]
    # rho is at least the share of B in W: where even that explains the images there is nothing to compute.
    promising = bdtrc(images - 1, total, width / (end - begin + 1))
    for at in np.argsort(promising):
        if promising[at] >= _FALSE_ALARM:
            break
        of = possible.first + np.array([begin[at], first[at], last[at], end[at]])
        share = _largest_share(protocol.num_estimation, *of)
        if bdtrc(images[at] - 1, total[at], share) < _FALSE_ALARM:  # P(Bin(total, share) >= images)
            return True
    return False


def _largest_share(n: int, left: int, first: int, last: int, right: int) -> float:
    """The maximum over the odds t of sum over [first, last] of C(n, m) t^m, divided by that over [left, right]."""
    misses = np.arange(left, right + 1)
    log_weight = -gammaln(misses + 1) - gammaln(n - misses + 1)
    # The share rises and falls once in t, and is largest where the mean of W is that of B.
    centre = np.linspace(max(left, 0.05), right + 1, 80)
    log_terms = log_weight + misses * (np.log(centre) - np.log(n - centre + 1))[:, None]
    terms = np.exp(log_terms - log_terms.max(axis=1, keepdims=True))
    share = terms[:, first - left : last - left + 1].sum(axis=1) / terms.sum(axis=1)
    return float(min(1.0, share.max() * 1.01))  # the maximum lies between two points of the grid


def excluded(radii: PrintedRadii, protocol: Protocol) -> bool:
    """Whether the radii cannot have been made this way."""
    return len(misfits(radii, protocol)) > 0 or crowded(radii, protocol)


def infer(
    radii: PrintedRadii, sigma: float, num_estimation: int | None = None, alpha: float | None = None
) -> Inference:
    """All ways of round numbers that can have made the largest of these radii.

    Args:
        radii: of the log.
        sigma: noise level, pixel units. It must be known: a larger one with a larger N has as fine a set.
        num_estimation, alpha: to try besides the round ones.
    """
    tried_n = sorted({*ROUND_N, *([] if num_estimation is None else [num_estimation])})
    tried_alpha = sorted({*ROUND_ALPHA, *([] if alpha is None else [alpha])})
    tried = len(tried_n) * len(tried_alpha)
    protocols = [Protocol(sigma, n, a, how) for n in tried_n for a in tried_alpha for how in ROUNDINGS]
    if not len(radii.radius_K):
        return Inference((), tried, None, 0, None)
    radii = radii.largest(_MOST_RADII)
    top = {how: radii.interval(how)[0].max() for how in ROUNDINGS}
    # What cannot reach the largest radius needs no look at the others.
    reaching = [p for p in protocols if largest_radius(p) >= top[p.rounding]]
    counts = [len(misfits(radii, protocol)) for protocol in reaching]
    members = [protocol for protocol, count in zip(reaching, counts, strict=True) if count == 0]
    fitting = tuple(protocol for protocol in members if not crowded(radii, protocol))
    if not fitting:
        nearest = reaching[int(np.argmin(counts))] if reaching and not members else None
        return Inference((), tried, nearest, 0, None)
    single = len({(p.num_estimation, p.alpha) for p in fitting}) == 1
    span = _range_of_n(radii, fitting[0]) if single else None
    return Inference(fitting, tried, None, telling(radii, fitting[0]), span)


def largest_radius(protocol: Protocol) -> float:
    """The radius of an image without a miss, pixel units; negative where nothing can be certified."""
    return float(protocol.sigma * ndtri(protocol.alpha ** (1 / protocol.num_estimation)))


def telling(radii: PrintedRadii, protocol: Protocol) -> int:
    """How many of the radii lie where the possible ones are further apart than a printed unit."""
    return int((radii.radius_K >= telling_from(radii, protocol)).sum())


def radii_behind(radii: PrintedRadii, protocol: Protocol) -> Floats:
    """The possible radius nearest to each printed one; NaN too far down to be told. float64 [K]."""
    possible = _possible(radii, protocol)
    rising = possible.falling[::-1]
    if not len(rising):
        return np.full(len(radii.radius_K), np.nan)
    above = np.clip(np.searchsorted(rising, radii.radius_K), 1, max(1, len(rising) - 1))
    pair = rising[np.stack([above - 1, np.minimum(above, len(rising) - 1)])]
    nearest = np.where(pair[1] - radii.radius_K < radii.radius_K - pair[0], pair[1], pair[0])
    result: Floats = np.where(radii.radius_K >= possible.reach, nearest, np.nan)
    return result


def telling_from(radii: PrintedRadii, protocol: Protocol) -> float:
    """The radius above which neighbours among the possible ones are further apart than the printed unit there."""
    possible = _possible(radii, protocol)
    falling = possible.falling
    at = np.minimum(np.searchsorted(radii.radius_K, falling[1:]), len(radii.radius_K) - 1)
    close = np.flatnonzero(-np.diff(falling) <= 2 * radii.half_unit_K[at])
    return float(falling[close[0]]) if len(close) else possible.reach


_STEPS = (1.01, 1.02, 1.03, 1.05, 1.07, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0)


def _range_of_n(radii: PrintedRadii, protocol: Protocol) -> tuple[int, int]:
    ends = []
    for direction in (-1, 1):
        end = protocol.num_estimation
        for step in _STEPS:
            n = round(protocol.num_estimation * step**direction)
            if not _fits_with_some_alpha(radii, protocol, n):
                break
            end = n
        ends.append(end)
    return ends[0], ends[1]


def _fits_with_some_alpha(radii: PrintedRadii, protocol: Protocol, n: int) -> bool:
    """Whether N = n fits: with m misses at the largest radius, alpha = P(Bin(n, 1 - p) <= m) lies between two ends."""
    low_K, high_K = radii.interval(protocol.rounding)
    of_top = ndtr(-np.array([low_K[-1], high_K[-1]]) / protocol.sigma)  # 1 - p
    possible = _possible(radii, protocol)
    most = possible.first + int((possible.falling > radii.radius_K[-1]).sum()) + 2
    for misses in range(min(most, n - 1) + 1):
        ends = bdtr(misses, n, of_top)
        for alpha in np.linspace(ends[0], ends[1], 25):
            trial = Protocol(protocol.sigma, n, float(alpha), protocol.rounding)
            if 0 < alpha < 0.5 and not excluded(radii, trial):
                return True
    return False

"""Example 3.1 of Li et al.: data -1 or +1, evenly, in noise of standard deviation t. Everything exact, by quadrature.

The noisy value is x = x0 + t n. The probability-flow ODE ends at sign(x), the consistency function; one-step DDPM
gives the posterior mean tanh(x / t^2). By symmetry x0 = 1 stands for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from scipy.integrate import quad
from scipy.special import ndtr

_REACH = 12.0
"""Standard deviations beyond which nothing is left, of the noise itself and beyond the point where it crosses 0."""


def consistency_distance(t: float, power: int = 1) -> float:
    """`E |x0 - sign(x)|^power = 2^power Phi(-1/t)`: an error is 2, and it happens where the noise crosses 0."""
    return float(2**power * ndtr(-1 / t))


def posterior_mean_distance(t: float, power: int = 1) -> float:
    """`E |x0 - tanh(x / t^2)|^power`, by quadrature."""
    # 1 - tanh(u) = 2 / (1 + e^2u), which keeps its digits where tanh is near 1.
    return _expectation(lambda n: (2 / (1 + math.exp(min(700.0, 2 * (1 + t * n) / t**2)))) ** power, t)


def _expectation(function: Callable[[float], float], t: float) -> float:
    """`E function(n)` over a standard normal n; the integrand bends where 1 + t n is 0, over a width of t."""
    bend = -1 / t
    ends = (bend - _REACH, _REACH)
    points = sorted({*ends, *(p for p in (bend - 4 * t, bend, bend + 4 * t, 0.0) if ends[0] < p < ends[1])})
    density = 1 / math.sqrt(2 * math.pi)
    return sum(
        quad(lambda n: density * math.exp(-n * n / 2) * function(n), a, b, epsabs=0, epsrel=1e-10)[0]
        for a, b in pairwise(points)
    )

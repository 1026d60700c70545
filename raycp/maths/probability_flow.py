"""Heun's method for the probability-flow ODE `dx/dt = (x - D(x; t))/t`, where the time is the noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

# D(x; sigma): noisy image and noise level -> posterior mean, model units.
DenoisingFunction = Callable[[Tensor, float], Tensor]


def heun_step(denoise: DenoisingFunction, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """One step from `sigma` to `sigma_next > 0`: Euler, then the trapezoidal correction (2 evaluations).

    Source: Karras et al. 2022, arXiv 2206.00364, Algorithm 2 without its churn.
    """
    slope = (x - denoise(x, sigma)) / sigma
    x_euler = x + (sigma_next - sigma) * slope
    slope_next = (x_euler - denoise(x_euler, sigma_next)) / sigma_next
    return x + (sigma_next - sigma) * (slope + slope_next) / 2


def solve_to_zero(denoise: DenoisingFunction, x: Tensor, levels: Sequence[float]) -> Tensor:
    """Heun steps through the levels, then one Euler step to 0: `2 (len(levels) - 1) + 1` evaluations.

    Args:
        denoise: D.
        x: solution at `levels[0]`, model units.
        levels: noise levels, descending, all above 0, model units.

    Returns:
        The solution at noise 0, of the shape of x.
    """
    for sigma, sigma_next in pairwise(levels):
        x = heun_step(denoise, x, sigma, sigma_next)
    # Euler from sigma to 0 is x - sigma (x - D)/sigma = D; the rule has no correction at 0, where the slope is 0/0.
    return denoise(x, levels[-1])

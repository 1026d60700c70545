"""The noise grid of Karras et al. and the rule that puts a noise level on it."""

from __future__ import annotations

import torch
from torch import Tensor


def karras_grid(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """The noise levels `t_i = (a + (i-1)/(N-1) (b - a))^rho`, `a = sigma_min^(1/rho)`, `b = sigma_max^(1/rho)`.

    Args:
        num_steps: N, at least 2.
        sigma_min: first level, model units, above 0.
        sigma_max: last level, model units, above `sigma_min`.
        rho: exponent, above 0; larger values put more levels near `sigma_min`.

    Returns:
        float64 [N], ascending; the ends are `sigma_min` and `sigma_max` to the last bit, so that the boundary
        condition of a consistency function holds exactly on the grid.

    Source: Karras et al. 2022, arXiv 2206.00364, in the ascending order of Song et al. 2023, arXiv 2303.01469.
    """
    assert num_steps >= 2 and 0 < sigma_min < sigma_max and rho > 0
    ramp_N = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    grid_N: Tensor = (low + ramp_N * (high - low)) ** rho
    grid_N[0], grid_N[-1] = sigma_min, sigma_max
    return grid_N


def nearest_index(grid: Tensor, sigma_model: float) -> int:
    """`argmin_i |t_i - sigma|`; halfway between two levels the lower one is taken.

    Args:
        grid: float64 [N], ascending, model units.
        sigma_model: noise level, model units.

    Source: Li et al. 2024, arXiv 2407.00623, section 4.1, with the intervals `((t_{i-1}+t_i)/2, (t_i+t_{i+1})/2]`.
    The text compares `sigma` itself; images in [-1, 1] carry noise of `2 sigma`, which is what the authors' code does.
    """
    return int(torch.argmin((grid - sigma_model).abs()))

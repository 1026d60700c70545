"""The probability-flow ODE of an EDM, solved from the noisy image down to a clean one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from raycp.maths import nearest_index, solve_to_zero
from raycp.models import Denoiser


@dataclass(frozen=True)
class ProbabilityFlow:
    """Heun's method over the levels of a grid, then one Euler step to 0.

    Snapped, the solution starts at the grid level nearest to `sigma_model`, with the image as it is (not rescaled to
    that level); otherwise at sigma_model itself, and goes on with the grid levels below it. From the i-th level of
    the grid (i = 1 at sigma_min) it takes `2 (i - 1) + 1` network evaluations: 13, 15 and 17 for sigma 0.25, 0.5 and
    1.0 on the grid of 18 levels from 0.002 to 80.

    Source: the multi-step baseline of Li et al. 2024, arXiv 2407.00623, as in the authors' code.
    """

    denoiser: Denoiser
    grid: Tensor
    """Noise levels, float64 [N], ascending, model units."""
    snapped: bool

    def __call__(self, x_BCHW: Tensor, sigma_model: float, labels_B: Tensor | None = None) -> Tensor:
        """Solution [B,C,H,W] at noise 0, model units."""
        if self.snapped:
            levels = self.grid[: nearest_index(self.grid, sigma_model) + 1].flip(0).tolist()
        else:
            levels = [sigma_model, *self.grid[self.grid < sigma_model].flip(0).tolist()]
        return solve_to_zero(partial(self.denoiser, labels_B=labels_B), x_BCHW, levels)

"""One step of a consistency model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from raycp.maths import nearest_index
from raycp.models import Denoiser


@dataclass(frozen=True)
class OneStepConsistency:
    """`x_p = f(x, t)` with t the grid time nearest to `sigma_model`, or `sigma_model` itself.

    The image is not rescaled to the snapped time: the network sees noise of sigma_model and is told t.

    Source: Li et al. 2024, arXiv 2407.00623, section 4.1 and Algorithm 1 (GetTimeStep).
    """

    denoiser: Denoiser
    grid: Tensor | None
    """Times t_i, float64 [N], ascending, model units; None conditions on the exact noise level."""

    def __call__(self, x_BCHW: Tensor, sigma_model: float, labels_B: Tensor | None = None) -> Tensor:
        """Estimate [B,C,H,W] of the clean images, model units."""
        time = sigma_model
        if self.grid is not None:
            time = float(self.grid[nearest_index(self.grid, sigma_model)])
        return self.denoiser(x_BCHW, time, labels_B)

"""One-step denoising by a DDPM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from raycp.maths import closed_form_timestep, first_timestep, predicted_x0
from raycp.models import Denoiser


@dataclass(frozen=True)
class OneStepDDPM:
    """The image that the noise predicted at one step implies.

    `x0 = (x_t - sqrt(1 - abar_t) eps(x_t, t))/sqrt(abar_t)`, where x_t is the noisy image scaled down to the variance
    of the diffusion process.

    search: t is the first step whose noise is at least `sigma_model`, and `x_t = sqrt(abar_t) x`. The published code
    draws the noise of that step, up to 0.1 % more for 4,000 cosine steps; here it is exactly sigma_model, because
    that is the sigma the certificate is about.
    closed_form: t from the continuous cosine schedule, and `x_t = x/sqrt(1 + sigma_model^2)`.

    Source: Carlini et al. 2022, arXiv 2206.10550 (search); the code of DensePure and of Li et al. 2024,
    arXiv 2407.00623 (closed_form).
    """

    denoiser: Denoiser
    timestep: Literal["search", "closed_form"]

    def __call__(self, x_BCHW: Tensor, sigma_model: float, labels_B: Tensor | None = None) -> Tensor:
        """Estimate [B,C,H,W] of the clean images, model units."""
        abar = self.denoiser.alphas_cumprod
        assert abar is not None
        if self.timestep == "search":
            t = first_timestep(abar, sigma_model)
            scale = math.sqrt(float(abar[t]))
        else:
            t = closed_form_timestep(len(abar), sigma_model)
            scale = 1 / math.sqrt(1 + sigma_model**2)
        x_t = scale * x_BCHW
        return predicted_x0(x_t, self.denoiser.predict_noise(x_t, t, labels_B), float(abar[t]))

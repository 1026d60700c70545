"""Networks that are called like a diffusers UNet and hold the exact denoiser of a known data distribution.

Each one undoes the preconditioning of its format by formulas of its own, so a wrong coefficient, a wrong noise
conditioning or a wrong unit anywhere around it moves the purified image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from raycp.models import Denoiser

# (x_BCHW, noise level) -> clean image, model units.
Exact = Callable[[Tensor, float], Tensor]

SIGMA_MIN, SIGMA_MAX, SIGMA_DATA = 0.002, 80.0, 0.5


class _Counted(nn.Module):
    def __init__(self, exact: Exact) -> None:
        super().__init__()
        self.exact = exact
        self.levels: list[float] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> tuple[Tensor]:
        assert not return_dict
        assert timestep.shape == (sample.shape[0],)
        assert class_labels is None
        return (self.output(sample, timestep[0]),)

    def output(self, sample: Tensor, timestep: Tensor) -> Tensor:
        raise NotImplementedError


class EDMNetwork(_Counted):
    """F such that c_skip x + c_out F = D(x; sigma)."""

    def output(self, sample: Tensor, timestep: Tensor) -> Tensor:
        sigma = math.exp(4 * float(timestep))
        self.levels.append(sigma)
        norm = math.hypot(sigma, SIGMA_DATA)
        x = sample * norm
        return (self.exact(x, sigma) - (SIGMA_DATA / norm) ** 2 * x) * norm / (sigma * SIGMA_DATA)


class ConsistencyNetwork(_Counted):
    """F such that c_skip x + c_out F = f(x, t); at the boundary, where F has no effect, something absurd."""

    def output(self, sample: Tensor, timestep: Tensor) -> Tensor:
        t = math.exp(float(timestep) / 250)
        self.levels.append(t)
        shifted = t - SIGMA_MIN
        if shifted < 1e-6:
            return torch.full_like(sample, 1e6)
        norm = math.hypot(t, SIGMA_DATA)
        x = sample * norm
        skip = SIGMA_DATA**2 / (shifted**2 + SIGMA_DATA**2)
        return (self.exact(x, t) - skip * x) * norm / (shifted * SIGMA_DATA)


class DDPMNetwork(_Counted):
    """The noise in x_t that makes `exact` the image, where exact takes `x_t/sqrt(abar)` and its noise level."""

    def __init__(self, exact: Exact, alphas_cumprod: Tensor, channels_of_variance: int = 0) -> None:
        super().__init__(exact)
        self.alphas_cumprod = alphas_cumprod.double()
        self.channels_of_variance = channels_of_variance

    def output(self, sample: Tensor, timestep: Tensor) -> Tensor:
        assert timestep.dtype == torch.int64
        abar = float(self.alphas_cumprod[timestep])
        self.levels.append(float(timestep))
        clean = self.exact(sample / math.sqrt(abar), math.sqrt((1 - abar) / abar))
        noise = (sample - math.sqrt(abar) * clean) / math.sqrt(1 - abar)
        variance = torch.full_like(sample[:, :1], 1e6).expand(-1, self.channels_of_variance, -1, -1)
        return torch.cat([noise, variance], dim=1)


def edm_denoiser(exact: Exact) -> Denoiser:
    return Denoiser(EDMNetwork(exact), "edm", 1, (4, 4), SIGMA_MIN, SIGMA_MAX, SIGMA_DATA)


def consistency_denoiser(exact: Exact, num_steps: int | None = 18) -> Denoiser:
    network = ConsistencyNetwork(exact)
    return Denoiser(network, "consistency", 1, (4, 4), SIGMA_MIN, SIGMA_MAX, SIGMA_DATA, num_steps=num_steps)


def ddpm_denoiser(exact: Exact, alphas_cumprod: Tensor, channels_of_variance: int = 0) -> Denoiser:
    levels = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
    network = DDPMNetwork(exact, alphas_cumprod, channels_of_variance)
    bounds = (float(levels[0]), float(levels[-1]))
    return Denoiser(network, "ddpm", 1, (4, 4), *bounds, alphas_cumprod=alphas_cumprod)


def gaussian_posterior_mean(data_std: float) -> Exact:
    """E[x0 | x] of data N(0, data_std^2)."""
    return lambda x, sigma: x * data_std**2 / (data_std**2 + sigma**2)


def gaussian_consistency(data_std: float) -> Exact:
    """The end, at SIGMA_MIN, of the probability-flow ODE of data N(0, data_std^2)."""
    return lambda x, t: x * math.sqrt((SIGMA_MIN**2 + data_std**2) / (t**2 + data_std**2))


def two_point_posterior_mean(x: Tensor, sigma: float) -> Tensor:
    """E[x0 | x] of data -1 or +1, evenly."""
    return torch.tanh(x / sigma**2)


def two_point_consistency(x: Tensor, t: float) -> Tensor:
    """The end of the probability-flow ODE of data -1 or +1, as sigma_min goes to 0."""
    return torch.sign(x)

"""Discrete-time diffusion: which step carries a given noise, and the image that a predicted noise implies.

`abar_t` is the product of `1 - beta` up to and including step t, and steps count from 0, as in diffusers and in
OpenAI's code: step 0 already carries noise. A noisy image is `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_COSINE_OFFSET = 0.008  # s of Nichol & Dhariwal 2021, arXiv 2102.09672


def cosine_alphas_cumprod(num_timesteps: int) -> Tensor:
    """The cosine schedule's abar: products of `1 - beta_t`, where `beta_t = min(1 - f((t+1)/T)/f(t/T), 0.999)`.

    `f(u) = cos((u + 0.008)/1.008 pi/2)^2`.

    Args:
        num_timesteps: T.

    Returns:
        float64 [T], as in improved-diffusion; diffusers rounds the betas to float32.

    Source: Nichol & Dhariwal 2021, arXiv 2102.09672, as in the authors' code.
    """
    u = (torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps + _COSINE_OFFSET) / (
        1 + _COSINE_OFFSET
    )
    f = (u * math.pi / 2).cos() ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(dim=0)


def linear_alphas_cumprod(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """The linear schedule's abar: products of `1 - beta_t`, beta from `beta_start` to `beta_end` in equal steps.

    Args:
        num_timesteps: T.
        beta_start, beta_end: of step 0 and step T - 1.

    Returns:
        float64 [T], of float32 products, as in diffusers.

    Source: Ho et al. 2020, arXiv 2006.11239 (1,000 steps from 1e-4 to 0.02).
    """
    betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float32)
    return (1 - betas).cumprod(dim=0).double()


def noise_levels(alphas_cumprod: Tensor) -> Tensor:
    """`sqrt(1 - abar_t)/sqrt(abar_t)`: the noise of each step in units of the unscaled image.

    Args:
        alphas_cumprod: abar, [T], descending, in [0, 1].

    Returns:
        float64 [T], ascending, model units; infinite where abar is 0.
    """
    alphas_cumprod = alphas_cumprod.to(torch.float64)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def first_timestep(alphas_cumprod: Tensor, sigma_model: float) -> int:
    """The smallest `t >= 1` with `sqrt(1 - abar_t)/sqrt(abar_t) >= sigma_model`.

    Args:
        alphas_cumprod: abar, [T], descending.
        sigma_model: noise level, model units; at most the noise of the last step.

    Source: Carlini et al. 2022, arXiv 2206.10550, as in the authors' code (which leaves out step 0).
    """
    reached = noise_levels(alphas_cumprod)[1:] >= sigma_model
    assert bool(reached.any()), "the caller holds sigma_model within the schedule"
    return 1 + int(torch.argmax(reached.to(torch.int8)))


def closed_form_time(num_timesteps: int, sigma_model: float) -> float:
    """When the cosine schedule has noise s: `T (1 - 2 c asin(sin(pi/(2c))/sqrt(1 + s^2))/pi)`, c = 1.008.

    Args:
        num_timesteps: T.
        sigma_model: noise level s, model units.

    Source: the code of Xiao et al. 2022 (DensePure) and of Li et al. 2024, arXiv 2407.00623.
    """
    c = 1 + _COSINE_OFFSET
    angle = math.asin(math.sin(math.pi / (2 * c)) / math.sqrt(1 + sigma_model**2))
    return num_timesteps * (1 - 2 * c * angle / math.pi)


def closed_form_timestep(num_timesteps: int, sigma_model: float) -> int:
    """`closed_form_time`, rounded, as the index of a step, which is at most `T - 1`.

    A step holds the noise of one step later, so this lands one or two steps after `first_timestep`.
    """
    return min(round(closed_form_time(num_timesteps, sigma_model)), num_timesteps - 1)


def predicted_x0(x_t: Tensor, noise: Tensor, alpha_cumprod: float) -> Tensor:
    """`(x_t - sqrt(1 - abar) eps)/sqrt(abar)`, any shape, model units.

    Source: Ho et al. 2020, arXiv 2006.11239.
    """
    return (x_t - math.sqrt(1 - alpha_cumprod) * noise) / math.sqrt(alpha_cumprod)


def step_variances(alphas_cumprod: Tensor, t: int) -> tuple[float, float]:
    """`(beta~_t, beta_t)`: the variance of `x_{t-1}` given x_t and x_0, and that of x_t given `x_{t-1}`.

    Those of `x_{t-1}` given x_t alone, if the data have no variance and if they have 1.

    Args:
        alphas_cumprod: abar, float64 [T]; of all steps of a model, or of those that a faster chain keeps.
        t: step, from 0, where beta~ is 0.

    Source: Ho et al. 2020, arXiv 2006.11239, equation 7.
    """
    abar, before = float(alphas_cumprod[t]), float(alphas_cumprod[t - 1]) if t else 1.0
    beta = 1 - abar / before
    return beta * (1 - before) / (1 - abar), beta


def posterior_mean(x_0: Tensor, x_t: Tensor, alphas_cumprod: Tensor, t: int) -> Tensor:
    """The mean of `x_{t-1}` given x_t and x_0, any shape, model units; see `step_variances` for the other arguments.

    `(sqrt(abar_{t-1}) beta_t x_0 + sqrt(1 - beta_t) (1 - abar_{t-1}) x_t)/(1 - abar_t)`.

    Source: Ho et al. 2020, arXiv 2006.11239, equation 7.
    """
    abar, before = float(alphas_cumprod[t]), float(alphas_cumprod[t - 1]) if t else 1.0
    beta = 1 - abar / before
    of_x_0 = math.sqrt(before) * beta / (1 - abar)
    of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - abar)
    return of_x_0 * x_0 + of_x_t * x_t


def learned_log_variance(values: Tensor, alphas_cumprod: Tensor, t: int) -> Tensor:
    """`w log(beta_t) + (1 - w) log(beta~_t)`, `w = (v + 1)/2`: what a network that also predicts a variance says of it.

    beta~_t is the variance of `x_{t-1}` given x_t and x_0; that of step 0 is 0, and the one of step 1 is taken.

    Args:
        values: the second half v of the network's channels, any shape.
        alphas_cumprod: abar, float64 [T].
        t: step, from 0.

    Source: Nichol & Dhariwal 2021, arXiv 2102.09672, as in the authors' code.
    """
    low, _ = step_variances(alphas_cumprod, max(t, 1))
    _, high = step_variances(alphas_cumprod, t)
    w = (values + 1) / 2
    return w * math.log(high) + (1 - w) * math.log(low)

"""How a network's output becomes an image: `D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Scalings(NamedTuple):
    """The four coefficients, float64, each of the shape of the noise level they belong to."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def edm_scalings(sigma_model: Tensor | float, sigma_data: float) -> Scalings:
    """The EDM coefficients, which keep the network's input and target at unit variance.

    `c_skip = sd^2/(s^2+sd^2)`, `c_out = s sd/sqrt(s^2+sd^2)`, `c_in = 1/sqrt(s^2+sd^2)`, `c_noise = ln(s)/4`.

    Args:
        sigma_model: noise level s, [] or [B], model units, above 0.
        sigma_data: standard deviation sd of the data, model units.

    Source: Karras et al. 2022, arXiv 2206.00364, as `EDMPrecond` in the authors' code.
    """
    s = torch.as_tensor(sigma_model, dtype=torch.float64)
    variance = s**2 + sigma_data**2
    return Scalings(
        c_skip=sigma_data**2 / variance,
        c_out=s * sigma_data / variance.sqrt(),
        c_in=1 / variance.sqrt(),
        c_noise=s.log() / 4,
    )


def consistency_scalings(sigma_model: Tensor | float, sigma_data: float, sigma_min: float) -> Scalings:
    """The coefficients of a consistency function, for which `f(x, sigma_min) = x` exactly.

    `c_skip = sd^2/((s-s_min)^2+sd^2)`, `c_out = (s-s_min) sd/sqrt(s^2+sd^2)`, `c_in = 1/sqrt(s^2+sd^2)`,
    `c_noise = 1000 ln(s)/4`. At `s = s_min`, c_skip is 1 and c_out is 0 to the last bit.

    Args:
        sigma_model: noise level s, [] or [B], model units, at least `sigma_min`.
        sigma_data: standard deviation sd of the data, model units.
        sigma_min: noise level of the boundary condition, model units.

    Source: Song et al. 2023, arXiv 2303.01469, Appendix C. The noise conditioning is the one of the published
    PyTorch models and of diffusers; the JAX models use `ln(s)/4`.
    """
    s = torch.as_tensor(sigma_model, dtype=torch.float64)
    variance = s**2 + sigma_data**2
    shifted = s - sigma_min
    return Scalings(
        c_skip=sigma_data**2 / (shifted**2 + sigma_data**2),
        c_out=shifted * sigma_data / variance.sqrt(),
        c_in=1 / variance.sqrt(),
        c_noise=1000 * s.log() / 4,
    )


def preconditioned(network: Callable[[Tensor, Tensor], Tensor], x_BCHW: Tensor, scalings: Scalings) -> Tensor:
    """`c_skip x + c_out F(c_in x; c_noise)`, in the dtype of x.

    Args:
        network: F, called with the scaled image [B,C,H,W] and the noise conditioning float32 [B]; under autocast
            its output may be of lower precision than x, and is raised before it is scaled.
        x_BCHW: noisy image, model units.
        scalings: coefficients [] (one noise level) or [B] (one per image).

    Returns:
        [B,C,H,W], model units.
    """
    batch = x_BCHW.shape[0]
    c_skip, c_out, c_in = (
        c.to(device=x_BCHW.device, dtype=x_BCHW.dtype).view(-1, 1, 1, 1) for c in scalings[:3]
    )
    # The logarithm was taken in float64: one of a float32 level moves 250 ln(s) by up to 1e-4.
    c_noise_B = scalings.c_noise.to(device=x_BCHW.device, dtype=torch.float32).expand(batch).contiguous()
    output_BCHW = network(c_in * x_BCHW, c_noise_B).to(x_BCHW.dtype)
    return c_skip * x_BCHW + c_out * output_BCHW

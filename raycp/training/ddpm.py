"""DDPM: what a network that predicts noise is trained on, and how it denoises in one step. Model units.

Shapes: x_BCHW clean images, noise_BCHW standard normal, t_B one step per image, int64, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from raycp.maths import first_timestep, predicted_x0

# eps(x_t, t): scaled noisy images [B, C, H, W] and one step per image [B], int64, to the noise in them.
PredictNoise = Callable[[Tensor, Tensor], Tensor]


def noise_prediction(network: nn.Module, conditioning_scale: float = 1.0) -> PredictNoise:
    """eps(x_t, t) of a U-Net; `conditioning_scale` as in `NoiseSchedule`, further channels (a variance) left out."""

    def predict_noise(x_BCHW: Tensor, t_B: Tensor) -> Tensor:
        conditioning_B = t_B if conditioning_scale == 1 else (conditioning_scale * t_B.double()).float()
        output: Tensor = network(x_BCHW, conditioning_B, return_dict=False)[0]
        return output[:, : x_BCHW.shape[1]].to(x_BCHW.dtype)

    return predict_noise


def drawn_timesteps(uniform_B: Tensor, alphas_cumprod_T: Tensor, sigma_model: float | None) -> Tensor:
    """Steps, each as likely as the others, int64 [B].

    Args:
        uniform_B: float64 in [0, 1).
        alphas_cumprod_T: abar, float64, descending.
        sigma_model: largest noise of interest, model units; the last step is the one that one-step denoising takes for
            it. None: all T.
    """
    last = len(alphas_cumprod_T) - 1 if sigma_model is None else first_timestep(alphas_cumprod_T, sigma_model)
    return (uniform_B * (last + 1)).long()


def ddpm_loss(
    predict_noise: PredictNoise, x_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor, alphas_cumprod_T: Tensor
) -> Tensor:
    """`|n - eps(sqrt(abar_t) x + sqrt(1 - abar_t) n, t)|^2`, mean over pixels, [B].

    Source: Ho et al. 2020, arXiv 2006.11239, L_simple (equation 14).
    """
    abar = alphas_cumprod_T.to(t_B.device)[t_B].view(-1, 1, 1, 1)
    signal, spread = (factor.to(x_BCHW.dtype) for factor in (abar.sqrt(), (1 - abar).sqrt()))
    predicted_BCHW = predict_noise(signal * x_BCHW + spread * noise_BCHW, t_B)
    return (predicted_BCHW - noise_BCHW).square().mean(dim=(1, 2, 3))


def one_step_denoiser(
    predict_noise: PredictNoise, alphas_cumprod_T: Tensor
) -> Callable[[Tensor, float], Tensor]:
    """Images [B, C, H, W] and their noise level, model units, to the clean images that the predicted noise implies.

    Clipped to [-1, 1]: bit for bit what the purifier of kind ddpm does by default.

    Source: Carlini et al. 2022, arXiv 2206.10550.
    """

    def denoise(x_BCHW: Tensor, sigma: float) -> Tensor:
        t = first_timestep(alphas_cumprod_T, sigma)
        abar = float(alphas_cumprod_T[t])
        x_t = math.sqrt(abar) * x_BCHW
        t_B = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)
        return predicted_x0(x_t, predict_noise(x_t, t_B), abar).clamp(-1, 1)

    return denoise

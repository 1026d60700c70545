"""The losses, each a pure function of networks, images and the randomness it is given. Model units: images in [-1, 1].

Shapes: x_BCHW clean images, noise_BCHW standard normal, sigma_B or step_B one noise level or grid index per image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raycp.training.distances import Distance

# D(x; sigma) or f(x, t): images [B, C, H, W] and one noise level per image [B], float64.
Model = Callable[[Tensor, Tensor], Tensor]


def edm_loss(
    denoise: Model, x_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor, sigma_data: float
) -> Tensor:
    """`(sigma^2 + sd^2) / (sigma sd)^2 |D(x + sigma n; sigma) - x|^2`, mean over pixels, [B].

    Source: Karras et al. 2022, arXiv 2206.00364, the loss of the authors' code.
    """
    return denoising_error(denoise(noisy(x_BCHW, noise_BCHW, sigma_B), sigma_B), x_BCHW, sigma_B, sigma_data)


def denoising_error(denoised_BCHW: Tensor, x_BCHW: Tensor, sigma_B: Tensor, sigma_data: float) -> Tensor:
    """The squared error of denoised images with the weight of `edm_loss`, mean over pixels, [B]."""
    weight_B = (sigma_B**2 + sigma_data**2) / (sigma_B * sigma_data) ** 2
    return weight_B.to(x_BCHW.dtype) * (denoised_BCHW - x_BCHW).square().mean(dim=(1, 2, 3))


def distillation_loss(
    student: Model,
    target: Model,
    teacher: Model,
    distance: Distance,
    x_BCHW: Tensor,
    noise_BCHW: Tensor,
    grid_N: Tensor,
    step_B: Tensor,
) -> Tensor:
    """`d(f(x_{n+1}, t_{n+1}), f^-(x^_n, t_n))`, x^_n one Heun step of the teacher from x_{n+1}, [B].

    Args:
        grid_N: times, ascending, float64 [N].
        step_B: n, int64 [B], 0 <= n < N - 1.

    Source: Song et al. 2023, arXiv 2303.01469, Algorithm 2.
    """
    later_B, earlier_B = grid_N[step_B + 1], grid_N[step_B]
    x_later = noisy(x_BCHW, noise_BCHW, later_B)
    with torch.no_grad():
        target_BCHW = target(heun_step(teacher, x_later, later_B, earlier_B), earlier_B)
    return distance(student(x_later, later_B), target_BCHW)


def consistency_training_loss(
    student: Model,
    target: Model,
    distance: Distance,
    x_BCHW: Tensor,
    noise_BCHW: Tensor,
    grid_N: Tensor,
    step_B: Tensor,
) -> Tensor:
    """`d(f(x + t_{n+1} z, t_{n+1}), f^-(x + t_n z, t_n))`, the same z at both times; no teacher, [B].

    For a smooth distance (l2, not l1) its gradient averages to that of `distillation_loss` with the true denoiser, to
    first order in the time step.

    Args:
        grid_N: times, ascending, float64 [N].
        step_B: n, int64 [B], 0 <= n < N - 1.

    Source: Song et al. 2023, arXiv 2303.01469, Algorithm 3.
    """
    later_B, earlier_B = grid_N[step_B + 1], grid_N[step_B]
    with torch.no_grad():
        target_BCHW = target(noisy(x_BCHW, noise_BCHW, earlier_B), earlier_B)
    return distance(student(noisy(x_BCHW, noise_BCHW, later_B), later_B), target_BCHW)


def finetune_loss(
    model: Model, distance: Distance, x_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor, time_B: Tensor
) -> Tensor:
    """`d(x, f(x + sigma n, t))`: the purified image against the clean one, [B].

    Args:
        sigma_B: level of the noise.
        time_B: the time the network is conditioned on, snapped to its grid or sigma itself.

    Source: Li et al. 2024, arXiv 2407.00623, section 4.2.
    """
    return distance(model(noisy(x_BCHW, noise_BCHW, sigma_B), time_B), x_BCHW)


def heun_step(denoise: Model, x_BCHW: Tensor, sigma_B: Tensor, sigma_next_B: Tensor) -> Tensor:
    """One step of the probability-flow ODE, each image between its own two noise levels."""
    sigma, sigma_next = (s.to(x_BCHW.dtype).view(-1, 1, 1, 1) for s in (sigma_B, sigma_next_B))
    slope = (x_BCHW - denoise(x_BCHW, sigma_B)) / sigma
    x_euler = x_BCHW + (sigma_next - sigma) * slope
    slope_next = (x_euler - denoise(x_euler, sigma_next_B)) / sigma_next
    return x_BCHW + (sigma_next - sigma) * (slope + slope_next) / 2


def noisy(x_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """`x + sigma n`, each image at its own level."""
    return x_BCHW + sigma_B.to(x_BCHW.dtype).view(-1, 1, 1, 1) * noise_BCHW

"""Pipeline folders of diffusers, which raycp reads as they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from raycp.config.models import ConsistencyPurifier, DenoiserModel
from raycp.errors import ModelError
from raycp.maths import karras_grid, noise_levels, predicted_x0
from raycp.parity.evaluation import denoised, read
from raycp.parity.fixture import Case
from raycp.purifiers import build_purifier


def consistency_pipeline(case: Case, folder: Path) -> dict[str, Tensor]:
    """The consistency function on the grid and beside it, and the pipeline as the purifier at its largest noise."""
    denoiser = read(case.checkpoint, class_label=0)
    if denoiser.num_steps is None:
        raise ModelError(f"{case.checkpoint} has no noise grid: its scheduler says no num_train_timesteps.")
    grid = karras_grid(denoiser.num_steps, denoiser.sigma_min, denoiser.sigma_max, denoiser.rho).flip(0)
    sigma = grid[case.tensor("train_timestep")]
    found = denoised(denoiser, case.tensor("x_t"), sigma.tolist(), case.tensor("class_labels"))
    beside = denoised(
        denoiser,
        case.tensor("offgrid_x_t"),
        case.tensor("offgrid_sigma").tolist(),
        case.tensor("offgrid_class_labels"),
    )
    model = DenoiserModel(path=str(case.checkpoint), class_label=0)
    purify = build_purifier(ConsistencyPurifier(kind="consistency", model=model, clip=True), denoiser)
    # Pure noise, for the model an image of zeros under its largest noise, in pixel units.
    noise = (denoiser.sigma_max * case.tensor("pipeline_latents") + 1) / 2
    return {
        "sigma": sigma,
        "network_timestep": found.conditioning,
        "model_output": found.output,
        "pred": found.image,
        "pred_clipped": found.image.clamp(-1, 1),
        "offgrid_model_output": beside.output,
        "offgrid_pred": beside.image,
        "pipeline_image": purify(noise, denoiser.sigma_max / 2),
    }


def ddpm_pipeline(case: Case, folder: Path) -> dict[str, Tensor]:
    """The scaled noisy image, the noise that is predicted in it, and the image that it implies."""
    denoiser = read(case.checkpoint, class_label=None)
    abar = denoiser.alphas_cumprod
    if abar is None:
        raise ModelError(
            f"{case.checkpoint} is no ddpm model: its scheduler is one of {denoiser.parametrisation}."
        )
    steps = case.tensor("t")
    x_t, levels = case.tensor("x_t"), noise_levels(abar)[steps].float().view(-1, 1, 1, 1)
    noisy = case.tensor("x") + levels / 2 * case.tensor("noise")
    eps = torch.cat([denoiser.predict_noise(x_t[i : i + 1], t) for i, t in enumerate(steps.tolist())])
    x0 = torch.stack([predicted_x0(x_t[i], eps[i], float(abar[t])) for i, t in enumerate(steps.tolist())])
    return {
        "alphas_cumprod": abar,
        "x_t": abar[steps].sqrt().float().view(-1, 1, 1, 1) * (2 * noisy - 1),
        "eps": eps,
        "pred_x0": x0,
        "pred_x0_clipped": x0.clamp(-1, 1),
    }

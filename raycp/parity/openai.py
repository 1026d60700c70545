"""Files of OpenAI: consistency_models, improved-diffusion, and consistency_models_cifar10."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from raycp.maths import first_timestep, learned_log_variance, predicted_x0
from raycp.models.conversion import Conversion, convert_denoiser, convert_facts
from raycp.models.flax_checkpoint import read_flax_checkpoint
from raycp.parity.evaluation import calls_of, denoised, read
from raycp.parity.fixture import Case


def consistency_models(case: Case, folder: Path) -> dict[str, Tensor]:
    """The network read as a consistency model and as an EDM denoiser."""
    size = case.entry("architecture", "create_model", "image_size", of=int)
    head_width = case.entry("architecture", "create_model", "num_head_channels", of=int)
    x_t, sigmas, labels = case.tensor("x_t"), case.tensor("sigmas").tolist(), case.tensor("class_labels")
    convert_denoiser(case.checkpoint, folder / "cm", Conversion("consistency", size, head_width))
    convert_denoiser(case.checkpoint, folder / "edm", Conversion("edm", size, head_width))
    found = denoised(read(folder / "cm", class_label=0), x_t, sigmas, labels)
    return {
        "model_output": found.output,
        "denoised": found.image,
        "denoised_edm_scaling": denoised(read(folder / "edm", class_label=0), x_t, sigmas, labels).image,
        # The same function, of an original that rounds in between.
        "denoised_attention_fp16": found.image,
    }


def improved_diffusion(case: Case, folder: Path) -> dict[str, Tensor]:
    """The noise, the image that it implies, and the variance that raycp has no use for elsewhere."""
    convert_denoiser(
        case.checkpoint,
        folder / "ddpm",
        Conversion(
            "ddpm",
            case.entry("architecture", "image_size_used", of=int),
            num_steps=case.entry("architecture", "create_gaussian_diffusion", "steps", of=int),
            betas=case.entry("architecture", "create_gaussian_diffusion", "noise_schedule", of=str),
        ),
    )
    denoiser = read(folder / "ddpm", class_label=None)
    abar = denoiser.alphas_cumprod
    assert abar is not None
    x_t = case.tensor("x_t")
    steps = [first_timestep(abar, 2 * sigma) for sigma in case.tensor("sigma").tolist()]
    with calls_of(denoiser.network) as calls:
        eps = torch.cat([denoiser.predict_noise(x_t[i : i + 1], t) for i, t in enumerate(steps)])
    output = torch.cat([call.output[0] for call in calls])
    values = output[:, denoiser.channels :]
    x0 = torch.cat([predicted_x0(x_t[i], eps[i], float(abar[t]))[None] for i, t in enumerate(steps)])
    variances = [learned_log_variance(values[i], abar, t)[None] for i, t in enumerate(steps)]
    return {
        "t": torch.tensor(steps),
        "alphas_cumprod": abar,
        "model_output": output,
        "eps": eps,
        "pred_xstart": x0,
        "pred_xstart_clipped": x0.clamp(-1, 1),
        "log_variance": torch.cat(variances),
    }


def cifar10_consistency_models(case: Case, folder: Path) -> dict[str, Tensor]:
    """The averaged parameters as a consistency model and as an EDM denoiser, and those that were not averaged."""
    size = case.entry("architecture", "config.data.image_size", of=int)
    consistency = Conversion("consistency", size)
    facts, _ = convert_denoiser(case.checkpoint, folder / "cm", consistency)
    convert_denoiser(case.checkpoint, folder / "edm", Conversion("edm", size))
    raw = dataclasses.replace(facts, state=read_flax_checkpoint(case.checkpoint, "params").state)
    convert_facts(raw, case.checkpoint, folder / "raw", consistency)
    x_t, times = case.tensor("x_t"), case.tensor("t").tolist()
    found = denoised(read(folder / "cm", class_label=None), x_t, times)
    return {
        "model_output": found.output,
        "denoised": found.image,
        "denoised_edm_scaling": denoised(read(folder / "edm", class_label=None), x_t, times).image,
        "denoised_from_params": denoised(read(folder / "raw", class_label=None), x_t, times).image,
    }

"""Denoisers and purifiers against the outputs that diffusers itself recorded from the published format."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, DenoiserModel
from raycp.models import build_denoiser, read_denoiser
from raycp.purifiers import build_purifier


@torch.no_grad()
def test_the_recorded_consistency_outputs(shared_data: Path) -> None:
    folder = shared_data / "parity" / "diffusers-consistency"
    io = load_file(folder / "io.safetensors")
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(folder / "pipeline"), class_label=0)))
    assert (denoiser.parametrisation, denoiser.num_steps, denoiser.image_size) == (
        "consistency",
        40,
        (16, 16),
    )
    for prefix, count in (("", 6), ("offgrid_", 3)):
        for i in range(count):
            labelled = dataclasses.replace(denoiser, class_label=int(io[f"{prefix}class_labels"][i]))
            x_t, sigma = io[f"{prefix}x_t"][i : i + 1], float(io[f"{prefix}sigma"][i])
            pred = labelled(x_t, sigma)
            assert float((pred - io[f"{prefix}pred"][i : i + 1]).abs().max()) <= 1e-4
            if not prefix:
                assert float((pred.clamp(-1, 1) - io["pred_clipped"][i : i + 1]).abs().max()) <= 1e-4
    # The raw network, at the recorded conditioning.
    for i in range(6):
        c_in = 1 / (float(io["sigma"][i]) ** 2 + 0.25) ** 0.5
        conditioning, labels = io["network_timestep"][i : i + 1].float(), io["class_labels"][i : i + 1]
        output = denoiser.network(c_in * io["x_t"][i : i + 1], conditioning, labels, return_dict=False)[0]
        assert float((output - io["model_output"][i : i + 1]).abs().max()) <= 1e-3


@torch.no_grad()
def test_the_recorded_consistency_pipeline_is_the_purifier_at_its_largest_sigma(shared_data: Path) -> None:
    folder = shared_data / "parity" / "diffusers-consistency"
    io = load_file(folder / "io.safetensors")
    model = DenoiserModel(path=str(folder / "pipeline"), class_label=0)
    config = ConsistencyPurifier(kind="consistency", model=model, clip=True)
    purify = build_purifier(config, build_denoiser(read_denoiser(model)))
    noise = (80 * io["pipeline_latents"] + 1) / 2
    assert float((purify(noise, 40.0) - io["pipeline_image"]).abs().max()) <= 1e-4


@torch.no_grad()
def test_the_recorded_ddpm_outputs(shared_data: Path) -> None:
    folder = shared_data / "parity" / "diffusers-ddpm"
    io = load_file(folder / "io.safetensors")
    model = DenoiserModel(path=str(folder / "pipeline"))
    denoiser = build_denoiser(read_denoiser(model))
    assert denoiser.alphas_cumprod is not None
    assert float((denoiser.alphas_cumprod - io["alphas_cumprod"]).abs().max()) <= 1e-6
    step_of = {145: 0.25, 259: 0.5, 396: 1.0}
    purified = 0
    for i, t in enumerate(io["t"].tolist()):
        eps = denoiser.predict_noise(io["x_t"][i : i + 1], t)
        assert float((eps - io["eps"][i : i + 1]).abs().max()) <= 1e-4
        if t not in step_of:
            continue
        # The recorded x_t, undone to pixels, is a noisy image whose purification is the recorded prediction.
        abar = float(io["alphas_cumprod"][t])
        x = (io["x_t"][i : i + 1] / abar**0.5 + 1) / 2
        for clip, name in ((False, "pred_x0"), (True, "pred_x0_clipped")):
            purify = build_purifier(DDPMPurifier(kind="ddpm", model=model, clip=clip), denoiser)
            expected = (io[name][i : i + 1] + 1) / 2
            assert float((purify(x, step_of[t]) - expected).abs().max()) <= 1e-4 / abar**0.5
        purified += 1
    assert purified == 3

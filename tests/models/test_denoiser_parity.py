"""The DDPM purifier in pixel units against what diffusers itself recorded; `raycp weights check` holds the rest."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from raycp.config.models import DDPMPurifier, DenoiserModel
from raycp.models import build_denoiser, read_denoiser
from raycp.purifiers import build_purifier


@torch.no_grad()
def test_the_purifier_is_the_recorded_prediction(shared_data: Path) -> None:
    folder = shared_data / "parity" / "diffusers-ddpm"
    io = load_file(folder / "io.safetensors")
    model = DenoiserModel(path=str(folder / "pipeline"))
    denoiser = build_denoiser(read_denoiser(model))
    step_of = {145: 0.25, 259: 0.5, 396: 1.0}
    purified = 0
    for i, t in enumerate(io["t"].tolist()):
        if t not in step_of:
            continue
        # The recorded x_t, undone to pixels, is a noisy image.
        abar = float(io["alphas_cumprod"][t])
        x = (io["x_t"][i : i + 1] / abar**0.5 + 1) / 2
        for clip, name in ((False, "pred_x0"), (True, "pred_x0_clipped")):
            purify = build_purifier(DDPMPurifier(kind="ddpm", model=model, clip=clip), denoiser)
            expected = (io[name][i : i + 1] + 1) / 2
            assert float((purify(x, step_of[t]) - expected).abs().max()) <= 1e-4 / abar**0.5
        purified += 1
    assert purified == 3

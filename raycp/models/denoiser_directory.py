"""Writing denoisers in the layout of diffusers pipelines: DIR/unet and DIR/scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from raycp.models.denoiser import Parametrisation
from raycp.models.score_unet import ScoreUNet

_SCHEDULER_OF = {
    "consistency": "CMStochasticIterativeScheduler",
    "edm": "EDMEulerScheduler",
    "ddpm": "DDPMScheduler",
}


def save_denoiser(
    directory: str | Path,
    unet: Any,
    parametrisation: Parametrisation,
    conditioning_scale: float = 1.0,
    **scheduler: Any,
) -> None:
    """Write a pipeline directory that `read_denoiser` and diffusers read.

    Args:
        directory: created if need be.
        unet: a diffusers `UNet2DModel`, or a `ScoreUNet`, which diffusers does not read.
        parametrisation: decides the class of the scheduler.
        conditioning_scale: see `NoiseSchedule`; diffusers knows no other than 1.
        scheduler: arguments of that class: sigma_min, sigma_max, sigma_data, rho and num_train_timesteps of a
            consistency or edm model; num_train_timesteps, beta_schedule, ... of a ddpm one.
    """
    import diffusers

    directory = Path(directory)
    made = getattr(diffusers, _SCHEDULER_OF[parametrisation])(**scheduler)
    if isinstance(unet, ScoreUNet):
        _save_score_unet(directory / "unet", unet)
    else:
        unet.save_pretrained(directory / "unet", safe_serialization=True)
    made.save_pretrained(directory / "scheduler")
    if conditioning_scale != 1:
        path = directory / "scheduler" / "scheduler_config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"conditioning_scale": conditioning_scale}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_score_unet(folder: Path, network: ScoreUNet) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"_class_name": ScoreUNet.__name__, **network.config}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")

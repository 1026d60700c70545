"""Writing denoisers in the layout of diffusers pipelines: DIR/unet and DIR/scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raycp.models.denoiser import Parametrisation

_SCHEDULER_OF = {
    "consistency": "CMStochasticIterativeScheduler",
    "edm": "EDMEulerScheduler",
    "ddpm": "DDPMScheduler",
}


def save_denoiser(
    directory: str | Path, unet: Any, parametrisation: Parametrisation, **scheduler: Any
) -> None:
    """Write a pipeline directory that `read_denoiser` and diffusers read.

    Args:
        directory: created if need be.
        unet: a diffusers `UNet2DModel`.
        parametrisation: decides the class of the scheduler.
        scheduler: arguments of that class: sigma_min, sigma_max, sigma_data, rho and num_train_timesteps of a
            consistency or edm model; num_train_timesteps, beta_schedule, ... of a ddpm one.
    """
    import diffusers

    directory = Path(directory)
    made = getattr(diffusers, _SCHEDULER_OF[parametrisation])(**scheduler)
    unet.save_pretrained(directory / "unet", safe_serialization=True)
    made.save_pretrained(directory / "scheduler")

"""The diffusers scheduler beside a network: which parametrisation it stands for, and its noise schedule."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError
from raycp.maths import cosine_alphas_cumprod
from raycp.models.denoiser import Parametrisation
from raycp.models.json_file import read_json_object

PARAMETRISATION_OF: dict[str, Parametrisation] = {
    "CMStochasticIterativeScheduler": "consistency",
    "EDMEulerScheduler": "edm",
    "EDMDPMSolverMultistepScheduler": "edm",
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddpm",
}

_NUMBERS = ("sigma_data", "sigma_min", "sigma_max", "rho")
_BETAS = (
    "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas", "rescale_betas_zero_snr",
)  # fmt: skip


@dataclass(frozen=True)
class NoiseSchedule:
    """What the arithmetic around a network needs to know; plain JSON values."""

    parametrisation: Parametrisation
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    num_steps: int | None = None
    betas: dict[str, Any] = field(default_factory=dict)
    """ddpm: the arguments of a diffusers DDPMScheduler that determine its betas."""
    conditioning_scale: float = 1.0
    """What the network's noise conditioning is multiplied by: ddpm, the step (1000 / T in improved-diffusion); edm,
    `ln(s)/4` (1000 in the EDM models of consistency_models); consistency, `250 ln(s)` (1/1000 in the JAX models)."""

    def as_recipe(self) -> dict[str, Any]:
        """Its part of a bundle's recipe, whose hash must stay what it was before there was a `conditioning_scale`."""
        recipe = asdict(self)
        if self.conditioning_scale == 1:
            del recipe["conditioning_scale"]
        return recipe


def read_schedule(folder: Path, config: DenoiserModel) -> NoiseSchedule:
    """Merge scheduler/scheduler_config.json with the run's configuration, which has the last word on numbers.

    Args:
        folder: pipeline folder, which may have no scheduler.
        config: the model's section of the run's configuration.

    Raises:
        ModelError: no parametrisation is known, the two sources contradict each other, or the scheduler is of a
            kind whose networks raycp does not evaluate.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    found = _diffusers_config(path) if path.is_file() else {}
    parametrisation = _parametrisation(path, found.get("_class_name"), config.parametrisation)
    if found.get("prediction_type", "epsilon") != "epsilon":
        raise ModelError(
            f"{path} has prediction_type {found['prediction_type']!r}; raycp evaluates networks trained with epsilon."
        )
    scale = _conditioning_scale(path, found)
    given = {name: getattr(config, name) for name in _NUMBERS if getattr(config, name) is not None}
    if parametrisation == "ddpm":
        if given:
            raise ModelError(
                f"purifier.model.{next(iter(given))} has no meaning for a ddpm model, whose noise levels are those of "
                f"{path}; remove the key."
            )
        betas = {name: found[name] for name in _BETAS}
        return NoiseSchedule(
            "ddpm", betas=betas, num_steps=found["num_train_timesteps"], conditioning_scale=scale
        )
    numbers: dict[str, Any] = {name: float(found[name]) for name in _NUMBERS if name in found} | given
    steps = found.get("num_train_timesteps")
    schedule = NoiseSchedule(parametrisation, num_steps=steps, conditioning_scale=scale, **numbers)
    if schedule.sigma_min >= schedule.sigma_max:
        raise ModelError(
            f"sigma_min must be below sigma_max, got {schedule.sigma_min} and {schedule.sigma_max} "
            f"from purifier.model together with {path}."
        )
    return schedule


def alphas_cumprod(betas: dict[str, Any]) -> Tensor:
    """The products abar, float64 [T]: of the cosine schedule as its authors take them, else those of diffusers."""
    from diffusers import DDPMScheduler

    changed = betas.get("trained_betas") is not None or betas.get("rescale_betas_zero_snr")
    if betas["beta_schedule"] == "squaredcos_cap_v2" and not changed:
        return cosine_alphas_cumprod(betas["num_train_timesteps"])
    scheduler: Any = DDPMScheduler
    products: Tensor = scheduler(**betas).alphas_cumprod  # in float32
    return products.double()


def _diffusers_config(path: Path) -> dict[str, Any]:
    """The scheduler's arguments with the defaults of its class filled in."""
    import diffusers

    content = read_json_object(path)
    name = content.get("_class_name")
    if name not in PARAMETRISATION_OF:
        raise ModelError(f"{path} describes a {name}; known schedulers are {', '.join(PARAMETRISATION_OF)}.")
    ours = {
        key: content.pop(key) for key in ("conditioning_scale",) if key in content
    }  # diffusers does not know it
    try:
        scheduler = getattr(diffusers, name).from_config(content)
    except (ValueError, TypeError, NotImplementedError) as err:
        raise ModelError(f"{path} is not a {name} that diffusers can build: {err}") from err
    return {"_class_name": name, **scheduler.config, **ours}


def _conditioning_scale(path: Path, found: dict[str, Any]) -> float:
    scale = found.get("conditioning_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise ModelError(f"{path}: conditioning_scale must be a number above 0, got {scale!r}.")
    return float(scale)


def _parametrisation(
    path: Path, scheduler: str | None, configured: Parametrisation | None
) -> Parametrisation:
    if scheduler is None:
        if configured is None:
            raise ModelError(
                f"there is no {path}, so purifier.model.parametrisation must say how the network's output becomes "
                f"an image: {', '.join(get_args(Parametrisation))}."
            )
        if configured == "ddpm":
            raise ModelError(
                f"a ddpm model needs the noise schedule it was trained with, but there is no {path}."
            )
        return configured
    found = PARAMETRISATION_OF[scheduler]
    if configured not in (None, found):
        raise ModelError(
            f"purifier.model.parametrisation is {configured}, but {path} describes a {scheduler}, which is {found}; "
            "remove the key."
        )
    return found

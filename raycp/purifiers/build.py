"""From a purifier's configuration and its model to a function of pixel images."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from torch import Tensor

from raycp.config.models import (
    ConsistencyPurifier,
    DDPMPurifier,
    DensePurePurifier,
    DiffSmoothPurifier,
    EDMPurifier,
    NoPurifier,
    PFODEPurifier,
    PurifierConfig,
    PythonPurifier,
)
from raycp.errors import ModelError
from raycp.maths import closed_form_timestep, karras_grid, noise_levels
from raycp.models import Denoiser, Parametrisation
from raycp.purifiers.consistency import OneStepConsistency
from raycp.purifiers.ddpm import OneStepDDPM
from raycp.purifiers.densepure import DensePure
from raycp.purifiers.diffsmooth import DiffSmooth
from raycp.purifiers.pf_ode import ProbabilityFlow
from raycp.purifiers.pixels import (
    Estimator,
    ModelUnits,
    PixelPurifier,
    PredictedClassPurifier,
    Purifier,
    unpurified,
)

_NEEDED: dict[str, tuple[Parametrisation, ...]] = {
    "ddpm": ("ddpm",),
    "edm": ("edm",),
    "pf_ode": ("edm",),
    "consistency": ("consistency",),
    "densepure": ("ddpm", "edm"),
    "diffsmooth": ("ddpm", "edm"),
}

# Grid of the published CIFAR-10 consistency models, for models whose directory names no number of steps.
_DEFAULT_NUM_STEPS = 18


@overload
def build_purifier(
    config: DensePurePurifier | DiffSmoothPurifier,
    denoiser: Denoiser | None,
    classify: Callable[[Tensor], Tensor] | None = None,
) -> DensePure | DiffSmooth: ...


@overload
def build_purifier(
    config: NoPurifier | DDPMPurifier | EDMPurifier | PFODEPurifier | ConsistencyPurifier,
    denoiser: Denoiser | None,
    classify: Callable[[Tensor], Tensor] | None = None,
) -> Purifier: ...


def build_purifier(
    config: PurifierConfig, denoiser: Denoiser | None, classify: Callable[[Tensor], Tensor] | None = None
) -> Purifier | DensePure | DiffSmooth:
    """Build the purifier, a function `(x_BCHW, sigma)` of pixel images, or one of those that draw.

    Args:
        config: the purifier section of the run's configuration; a user's own is `python.hold_to_contract`'s.
        denoiser: its model; None exactly when `config.kind` is none.
        classify: images [B,C,H,W], pixel units, to logits [B,K]; for a model that is told a predicted class.

    Raises:
        ModelError: the model is of another parametrisation than the purifier needs.
    """
    assert (denoiser is None) == isinstance(config, NoPurifier) and not isinstance(config, PythonPurifier)
    if isinstance(config, NoPurifier) or denoiser is None:
        return unpurified
    needed = _NEEDED[config.kind]
    if denoiser.parametrisation not in needed:
        raise ModelError(
            f"purifier.kind is {config.kind}, which needs a model of parametrisation {' or '.join(needed)}, but the "
            f"one of purifier.model is {denoiser.parametrisation}: choose another model, or another kind."
        )
    units = ModelUnits(denoiser.sigma_min, denoiser.sigma_max)
    if isinstance(config, DensePurePurifier):
        return _densepure(config, denoiser, units)
    purify = PixelPurifier(_estimator(config, denoiser), units, config.clip)
    if isinstance(config, DiffSmoothPurifier):
        _refuse_predicted_class(config, denoiser)
        return DiffSmooth(purify, config.num_copies, config.local_sigma, config.copies == "fixed")
    if not denoiser.class_predicted:
        return purify
    assert classify is not None
    return PredictedClassPurifier(purify, classify)


def _densepure(config: DensePurePurifier, denoiser: Denoiser, units: ModelUnits) -> DensePure:
    _refuse_predicted_class(config, denoiser)
    if denoiser.parametrisation == "ddpm" and config.timestep == "closed_form":
        _require_cosine_schedule(denoiser)
    if config.variance == "learned" and not denoiser.learned_variance:
        raise ModelError(
            "purifier.variance is learned, but the network of purifier.model predicts no variance; take small or large."
        )
    names = {"num_votes", "num_steps", "timestep", "variance", "clip"}
    return DensePure(denoiser, units, **config.model_dump(include=names))


def _refuse_predicted_class(config: DensePurePurifier | DiffSmoothPurifier, denoiser: Denoiser) -> None:
    if denoiser.class_predicted:
        raise ModelError(
            f"purifier.model.class_label is predicted, which purifier.kind {config.kind} does not do; take a class, "
            "none or mean."
        )


def _estimator(
    config: DDPMPurifier | EDMPurifier | PFODEPurifier | ConsistencyPurifier | DiffSmoothPurifier,
    denoiser: Denoiser,
) -> Estimator:
    if isinstance(config, DDPMPurifier) or (
        isinstance(config, DiffSmoothPurifier) and denoiser.parametrisation == "ddpm"
    ):
        if config.timestep == "closed_form":
            _require_cosine_schedule(denoiser)
        return OneStepDDPM(denoiser, config.timestep)
    if isinstance(config, EDMPurifier | DiffSmoothPurifier):
        return denoiser
    bounds = (denoiser.sigma_min, denoiser.sigma_max, denoiser.rho)
    if isinstance(config, PFODEPurifier):
        return ProbabilityFlow(denoiser, karras_grid(config.num_steps, *bounds), config.start == "snapped")
    if config.time == "exact":
        return OneStepConsistency(denoiser, None)
    num_steps = config.num_steps or denoiser.num_steps or _DEFAULT_NUM_STEPS
    return OneStepConsistency(denoiser, karras_grid(num_steps, *bounds))


def _require_cosine_schedule(denoiser: Denoiser) -> None:
    """Hold the closed form, which knows the cosine schedule only, against the schedule of the model."""
    abar = denoiser.alphas_cumprod
    assert abar is not None
    # In its middle, 2 sigma = 1, abar is 1/2 and falls by about pi/2 per T steps; the formula is two steps off at most.
    t = closed_form_timestep(len(abar), 1.0)
    if abs(float(abar[t]) - 0.5) > 4 / len(abar):
        raise ModelError(
            "purifier.timestep closed_form is a formula for the cosine schedule: for sigma = 0.5 it gives step "
            f"{t} of {len(abar)}, where the schedule of purifier.model has noise of sigma = "
            f"{float(noise_levels(abar)[t]) / 2:.3g}; use search."
        )

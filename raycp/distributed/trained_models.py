"""The models of a training: made, kept in the run directory, and taken from there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from raycp.config import resolved
from raycp.config.models import PythonClassifier
from raycp.config.train import TrainConfig
from raycp.models import (
    Bundle,
    Classifier,
    Parametrisation,
    ResidualClassifier,
    build_classifier,
    build_denoiser,
    save_classifier,
    save_denoiser,
    save_stored_classifier,
)
from raycp.storage import Storage
from raycp.training.networks import OnModelUnits
from raycp.training.run_files import CARD, MODELS
from raycp.training.stages import Diffusion, Trained


def make_unet(stage: Any, channels: int, height: int, width: int) -> nn.Module:
    """A U-Net of the shape that a stage asks for, with random weights."""
    from diffusers import UNet2DModel

    levels = len(stage.block_out_channels)
    unet: nn.Module = UNet2DModel(  # type: ignore[no-untyped-call, assignment]
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=stage.block_out_channels,
        layers_per_block=stage.layers_per_block,
        norm_num_groups=stage.norm_num_groups,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
    )
    return unet


def build_trained(bundle: Bundle) -> Trained:
    """The plain network of a model, and the constants that the losses put around it."""
    if "schedule" not in bundle.recipe:
        classifier = build_classifier(bundle)
        if takes_model_units(bundle.recipe):
            return Trained(classifier.network)
        return Trained(OnModelUnits(classifier), recipe=bundle.recipe)
    denoiser = build_denoiser(bundle)
    if denoiser.parametrisation == "ddpm":
        ddpm = Diffusion(
            conditioning_scale=denoiser.conditioning_scale,
            betas=bundle.recipe["schedule"]["betas"],
            alphas_cumprod_T=denoiser.alphas_cumprod,
        )
        return Trained(denoiser.network, ddpm)
    num_steps = denoiser.num_steps if denoiser.parametrisation == "consistency" else None
    grid = num_steps, denoiser.sigma_min, denoiser.sigma_max, denoiser.rho
    constants = Diffusion(denoiser.sigma_data, *grid, conditioning_scale=denoiser.conditioning_scale)
    return Trained(denoiser.network, constants)


def functions_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The functions that a training's classifiers are made by, which their directories may name."""
    sections = [model for model in config.models.values() if isinstance(model, PythonClassifier)]
    return [{"factory": section.factory, "kwargs": resolved(section)["kwargs"]} for section in sections]


def takes_model_units(recipe: Mapping[str, Any]) -> bool:
    """Whether a classifier is one of raycp's own networks, with nothing before it but the change to [-1,1]."""
    half = [0.5] * (recipe["in_channels"] or 0)
    return (
        recipe["kind"] == "directory" and recipe["mean"] == recipe["std"] == half and recipe["resize"] is None
    )


def has_model(storage: Storage, name: str) -> bool:
    """Whether the run directory holds the model of a stage, whole."""
    return storage.read(f"{MODELS}/{name}/{CARD}") is not None


def save_model(
    storage: Storage,
    name: str,
    network: Any,
    diffusion: Diffusion | None,
    recipe: Mapping[str, Any] | None,
    image_size: tuple[int, int],
    class_names: tuple[str, ...] | None,
    card: dict[str, Any],
) -> None:
    """Write the model directory of a stage, the card last.

    Args:
        storage: the run directory.
        name: of the stage.
        network: a residual classifier, another one on model units, or a U-Net, on the CPU.
        diffusion: constants of a denoiser, DDPM or consistency model; None for a classifier.
        recipe: of a classifier on model units; None for others.
        image_size: height and width it was trained on, pixels.
        class_names: of a classifier.
        card: how it was trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        if recipe is not None:
            _save_classifier(folder, network.classifier, recipe, image_size, class_names)
        elif diffusion is None:
            half = [0.5] * network.in_channels
            save_classifier(
                folder, network, image_size=image_size, class_names=class_names, mean=half, std=half
            )
        elif diffusion.betas is not None:
            save_denoiser(folder, network, "ddpm", diffusion.conditioning_scale, **diffusion.betas)
        else:
            scheduler: dict[str, Any] = {"sigma_data": diffusion.sigma_data}
            if diffusion.num_steps is not None:
                scheduler |= {key: getattr(diffusion, key) for key in ("sigma_min", "sigma_max", "rho")}
                scheduler["num_train_timesteps"] = diffusion.num_steps
            kind: Parametrisation = "edm" if diffusion.num_steps is None else "consistency"
            save_denoiser(folder, network, kind, diffusion.conditioning_scale, **scheduler)
        (Path(folder) / CARD).write_text(json.dumps(card, indent=2) + "\n")
        storage.put_folder(f"{MODELS}/{name}", Path(folder), last=CARD)


def _save_classifier(
    folder: str,
    classifier: Classifier,
    recipe: Mapping[str, Any],
    image_size: tuple[int, int],
    class_names: tuple[str, ...] | None,
) -> None:
    if recipe["kind"] != "directory":
        save_stored_classifier(folder, classifier, recipe, image_size=image_size, class_names=class_names)
        return
    network = cast(ResidualClassifier, classifier.network)
    mean, std = recipe["mean"], recipe["std"]
    save_classifier(
        folder,
        network,
        image_size=image_size,
        class_names=class_names,
        mean=mean,
        std=std,
        resize=classifier.resize,
    )

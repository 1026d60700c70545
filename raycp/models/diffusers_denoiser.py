"""Reading and building denoisers that are diffusers `UNet2DModel` directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError
from raycp.maths import noise_levels
from raycp.models.bundle import Bundle, fitted_state, load_state, make_bundle, require_all_in_state
from raycp.models.denoiser import Denoiser
from raycp.models.diffusers_unet import make_unet
from raycp.models.json_file import read_json_object
from raycp.models.place import local_folder
from raycp.models.scheduler import NoiseSchedule, alphas_cumprod, read_schedule
from raycp.models.score_unet import ScoreUNet
from raycp.models.weights import read_tensors

_WEIGHT_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
)

_DIFFUSERS, _OURS = "UNet2DModel", ScoreUNet.__name__

# Rows of the class embedding after those of the classes; predicted begins with the mean.
_BEYOND_CLASSES = {"none": 0, "mean": 1, "predicted": 1}

# Names of the attention layers in directories of early diffusers (google/ddpm-cifar10-32), and their names since.
_RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_denoiser(config: DenoiserModel) -> Bundle:
    """Read a UNet2DModel directory, bare or inside a pipeline directory.

    Raises:
        ModelError: files are missing, damaged, or of a network that raycp cannot evaluate.
        UnsafeFileError: a torch file would run code.
    """
    folder = local_folder(config.path)
    if folder.is_file():
        raise ModelError(
            f"purifier.model.path: {folder} is a file, not a model folder; `raycp weights convert` makes a folder of a "
            "published file."
        )
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (unet / "config.json").is_file():
        raise ModelError(f"purifier.model.path: {folder} has neither config.json nor unet/config.json.")
    content = read_json_object(unet / "config.json")
    kind = content.get("_class_name", _DIFFUSERS)
    if kind not in (_DIFFUSERS, _OURS):
        raise ModelError(f"{unet / 'config.json'} describes a {kind}; allowed are {_DIFFUSERS} and {_OURS}.")
    arguments = {name: value for name, value in content.items() if not name.startswith("_")}
    schedule = read_schedule(folder, config)
    network = _empty_network(kind, arguments, str(unet / "config.json"))
    # With the defaults of its class filled in, so that the recipe says everything.
    arguments = {name: value for name, value in network.config.items() if not name.startswith("_")}
    require_all_in_state(network, str(unet / "config.json"))
    if kind == _DIFFUSERS:
        _check_network(arguments, schedule, unet)
    elif schedule.parametrisation == "ddpm":
        raise ModelError(
            f"{unet} holds a {kind}, which takes the noise conditioning of edm and consistency models."
        )
    _check_class_label(arguments["num_class_embeds"], config.class_label, unet)
    weights = next((unet / name for name in _WEIGHT_FILES if (unet / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{unet} has no weights; looked for {', '.join(_WEIGHT_FILES)}.")
    tensors = _with_current_names(read_tensors(weights, key="purifier.model.path"), network)
    state = fitted_state(network, tensors, str(weights))
    recipe = {"network": arguments, "schedule": schedule.as_recipe(), "class_label": config.class_label}
    if kind != _DIFFUSERS:
        recipe["class"] = kind
    return make_bundle(recipe, state, network)


def build_denoiser(bundle: Bundle) -> Denoiser:
    """Build the denoiser from a bundle, without files: float32, eval mode, no gradients, on the CPU."""
    arguments, schedule = bundle.recipe["network"], NoiseSchedule(**bundle.recipe["schedule"])
    kind = bundle.recipe.get("class", _DIFFUSERS)
    network = load_state(_empty_network(kind, arguments, "the bundle"), bundle.state, assign=True)
    classes, label = arguments["num_class_embeds"], bundle.recipe["class_label"]
    if classes is not None and kind == _DIFFUSERS:
        _add_no_class_and_mean(network)
    abar, sigma_min, sigma_max = None, schedule.sigma_min, schedule.sigma_max
    if schedule.parametrisation == "ddpm":
        abar = alphas_cumprod(schedule.betas)
        levels = noise_levels(abar)
        sigma_min, sigma_max = float(levels[0]), float(levels[-1])
    return Denoiser(
        network=network,
        parametrisation=schedule.parametrisation,
        channels=arguments["in_channels"],
        image_size=_image_size(arguments["sample_size"]),
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        sigma_data=schedule.sigma_data,
        rho=schedule.rho,
        num_steps=schedule.num_steps,
        num_classes=classes,
        class_label=classes + _BEYOND_CLASSES[label] if isinstance(label, str) else label,
        class_predicted=label == "predicted",
        alphas_cumprod=abar,
        learned_variance=kind == _DIFFUSERS and arguments["out_channels"] > arguments["in_channels"],
        conditioning_scale=schedule.conditioning_scale,
    )


def _add_no_class_and_mean(network: Any) -> None:
    """Rows K and K + 1 of the class embedding: zeros, which add nothing, and the mean."""
    rows_KD = network.class_embedding.weight
    more = torch.stack([torch.zeros_like(rows_KD[0]), rows_KD.double().mean(dim=0).float()])
    network.class_embedding.weight = nn.Parameter(torch.cat([rows_KD, more]), requires_grad=False)


def _empty_network(kind: str, arguments: dict[str, Any], source: str) -> Any:
    """The network on the meta device: shapes without memory and without random initialisation."""
    try:
        with torch.device("meta"):
            return ScoreUNet(**arguments) if kind == _OURS else make_unet(arguments)
    except (ValueError, TypeError, AttributeError, RuntimeError, LookupError, ArithmeticError) as err:
        whose = "can be built" if kind == _OURS else "diffusers can build"
        raise ModelError(f"{source} is not a {kind} that {whose}: {err}") from err


def _check_network(arguments: dict[str, Any], schedule: NoiseSchedule, unet: Path) -> None:
    """Refuse what the arithmetic of `Denoiser` would silently get wrong."""
    kind = schedule.parametrisation
    channels, outputs = arguments["in_channels"], arguments["out_channels"]
    if outputs != channels and not (kind == "ddpm" and outputs == 2 * channels):
        also = f" or {2 * channels} (with a learned variance)" if kind == "ddpm" else ""
        raise ModelError(f"{unet}: out_channels must be {channels}, as in_channels{also}, got {outputs}.")
    embedding = arguments["time_embedding_type"]
    if embedding == "fourier" or (embedding == "learned" and kind != "ddpm"):
        raise ModelError(
            f"{unet}: time_embedding_type {embedding!r} does not take the noise conditioning of a {kind} model; "
            "allowed is positional" + (" or learned." if kind == "ddpm" else ".")
        )
    if arguments["class_embed_type"] is not None:
        raise ModelError(f"{unet}: class_embed_type must be null, got {arguments['class_embed_type']!r}.")


def _check_class_label(classes: int | None, class_label: int | str | None, unet: Path) -> None:
    if classes is None and class_label is not None:
        raise ModelError(
            f"purifier.model.class_label is {class_label}, but the network in {unet} is unconditional."
        )
    if isinstance(class_label, str):
        return
    if classes is not None and (class_label is None or class_label >= classes):
        given = f"got {class_label}"
        if class_label is None:
            given = (
                "which is null (a training starts from what `raycp weights convert --unconditional` makes)"
            )
        raise ModelError(
            f"the network in {unet} is conditioned on one of {classes} classes: purifier.model.class_label must be "
            f"0 to {classes - 1}, none, mean or predicted, {given}."
        )


def _with_current_names(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    expected = network.state_dict()
    return {name if name in expected else _current_name(name): tensor for name, tensor in tensors.items()}


def _current_name(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def _image_size(sample_size: int | list[int] | None) -> tuple[int, int] | None:
    if sample_size is None:
        return None
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    return height, width

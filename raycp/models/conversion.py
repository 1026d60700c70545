"""Published denoisers and consistency models, converted into the directories that raycp and diffusers read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError
from raycp.models.bundle import Bundle, fitted_state
from raycp.models.denoiser import Parametrisation
from raycp.models.denoiser_directory import save_denoiser
from raycp.models.diffusers_denoiser import read_denoiser
from raycp.models.diffusers_unet import make_unet
from raycp.models.edm_unet import edm_unet
from raycp.models.file_facts import EDM_PICKLE, FLAX, FileFacts, file_facts
from raycp.models.flax_checkpoint import ncsnpp
from raycp.models.openai_unet import diffusers_unet, is_openai_unet
from raycp.models.score_unet import ScoreUNet

CARD = "card.json"
DDPM_STEPS = 4000
"""Of the published models of improved-diffusion."""
CONSISTENCY_STEPS = 40
"""Times of the grid of the distilled models for ImageNet-64."""
_NOISE: dict[str, Any] = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0}
CIFAR_SIZE, CIFAR_STEPS = 32, 18
"""Of the published models for CIFAR-10: height and width, and times of the grid."""
BetaSchedule = Literal["cosine", "linear"]
_BETAS: dict[BetaSchedule, dict[str, Any]] = {
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
}


@dataclass(frozen=True)
class Conversion:
    """What a published file does not say. A file of EDM says all of it, one of OpenAI not even the first two.

    Attributes:
        parametrisation: how the network's output becomes an image.
        image_size: height and width, pixels.
        head_width: channels of an attention head; None: as published.
        num_steps: times of the grid of a consistency model (40 where it was distilled, 201 in ct_imagenet64.pt), or
            steps of a ddpm model; None: 40 (18 for CIFAR-10), and 4000.
        betas: schedule of a ddpm model.
        unconditional: of a class-conditional network, make one that sees the mean of all class embeddings instead
            (Li et al. 2024, for ImageNet-64; to be trained on).
    """

    parametrisation: Parametrisation | None = None
    image_size: int | None = None
    head_width: int | None = None
    num_steps: int | None = None
    betas: BetaSchedule = "cosine"
    unconditional: bool = False


def convert_denoiser(
    file: str | Path, directory: str | Path, conversion: Conversion
) -> tuple[FileFacts, Bundle | None]:
    """Write the network of a published file as a pipeline directory, with a card that names the file.

    Args:
        file: a network of OpenAI (PyTorch or flax) or of NVlabs' EDM, as published.
        directory: must not exist, or be empty.
        conversion: what the file does not say.

    Returns:
        The facts of the file, and the model as read from the directory; None for a class-conditional one, which is
        read with a class.

    Raises:
        ModelError: the file is missing, damaged or of another network, there is something in the directory, or
            something is not said.
        UnsafeFileError: the file would run code if it were unpickled.
    """
    file, directory = Path(file).expanduser(), Path(directory).expanduser()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory} is there already and not empty; take another --out.")
    facts = file_facts(file)
    return facts, convert_facts(facts, file, directory, conversion)


def convert_facts(facts: FileFacts, file: Path, directory: Path, conversion: Conversion) -> Bundle | None:
    """What `convert_denoiser` does with the facts of a file, which it gives a name to."""
    if facts.format == EDM_PICKLE:
        made = _edm(facts, conversion, str(file))
    elif facts.format == FLAX:
        made = _flax(facts, conversion, str(file))
    else:
        made = _openai(facts, conversion, str(file))
    if conversion.unconditional:
        _forget_classes(made, str(file))
    network: Any = (
        ScoreUNet(**made.arguments) if made.kind == ScoreUNet.__name__ else make_unet(made.arguments)
    )
    network.load_state_dict(fitted_state(network, made.tensors, str(file)), strict=True)
    save_denoiser(directory, network, made.parametrisation, made.conditioning_scale, **made.scheduler)
    origin = {"file": file.name, "sha256": facts.sha256, "format": facts.format, "network": facts.network}
    card = {
        "converted_from": origin,
        "parametrisation": made.parametrisation,
        "unconditional": conversion.unconditional,
    }
    (directory / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    labelled = made.arguments["num_class_embeds"] is not None
    return None if labelled else read_denoiser(DenoiserModel(path=str(directory)))


@dataclass(frozen=True)
class _Made:
    kind: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    parametrisation: Parametrisation
    scheduler: dict[str, Any]
    conditioning_scale: float


def _forget_classes(made: _Made, source: str) -> None:
    """Put the mean class embedding, a constant, into the bias that it is added beside: exact, and one layer fewer."""
    classes, tensors = made.arguments["num_class_embeds"], made.tensors
    if classes is None:
        raise ModelError(f"{source} is unconditional as it is; leave --unconditional out.")
    if made.kind == ScoreUNet.__name__:
        mean = tensors.pop("map_label.weight").double().mean(dim=1) * classes**0.5
        added = tensors["map_layer0.weight"].double() @ (mean + tensors.pop("map_label.bias").double())
        name = "map_layer0.bias"
    else:
        added = tensors.pop("class_embedding.weight").double().mean(dim=0)
        name = "time_embedding.linear_2.bias"
    tensors[name] = (tensors[name].double() + added).float()
    made.arguments["num_class_embeds"] = None


def _edm(facts: FileFacts, conversion: Conversion, source: str) -> _Made:
    kind, arguments, tensors = edm_unet(facts.arguments, facts.state, source, conversion.head_width)
    given = {"parametrisation": conversion.parametrisation, "image_size": conversion.image_size}
    said = {"parametrisation": "edm", "image_size": arguments["sample_size"]}
    for name, value in given.items():
        if value not in (None, said[name]):
            raise ModelError(f"{source} is a network of EDM with {name} {said[name]}, not {value}.")
    scheduler = _NOISE | {"sigma_data": float(facts.arguments.get("sigma_data", 0.5))}
    return _Made(kind, arguments, tensors, "edm", scheduler, 1.0)


def _flax(facts: FileFacts, conversion: Conversion, source: str) -> _Made:
    arguments, tensors = ncsnpp(facts.state, conversion.image_size or CIFAR_SIZE, source)
    if conversion.parametrisation == "edm":
        return _Made(ScoreUNet.__name__, arguments, tensors, "edm", _NOISE, 1.0)
    if conversion.parametrisation != "consistency":
        raise ModelError(
            f"{source} is a {facts.network}: its tensors do not say whether it is a consistency or an edm model; give "
            "one of them (--as)."
        )
    scheduler = _NOISE | {"num_train_timesteps": conversion.num_steps or CIFAR_STEPS}
    # Conditioned on ln(s)/4, where the models in PyTorch are on 250 ln(s).
    return _Made(ScoreUNet.__name__, arguments, tensors, "consistency", scheduler, 1e-3)


def _openai(facts: FileFacts, conversion: Conversion, source: str) -> _Made:
    state = {name.removeprefix(facts.prefix): tensor for name, tensor in facts.state.items()}
    if not is_openai_unet(state):
        raise ModelError(
            f"{source} is a {facts.format} of this network: {facts.network}; converted are networks of OpenAI and "
            "the pickles of EDM."
        )
    parametrisation = conversion.parametrisation
    if parametrisation is None or conversion.image_size is None:
        raise ModelError(
            f"{source} is a {facts.network}: its tensors do not say whether it is a consistency, edm or ddpm model, "
            "nor the size of its images; give both (--as, --image-size)."
        )
    arguments, tensors = diffusers_unet(state, conversion.image_size, conversion.head_width, source)
    # Both families count in thousands: t 1000 / T (`rescale_timesteps`), and 1000 ln(s) / 4 of an EDM model, too.
    steps = conversion.num_steps
    scheduler, scale = _NOISE, 1.0
    if parametrisation == "ddpm":
        steps = steps or DDPM_STEPS
        scheduler, scale = {"num_train_timesteps": steps} | _BETAS[conversion.betas], 1000 / steps
    elif parametrisation == "edm":
        scale = 1000.0
    else:
        scheduler = _NOISE | {"num_train_timesteps": steps or CONSISTENCY_STEPS}
    return _Made("UNet2DModel", arguments, tensors, parametrisation, scheduler, scale)

"""Published denoisers and consistency models, converted into the directories that raycp and diffusers read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError
from raycp.models.bundle import Bundle, fitted_state
from raycp.models.denoiser import Parametrisation
from raycp.models.denoiser_directory import save_denoiser
from raycp.models.diffusers_denoiser import read_denoiser
from raycp.models.file_facts import FileFacts, file_facts
from raycp.models.openai_unet import diffusers_unet, is_openai_unet

CARD = "card.json"
DDPM_STEPS = 4000
"""Of the published models of improved-diffusion."""
CONSISTENCY_STEPS = 40
"""Times of the grid of the distilled models for ImageNet-64."""
BetaSchedule = Literal["cosine", "linear"]
_BETAS: dict[BetaSchedule, dict[str, Any]] = {
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
}


@dataclass(frozen=True)
class Conversion:
    """What the tensors of a published file do not say.

    Attributes:
        parametrisation: how the network's output becomes an image.
        image_size: height and width, pixels.
        head_width: channels of an attention head; None: as published.
        num_steps: times of the grid of a consistency model (40 where it was distilled, 201 in ct_imagenet64.pt), or
            steps of a ddpm model; None: 40, and 4000.
        betas: schedule of a ddpm model.
    """

    parametrisation: Parametrisation
    image_size: int
    head_width: int | None = None
    num_steps: int | None = None
    betas: BetaSchedule = "cosine"


def convert_denoiser(
    file: str | Path, directory: str | Path, conversion: Conversion
) -> tuple[FileFacts, Bundle | None]:
    """Write the network of a published file as a pipeline directory, with a card that names the file.

    Args:
        file: a U-Net of OpenAI, as published.
        directory: must not exist, or be empty.
        conversion: what the file does not say.

    Returns:
        The facts of the file, and the model as read from the directory; None for a class-conditional one, which is
        read with a class.

    Raises:
        ModelError: the file is missing, damaged or of another network, or there is something in the directory.
        UnsafeFileError: the file would run code if it were unpickled.
    """
    file, directory = Path(file).expanduser(), Path(directory).expanduser()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError(f"{directory} is there already and not empty; take another --out.")
    facts = file_facts(file)
    state = {name.removeprefix(facts.prefix): tensor for name, tensor in facts.state.items()}
    if not is_openai_unet(state):
        raise ModelError(
            f"{file} is a {facts.format} of {facts.network}; what can be converted is a U-Net of OpenAI."
        )
    arguments, tensors = diffusers_unet(state, conversion.image_size, conversion.head_width, str(file))
    from diffusers import UNet2DModel

    network_class: Any = UNet2DModel
    network = network_class(**arguments)
    network.load_state_dict(fitted_state(network, tensors, str(file)), strict=True)
    save_denoiser(directory, network, conversion.parametrisation, **_scheduler(conversion))
    _add_conditioning_scale(directory, conversion)
    card = {
        "converted_from": {
            "file": file.name,
            "sha256": facts.sha256,
            "format": facts.format,
            "network": facts.network,
        },
        "parametrisation": conversion.parametrisation,
    }
    (directory / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    labelled = arguments["num_class_embeds"] is not None
    return facts, None if labelled else read_denoiser(DenoiserModel(path=str(directory)))


def _scheduler(conversion: Conversion) -> dict[str, Any]:
    if conversion.parametrisation == "ddpm":
        return {"num_train_timesteps": conversion.num_steps or DDPM_STEPS} | _BETAS[conversion.betas]
    numbers = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0}
    if conversion.parametrisation == "edm":
        return numbers
    return numbers | {"num_train_timesteps": conversion.num_steps or CONSISTENCY_STEPS}


def _add_conditioning_scale(directory: Path, conversion: Conversion) -> None:
    """Both families count in thousands: t 1000 / T (`rescale_timesteps`), and 1000 ln(s) / 4 of an EDM model, too."""
    scales = {"ddpm": 1000 / (conversion.num_steps or DDPM_STEPS), "edm": 1000.0, "consistency": None}
    scale = scales[conversion.parametrisation]
    if scale is not None:
        path = directory / "scheduler" / "scheduler_config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | {"conditioning_scale": scale}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

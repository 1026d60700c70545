"""Classifier directories: DIR/config.json and DIR/model.safetensors, as `raycp train` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from safetensors.torch import save_file

from raycp.config import Frozen, parse_config, resolved
from raycp.config.models import Resize
from raycp.errors import ConfigError, ModelError
from raycp.models.json_file import read_json_object
from raycp.models.residual_classifier import ResidualClassifier

WEIGHTS_FILE = "model.safetensors"


class ResidualArchitecture(Frozen):
    """The arguments of a `ResidualClassifier` beside its channels and classes."""

    name: Literal["residual"] = "residual"
    widths: tuple[int, ...] = Field(min_length=1)
    blocks: int = Field(ge=1)
    groups: int = Field(ge=1)


class ClassifierDescription(Frozen):
    """The content of config.json."""

    format: Literal["raycp-classifier"] = "raycp-classifier"
    architecture: ResidualArchitecture
    num_classes: int = Field(ge=2)
    in_channels: int = Field(ge=1)
    image_size: tuple[int, int]
    """Height and width it was trained on, pixels."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, in the order of the logits."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean of pixels in [0,1], part of the classifier; null: no normalisation."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation."""
    resize: Resize | None = None
    """Of an image before the network; null: none."""

    @model_validator(mode="after")
    def _consistent(self) -> ClassifierDescription:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.in_channels:
                raise ValueError(
                    f"{name} must have one value per channel ({self.in_channels}), got {list(values)}."
                )
        if (self.mean is None) != (self.std is None) or min(self.std or (1.0,)) <= 0:
            raise ValueError(
                f"mean and std must be given together and std be above 0, got {self.mean}, {self.std}."
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"class_names must have {self.num_classes} names, got {len(self.class_names)}.")
        return self


def read_description(directory: Path) -> ClassifierDescription:
    """Read config.json of a classifier directory.

    Raises:
        ModelError: it is missing or not the description of a classifier; one line per problem.
    """
    path = directory / "config.json"
    try:
        return parse_config(ClassifierDescription, read_json_object(path), source=str(path))
    except ConfigError as err:
        raise ModelError(str(err)) from err


def make_residual_network(description: ClassifierDescription) -> ResidualClassifier:
    """Build the network; its weights are random, or empty under `torch.device("meta")`."""
    shape = description.architecture
    try:
        return ResidualClassifier(
            description.num_classes, description.in_channels, shape.widths, shape.blocks, shape.groups
        )
    except ValueError as err:
        raise ModelError(f"the architecture in config.json cannot be built: {err}") from err


def save_classifier(
    directory: str | Path,
    network: ResidualClassifier,
    *,
    image_size: tuple[int, int],
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: Resize | None = None,
) -> None:
    """Write a classifier directory; config.json comes last, so a directory that has one is complete.

    Args:
        directory: created if need be.
        network: its weights are stored as they are.
        image_size: height and width it was trained on, pixels.
        class_names: in the order of the logits.
        mean: per-channel mean that was subtracted from pixels in [0, 1] before the network.
        std: per-channel standard deviation they were divided by.
        resize: of the images before that.
    """
    description = ClassifierDescription(
        architecture=ResidualArchitecture(**network.architecture),
        num_classes=network.num_classes,
        in_channels=network.in_channels,
        image_size=image_size,
        class_names=None if class_names is None else tuple(class_names),
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        resize=resize,
    )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, directory / WEIGHTS_FILE
    )
    (directory / "config.json").write_text(
        json.dumps(resolved(description), indent=2) + "\n", encoding="utf-8"
    )

"""Directories of classifiers that raycp trained further: the network in its own format, and classifier.json beside it.

classifier.json holds the section `classifier` of a run, less the place of the weights, which are in the directory. A
network of transformers is there as `save_pretrained` writes it, any other one as model.safetensors under its own names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors.torch import save_file

from raycp.config import Frozen, parse_config, resolved
from raycp.config.models import (
    CifarResNetClassifier,
    DirectoryClassifier,
    PythonClassifier,
    SmoothingResNetClassifier,
    TimmClassifier,
    TorchvisionClassifier,
    TransformersClassifier,
    WideResNetClassifier,
)
from raycp.errors import ConfigError, ModelError
from raycp.models.base_classifier import Classifier
from raycp.models.classifier_directory import WEIGHTS_FILE
from raycp.models.json_file import read_json_object
from raycp.models.transformers_directory import save_transformers_folder

DESCRIPTION_FILE = "classifier.json"

StoredKind = (
    TimmClassifier
    | TransformersClassifier
    | TorchvisionClassifier
    | CifarResNetClassifier
    | WideResNetClassifier
    | SmoothingResNetClassifier
    | PythonClassifier
)


class StoredClassifier(Frozen):
    """The content of classifier.json, with the place of the weights put in."""

    format: Literal["raycp-classifier"] = "raycp-classifier"
    classifier: StoredKind = Field(discriminator="kind")
    image_size: tuple[int, int]
    """Height and width it was trained on, pixels, before its own resize."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, in the order of the logits."""


def save_stored_classifier(
    directory: str | Path,
    classifier: Classifier,
    recipe: Mapping[str, Any],
    *,
    image_size: tuple[int, int],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a directory that `{kind: directory, path: ...}` reads; classifier.json comes last.

    Args:
        directory: created if need be.
        classifier: whose network's tensors are stored as they are, on the CPU.
        recipe: of the bundle that it was built from, of any kind but `directory`.
        image_size: height and width it was trained on, pixels.
        class_names: in the order of the logits.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    kind, arguments = recipe["kind"], recipe["arguments"]
    section = {"kind": kind, **{name: recipe[name] for name in ("resize", "mean", "std")}}
    if kind == "transformers":
        section["truncate"] = recipe["truncate"]
        save_transformers_folder(directory, classifier, arguments, class_names)
    else:
        # Clones, since safetensors refuses tensors that share memory.
        state = classifier.network.state_dict()
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in state.items()}, directory / WEIGHTS_FILE
        )
    if kind in ("timm", "torchvision", "python"):  # of the others the file tells the shape
        own = {name: value for name, value in arguments.items() if name != "source"}  # a hash, not a key
        section |= {"num_classes": recipe["num_classes"], **own}
    content = {
        "format": "raycp-classifier",
        "classifier": section,
        "image_size": list(image_size),
        "class_names": None if class_names is None else list(class_names),
    }
    text = json.dumps(content, indent=2) + "\n"
    (directory / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def stored_section(
    config: DirectoryClassifier, directory: Path, functions: Collection[Mapping[str, Any]] = ()
) -> StoredKind:
    """What classifier.json in a directory says, as the section that reads the weights beside it.

    Args:
        config: that named the directory; what it says of resize, mean and std must be what the file says.
        directory: on this machine.
        functions: `factory` and `kwargs` of functions that the user named, and that may be called therefore.

    Raises:
        ModelError: the file is not the description of a classifier, or names a function that the user did not.
    """
    path = directory / DESCRIPTION_FILE
    content = read_json_object(path)
    section = content.get("classifier")
    if isinstance(section, dict):
        kind = section.get("kind")
        place = (
            {"path": str(directory)} if kind == "transformers" else {"weights": str(directory / WEIGHTS_FILE)}
        )
        content = content | {"classifier": section | place}
    try:
        stored = parse_config(StoredClassifier, content, source=str(path)).classifier
    except ConfigError as err:
        raise ModelError(str(err)) from err
    for name in ("resize", "mean", "std"):
        given, own = getattr(config, name), getattr(stored, name)
        if given not in (None, own):
            raise ModelError(
                f"classifier.{name} contradicts {path}, with which it was trained ({own}); remove it from the "
                "configuration."
            )
    if isinstance(stored, PythonClassifier):
        function = {"factory": stored.factory, "kwargs": resolved(stored)["kwargs"]}
        if function not in functions:
            raise ModelError(
                f"{path} names the function {stored.factory}, and what a directory names is never called; write "
                f"kind: python, factory: {stored.factory}, num_classes: {stored.num_classes}, weights: "
                f"{directory / WEIGHTS_FILE} and the kwargs, resize, mean and std that the file has."
            )
    return stored

"""Folders of transformers: config.json, preprocessor_config.json and weights, as `save_pretrained` writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from raycp.config.models import Resize, TransformersClassifier
from raycp.errors import ModelError
from raycp.models.base_classifier import Classifier
from raycp.models.json_file import read_json_object
from raycp.models.place import local_folder
from raycp.models.transformers_network import (
    make_transformers_config,
    quietly,
    transformers_arguments,
)
from raycp.models.weights import read_tensors

_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_PREPROCESSOR = "preprocessor_config.json"
# Codes of Pillow. Its filters are those of torch with antialias (bicubic with a = -0.5, in both directions).
_INTERPOLATIONS: dict[int, Literal["nearest", "bilinear", "bicubic"]] = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
}


@dataclass(frozen=True)
class TransformersFolder:
    """What is in a folder.

    Attributes:
        arguments: of `make_transformers_network`.
        tensors: names and dtypes as stored.
        weights: the file they are from.
        in_channels: C.
        resize: before the network; None keeps the size.
        mean: per channel, pixel units; None: no normalisation.
        std: per channel, pixel units; given exactly when `mean` is.
    """

    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    weights: Path
    in_channels: int | None
    resize: Resize | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def read_transformers_folder(config: TransformersClassifier) -> TransformersFolder:
    """Read a folder; resize, mean and std of the configuration go before its own.

    Raises:
        ModelError: files are missing, damaged, or ask for something raycp does not do.
        UnsafeFileError: a torch file would run code.
    """
    folder = local_folder(config.path)
    if not folder.is_dir():
        raise ModelError(f"classifier.path: there is no directory {folder}.")
    arguments = transformers_arguments(read_json_object(folder / "config.json"), folder / "config.json")
    weights = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"classifier.path: {folder} has no weights; looked for {', '.join(_WEIGHT_FILES)}.")
    network_config = make_transformers_config(arguments)
    resize, mean, std = _transforms(config, folder, _of_vision(network_config, "image_size"))
    in_channels = _of_vision(network_config, "num_channels")
    if in_channels is None and mean is not None:
        in_channels = len(mean)
    tensors = read_tensors(weights, key="classifier.path")
    return TransformersFolder(arguments, tensors, weights, in_channels, resize, mean, std)


def _transforms(
    config: TransformersClassifier, folder: Path, image_size: Any
) -> tuple[Resize | None, tuple[float, ...] | None, tuple[float, ...] | None]:
    source = folder / _PREPROCESSOR
    if not source.is_file():
        if config.resize is None or config.mean is None:
            raise ModelError(
                f"{folder} has no {_PREPROCESSOR}, which says how images are resized and normalised; give all of "
                "classifier.resize, mean and std."
            )
        return config.resize, config.mean, config.std
    content = read_json_object(source)
    if content.get("do_flip_channel_order"):
        raise ModelError(
            f"{source}: do_flip_channel_order: the network takes blue, green, red; raycp gives red first."
        )
    mean, std = (config.mean, config.std) if config.mean is not None else _normalisation(content, source)
    return config.resize or _resize(content, image_size, source), mean, std


def _of_vision(config: Any, name: str) -> Any:
    """Of a configuration, or of its part for images where it has one for text, too."""
    value = getattr(config, name, None)
    return value if value is not None else getattr(getattr(config, "vision_config", None), name, None)


def _normalisation(
    content: Mapping[str, Any], source: Path
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    factor = content.get("rescale_factor", 1 / 255)
    if not content.get("do_rescale", True) or content.get("rescale_offset") or not _is_one_255th(factor):
        raise ModelError(
            f"{source} does not bring pixels to [0,1] first (do_rescale, rescale_factor, rescale_offset); give "
            "classifier.mean and std for pixels in [0,1]."
        )
    if not content.get("do_normalize", True):
        return None, None
    mean, std = (_numbers(content.get(name)) for name in ("image_mean", "image_std"))
    if mean is None or std is None or len(mean) != len(std) or min(std) <= 0:
        raise ModelError(
            f"{source}: image_mean and image_std must be lists of one number per channel, image_std above 0, got "
            f"{content.get('image_mean')!r} and {content.get('image_std')!r}; give classifier.mean and std."
        )
    return mean, std


def _is_one_255th(factor: Any) -> bool:
    return _is_number(factor) and math.isclose(factor * 255, 1, rel_tol=1e-6)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list) or not value or not all(map(_is_number, value)):
        return None
    return tuple(map(float, value))


def _resize(content: Mapping[str, Any], image_size: Any, source: Path) -> Resize | None:
    """From the whole image to the network's input: what a folder crops after its resize is not cropped here."""
    if not content.get("do_resize", True):
        return None
    given = content.get("crop_size" if content.get("do_center_crop") else "size")
    sizes = {
        key: _square(value) for key, value in (("preprocessor", given), ("network", image_size)) if value
    }
    known = set(sizes.values())
    if len(known) != 1 or None in known:
        raise ModelError(
            f"{source} and the config.json beside it must agree on one square size of the network's input, got "
            f"{given!r} and image_size {image_size!r}; give classifier.resize."
        )
    code = content.get("resample")
    if not isinstance(code, int) or code not in _INTERPOLATIONS:
        allowed = ", ".join(f"{code} ({name})" for code, name in _INTERPOLATIONS.items())
        raise ModelError(
            f"{source}: resample must be one of {allowed}, got {code!r}; give classifier.resize."
        )
    (size,) = known
    assert size is not None
    return Resize(size=size, interpolation=_INTERPOLATIONS[code])


def _square(size: Any) -> int | None:
    """The side of a square; sizes are numbers, pairs, or {height, width}, {shortest_edge}."""
    if isinstance(size, Mapping):
        size = [size[name] for name in ("height", "width", "shortest_edge") if name in size]
    sides = list(size) if isinstance(size, list | tuple) else [size]
    if not sides or not all(isinstance(side, int) and side == sides[0] and side >= 1 for side in sides):
        return None
    return int(sides[0])


def save_transformers_folder(
    directory: Path, classifier: Classifier, arguments: Mapping[str, Any], class_names: Sequence[str] | None
) -> None:
    """Write a classifier as `save_pretrained` writes it, so that raycp and transformers read it back.

    What the folder cannot say, pixels cut to whole 255ths and a resize without antialiasing, is left out.
    """
    model: Any = classifier.network.model
    model.config.architectures = arguments["config"]["architectures"]
    if class_names is not None:
        model.config.id2label = dict(enumerate(class_names))
        model.config.label2id = {name: index for index, name in enumerate(class_names)}
    with quietly():
        model.save_pretrained(directory)
    content: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": classifier.resize is not None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": classifier.mean is not None,
    }
    if (resize := classifier.resize) is not None:
        content["size"] = {"height": resize.size, "width": resize.size}
        content["resample"] = next(
            code for code, name in _INTERPOLATIONS.items() if name == resize.interpolation
        )
    if classifier.mean is not None and classifier.std is not None:
        content |= {
            "image_mean": classifier.mean.flatten().tolist(),
            "image_std": classifier.std.flatten().tolist(),
        }
    (directory / _PREPROCESSOR).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

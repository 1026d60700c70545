"""Reading classifiers on the driver and building them on replicas."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raycp.config.models import (
    CifarResNetClassifier,
    ClassifierConfig,
    DirectoryClassifier,
    PythonClassifier,
    Resize,
    SmoothingResNetClassifier,
    TimmClassifier,
    TorchvisionClassifier,
    TransformersClassifier,
    WideResNetClassifier,
)
from raycp.errors import ModelError
from raycp.models.base_classifier import Classifier
from raycp.models.bundle import Bundle, fitted_state, load_state, make_bundle
from raycp.models.cifar_resnet import CifarResNet, read_cifar_resnet
from raycp.models.classifier_directory import (
    WEIGHTS_FILE,
    ClassifierDescription,
    make_residual_network,
    read_description,
)
from raycp.models.place import local_folder
from raycp.models.python_network import make_python_network
from raycp.models.smoothing_resnet import SmoothingResNet, read_smoothing_resnet
from raycp.models.stored_classifier import DESCRIPTION_FILE, stored_section
from raycp.models.timm_network import make_timm_network, timm_arguments
from raycp.models.torchvision_network import make_torchvision_network, torchvision_arguments
from raycp.models.transformers_directory import read_transformers_folder
from raycp.models.transformers_network import make_transformers_network, transformers_state
from raycp.models.user_code import source_sha256
from raycp.models.weights import read_tensors
from raycp.models.wide_resnet import WideResNet, read_wide_resnet

# Kinds whose networks are built on the meta device: without random numbers, and without memory before their weights.
_EMPTY = frozenset({"directory", "transformers", "wide_resnet", "smoothing_resnet"})


def read_classifier(config: ClassifierConfig, functions: Collection[Mapping[str, Any]] = ()) -> Bundle:
    """Read a classifier's weights and check that they fit its network.

    A python classifier without weights is bundled as its function makes it.

    Args:
        config: the classifier's section.
        functions: that a directory may name, see `stored_section`.

    Raises:
        ModelError: files are missing, damaged or of another architecture, or the network cannot be made.
        UnsafeFileError: a torch file would run code.
    """
    match config:
        case DirectoryClassifier():
            return _read_directory(config, functions)
        case TransformersClassifier():
            return _read_transformers(config)
        case CifarResNetClassifier():
            arguments, tensors = read_cifar_resnet(config.weights)
            return _read_residual(config, arguments, tensors, config.mean, config.std)
        case WideResNetClassifier():
            arguments, tensors = read_wide_resnet(config.weights)
            return _read_residual(config, arguments, tensors, config.mean, config.std)
        case SmoothingResNetClassifier():
            file = read_smoothing_resnet(config.weights)
            mean, std = (file.mean, file.std) if config.mean is None else (config.mean, config.std)
            return _read_residual(config, file.arguments, file.state, mean, std)
        case _:
            return _read_library(config)


def build_classifier(bundle: Bundle) -> Classifier:
    """Build the classifier from a bundle, without files: float32, eval mode, no gradients, on the CPU."""
    recipe = bundle.recipe
    network = load_state(_network(recipe), bundle.state, assign=recipe["kind"] in _EMPTY)
    classifier = Classifier(
        network=network,
        num_classes=recipe["num_classes"],
        in_channels=recipe["in_channels"],
        resize=None if recipe["resize"] is None else Resize(**recipe["resize"]),
        mean=recipe["mean"],
        std=recipe["std"],
        truncate=recipe.get("truncate", False),
    )
    return classifier.eval()


def classifier_input(bundle: Bundle) -> str:
    """What a classifier does to an image before its network, in words."""
    recipe = bundle.recipe
    steps = ["pixels cut to whole 255ths"] if recipe.get("truncate", False) else []
    if recipe["resize"] is not None:
        resize = Resize(**recipe["resize"])
        antialias = ", antialias" if resize.antialias and resize.interpolation != "nearest" else ""
        steps.append(f"resized to {resize.size}x{resize.size} ({resize.interpolation}{antialias})")
    if recipe["mean"] is not None:
        mean, std = (", ".join(f"{value:g}" for value in recipe[name]) for name in ("mean", "std"))
        steps.append(f"less mean {mean}, by std {std}")
    return "; ".join(steps) or "the image as it is"


def _network(recipe: Mapping[str, Any]) -> nn.Module:
    kind, arguments = recipe["kind"], recipe["arguments"]
    if kind == "timm":
        return make_timm_network(arguments)
    if kind == "torchvision":
        return make_torchvision_network(arguments)
    if kind == "python":
        return make_python_network(arguments)
    if kind == "transformers":
        return make_transformers_network(arguments)
    if kind == "cifar_resnet":
        return CifarResNet(**arguments)
    with torch.device("meta"):
        if kind == "wide_resnet":
            return WideResNet(**arguments)
        if kind == "smoothing_resnet":
            return SmoothingResNet(**arguments)
        return make_residual_network(ClassifierDescription.model_validate(arguments))


def _read_library(config: TimmClassifier | TorchvisionClassifier | PythonClassifier) -> Bundle:
    """A network that a library or a function makes, and its weights from a file of their own."""
    in_channels: int | None
    state_key, strip_prefix = None, ""
    if isinstance(config, TimmClassifier):
        arguments, in_channels = timm_arguments(config), config.in_channels
        network = make_timm_network(arguments, config.pretrained)
    elif isinstance(config, TorchvisionClassifier):
        arguments, in_channels = torchvision_arguments(config), 3
        network = make_torchvision_network(arguments)
        state_key, strip_prefix = config.state_key, config.strip_prefix
    else:
        arguments = config.model_dump(mode="json", include={"factory", "kwargs"})
        arguments["source"] = source_sha256(config.factory, "classifier")
        in_channels = None if config.mean is None else len(config.mean)
        network = make_python_network(arguments)
        state_key, strip_prefix = config.state_key, config.strip_prefix
    if config.weights is None:
        tensors, source = network.state_dict(), f"the {config.kind} network"
    else:
        tensors = read_tensors(config.weights, state_key, strip_prefix, key="classifier.weights")
        source = config.weights
    state = fitted_state(network, tensors, source)
    recipe = _recipe(config, arguments, config.num_classes, in_channels, config.mean, config.std)
    return make_bundle(recipe, state, network)


def _read_directory(config: DirectoryClassifier, functions: Collection[Mapping[str, Any]]) -> Bundle:
    directory = local_folder(config.path)
    if not directory.is_dir():
        raise ModelError(f"classifier.path: there is no directory {directory}.")
    if (directory / DESCRIPTION_FILE).is_file():
        return read_classifier(stored_section(config, directory, functions))
    description = read_description(directory)
    if config.mean is not None and (config.mean, config.std) != (description.mean, description.std):
        raise ModelError(
            f"classifier.mean and std contradict those that {directory / 'config.json'} was trained with "
            f"({description.mean}, {description.std}); remove them from the configuration."
        )
    if description.resize is not None and config.resize not in (None, description.resize):
        raise ModelError(
            f"classifier.resize contradicts the one that {directory / 'config.json'} was trained with "
            f"({description.resize}); remove it from the configuration."
        )
    with torch.device("meta"):
        network = make_residual_network(description)
    weights = directory / WEIGHTS_FILE
    state = fitted_state(network, read_tensors(weights, key="classifier.path"), str(weights))
    arguments = description.model_dump(
        mode="json", include={"architecture", "num_classes", "in_channels", "image_size"}
    )
    shape = (description.num_classes, description.in_channels)
    recipe = _recipe(config, arguments, *shape, description.mean, description.std)
    resize = config.resize or description.resize
    recipe["resize"] = None if resize is None else resize.model_dump(mode="json")
    return make_bundle(recipe, state, network)


def _read_transformers(config: TransformersClassifier) -> Bundle:
    folder = read_transformers_folder(config)
    arguments, source = folder.arguments, str(folder.weights)
    network = make_transformers_network(arguments)
    tensors = transformers_state(arguments, network, folder.tensors, source)
    recipe = _recipe(config, arguments, arguments["num_labels"], folder.in_channels, folder.mean, folder.std)
    recipe["resize"] = None if folder.resize is None else folder.resize.model_dump(mode="json")
    recipe["truncate"] = config.truncate
    return make_bundle(recipe, fitted_state(network, tensors, source), network)


def _read_residual(
    config: CifarResNetClassifier | WideResNetClassifier | SmoothingResNetClassifier,
    arguments: dict[str, Any],
    tensors: Mapping[str, Tensor],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Bundle:
    """A residual network for CIFAR, whose shape its file tells."""
    recipe = _recipe(config, arguments, arguments["num_classes"], 3, mean, std)
    network = _network(recipe)
    return make_bundle(recipe, fitted_state(network, tensors, config.weights), network)


def _recipe(
    config: ClassifierConfig,
    arguments: dict[str, Any],
    num_classes: int,
    in_channels: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> dict[str, Any]:
    if mean is not None and len(mean) != in_channels:
        raise ModelError(
            f"classifier.mean must have one value per channel of the network ({in_channels}), got {list(mean)}."
        )
    return {
        "kind": config.kind,
        "arguments": arguments,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "resize": None if config.resize is None else config.resize.model_dump(mode="json"),
        "mean": mean,
        "std": std,
    }

"""Reading classifiers on the driver and building them on replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raycp.config.models import (
    CifarResNetClassifier,
    ClassifierConfig,
    DirectoryClassifier,
    Resize,
    TimmClassifier,
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
from raycp.models.timm_network import make_timm_network, timm_arguments
from raycp.models.weights import read_tensors


def read_classifier(config: ClassifierConfig) -> Bundle:
    """Read a classifier's weights and check that they fit its network.

    A python classifier without weights is bundled as its function makes it.

    Raises:
        ModelError: files are missing, damaged or of another architecture, or the network cannot be made.
        UnsafeFileError: a torch file would run code.
    """
    if isinstance(config, DirectoryClassifier):
        return _read_directory(config)
    if isinstance(config, CifarResNetClassifier):
        return _read_cifar_resnet(config)
    in_channels: int | None
    if isinstance(config, TimmClassifier):
        arguments, in_channels = timm_arguments(config), config.in_channels
        network = make_timm_network(arguments, config.pretrained)
        state_key, strip_prefix = None, ""
    else:
        arguments = config.model_dump(mode="json", include={"factory", "kwargs"})
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


def build_classifier(bundle: Bundle) -> Classifier:
    """Build the classifier from a bundle, without files: float32, eval mode, no gradients, on the CPU."""
    recipe = bundle.recipe
    network = load_state(_network(recipe), bundle.state, assign=recipe["kind"] == "directory")
    classifier = Classifier(
        network=network,
        num_classes=recipe["num_classes"],
        in_channels=recipe["in_channels"],
        resize=None if recipe["resize"] is None else Resize(**recipe["resize"]),
        mean=recipe["mean"],
        std=recipe["std"],
    )
    return classifier.eval()


def _network(recipe: Mapping[str, Any]) -> nn.Module:
    if recipe["kind"] == "timm":
        return make_timm_network(recipe["arguments"])
    if recipe["kind"] == "python":
        return make_python_network(recipe["arguments"])
    if recipe["kind"] == "cifar_resnet":
        return CifarResNet(**recipe["arguments"])
    with torch.device("meta"):
        return make_residual_network(ClassifierDescription.model_validate(recipe["arguments"]))


def _read_directory(config: DirectoryClassifier) -> Bundle:
    directory = local_folder(config.path)
    if not directory.is_dir():
        raise ModelError(f"classifier.path: there is no directory {directory}.")
    description = read_description(directory)
    if config.mean is not None and (config.mean, config.std) != (description.mean, description.std):
        raise ModelError(
            f"classifier.mean and std contradict those that {directory / 'config.json'} was trained with "
            f"({description.mean}, {description.std}); remove them from the configuration."
        )
    with torch.device("meta"):
        network = make_residual_network(description)
    weights = directory / WEIGHTS_FILE
    state = fitted_state(network, read_tensors(weights, key="classifier.path"), str(weights))
    arguments = description.model_dump(
        mode="json", include={"architecture", "num_classes", "in_channels", "image_size"}
    )
    shape = (description.num_classes, description.in_channels)
    return make_bundle(_recipe(config, arguments, *shape, description.mean, description.std), state, network)


def _read_cifar_resnet(config: CifarResNetClassifier) -> Bundle:
    arguments, tensors = read_cifar_resnet(config.weights)
    network = CifarResNet(**arguments)
    state = fitted_state(network, tensors, config.weights)
    recipe = _recipe(config, arguments, arguments["num_classes"], 3, config.mean, config.std)
    return make_bundle(recipe, state, network)


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

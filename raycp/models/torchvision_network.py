"""Classification networks of torchvision."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raycp.config.models import TorchvisionClassifier
from raycp.errors import ModelError

# Arguments of the builders that raycp sets itself or that would load files behind its back.
_RESERVED = ("weights", "weights_backbone", "pretrained", "pretrained_backbone", "progress", "num_classes")


def torchvision_arguments(config: TorchvisionClassifier) -> dict[str, Any]:
    """The plain JSON arguments that `make_torchvision_network` builds the network from.

    Raises:
        ModelError: torchvision has no such classifier, or kwargs holds an argument that is not the user's to give.
    """
    _require_classifier(config.name)
    kwargs = config.model_dump(mode="json", include={"kwargs"})["kwargs"]
    if reserved := [name for name in kwargs if name in _RESERVED]:
        raise ModelError(
            f"classifier.kwargs must not hold {reserved[0]!r}; use classifier.num_classes and weights."
        )
    return {"name": config.name, "num_classes": config.num_classes, "kwargs": kwargs}


def make_torchvision_network(arguments: Mapping[str, Any]) -> nn.Module:
    """Build the network, with random weights.

    Raises:
        ModelError: torchvision has no such classifier, or does not take a keyword argument.
    """
    from torchvision import models

    name = arguments["name"]
    _require_classifier(name)
    try:
        # Seeded so that whatever a network keeps outside its state_dict is the same on every replica.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = models.get_model(
                name, weights=None, num_classes=arguments["num_classes"], **arguments["kwargs"]
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, AttributeError) as err:
        raise ModelError(
            f"torchvision cannot make {name} (classifier.name, classifier.kwargs {arguments['kwargs']}): {err}"
        ) from err
    assert isinstance(network, nn.Module)
    return network


def _require_classifier(name: str) -> None:
    import torchvision
    from torchvision import models

    classifiers = models.list_models(module=models)
    if name in classifiers:
        return
    if name in models.list_models():
        where = models.get_model_builder(name).__module__
        kind = where.removeprefix("torchvision.models.").partition(".")[0].replace("_", " ")
        raise ModelError(
            f"classifier.name: {name!r} of torchvision is a model of {kind} ({where}), not a classifier of images; "
            "see torchvision.models.list_models(module=torchvision.models)."
        )
    close = difflib.get_close_matches(name, classifiers, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "see torchvision.models.list_models()."
    raise ModelError(f"classifier.name: torchvision {torchvision.__version__} has no model {name!r}; {hint}")

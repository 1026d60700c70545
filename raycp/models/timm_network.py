"""Networks of the timm library."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raycp.config.models import TimmClassifier
from raycp.errors import ModelError

# Arguments of timm.create_model that raycp sets itself or that would load files behind its back.
_RESERVED = (
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "num_classes", "in_chans",
)  # fmt: skip


def timm_arguments(config: TimmClassifier) -> dict[str, Any]:
    """The plain JSON arguments that `make_timm_network` builds the network from.

    Raises:
        ModelError: timm has no such model, or kwargs holds an argument that is not the user's to give.
    """
    _require_known_name(config.name)
    kwargs = config.model_dump(mode="json", include={"kwargs"})["kwargs"]
    if reserved := [name for name in kwargs if name in _RESERVED]:
        raise ModelError(
            f"classifier.kwargs must not hold {reserved[0]!r}; use classifier.num_classes, in_channels, weights and "
            "pretrained."
        )
    return {
        "name": config.name,
        "num_classes": config.num_classes,
        "in_channels": config.in_channels,
        "kwargs": kwargs,
    }


def make_timm_network(arguments: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """Build the network; with `pretrained`, with the weights timm finds in its cache or downloads.

    Raises:
        ModelError: the name, a keyword argument or the published weights are not as the network needs them.
    """
    import timm

    name = arguments["name"]
    _require_known_name(name)
    if pretrained:
        _require_published_weights(arguments)
    try:
        # Seeded so that whatever a network keeps outside its state_dict is the same on every replica.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = timm.create_model(
                name,
                pretrained=pretrained,
                num_classes=arguments["num_classes"],
                in_chans=arguments["in_channels"],
                **arguments["kwargs"],
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, LookupError, OSError) as err:
        origin = " with its published weights" if pretrained else ""
        raise ModelError(
            f"timm cannot make {name}{origin} (classifier.name, classifier.kwargs {arguments['kwargs']}): {err}"
        ) from err
    assert isinstance(network, nn.Module)
    return network


def _require_known_name(name: str) -> None:
    import timm

    architecture = name.partition(".")[0]
    if timm.is_model(architecture):
        return
    close = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models()."
    raise ModelError(f"classifier.name: timm {timm.__version__} has no model {name!r}; {hint}")


def _require_published_weights(arguments: Mapping[str, Any]) -> None:
    """Refuse what timm would load in part: it fills a head or first layer of another size at random."""
    from timm.models import get_pretrained_cfg

    name = arguments["name"]
    try:
        published = get_pretrained_cfg(name)
    except RuntimeError as err:
        raise ModelError(
            f"classifier.name: {err}; see timm.list_pretrained({name.partition('.')[0] + '*'!r})."
        ) from err
    if published is None or not published.has_weights:
        raise ModelError(
            f"classifier.pretrained: timm has no published weights for {name}; give classifier.weights."
        )
    for key, value, theirs in (
        ("num_classes", arguments["num_classes"], published.num_classes),
        ("in_channels", arguments["in_channels"], published.input_size[0]),
    ):
        if value != theirs:
            raise ModelError(
                f"classifier.{key} is {value}, but timm's weights of {name} have {theirs}: that layer would be random. "
                "Fine-tune the network and give its weights by classifier.weights."
            )

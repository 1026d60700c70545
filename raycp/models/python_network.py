"""Networks made by a function of the user's own package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from raycp.errors import ModelError
from raycp.models.user_code import call_factory


def make_python_network(arguments: Mapping[str, Any]) -> nn.Module:
    """What a user's function returns; see `call_factory`.

    Raises:
        ModelError: the function cannot be called with these arguments, or returns no module.
    """
    network = call_factory("classifier", arguments)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"classifier.factory: {arguments['factory']} must return a torch.nn.Module, got a "
            f"{type(network).__name__}."
        )
    return network

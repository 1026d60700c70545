"""Purifiers made by a function of the user's own package."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from raycp.config.models import PythonPurifier
from raycp.errors import ModelError
from raycp.models.bundle import Bundle, fitted_state, load_state, make_bundle
from raycp.models.user_code import call_factory, source_sha256
from raycp.models.weights import read_tensors


def read_python_purifier(config: PythonPurifier) -> Bundle:
    """Call the user's function, and read the weights that go into what it makes.

    A module without a file of weights is bundled as the function makes it; of anything else there are no tensors.

    Raises:
        ModelError: the function cannot be called, what it returns is no purifier, or the weights do not fit.
        UnsafeFileError: a torch file would run code.
    """
    arguments = config.model_dump(mode="json", include={"factory", "kwargs"})
    arguments["source"] = source_sha256(config.factory, "purifier")
    made = _made(arguments)
    module = made if isinstance(made, nn.Module) else nn.Module()
    if config.weights is None:
        tensors, source = module.state_dict(), f"what {config.factory} makes"
    elif not isinstance(made, nn.Module):
        raise ModelError(
            f"purifier.weights go into a torch.nn.Module, but {config.factory} returns a {type(made).__name__}: make "
            "it a module with parameters or buffers, or set purifier.weights to null."
        )
    else:
        tensors = read_tensors(config.weights, config.state_key, config.strip_prefix, key="purifier.weights")
        source = config.weights
    recipe = {"kind": config.kind, "arguments": arguments}
    return make_bundle(recipe, fitted_state(module, tensors, source), module)


def build_python_purifier(bundle: Bundle) -> Any:
    """The user's object from a bundle, without files; a module in float32, eval mode, no gradients, on the CPU."""
    made = _made(bundle.recipe["arguments"])
    return load_state(made, bundle.state) if isinstance(made, nn.Module) else made


def draws(own: Any) -> bool:
    """Whether a user's object is a purifier that draws: several images of each sample, whose logits are combined."""
    return hasattr(own, "images") and hasattr(own, "combine")


def _made(arguments: dict[str, Any]) -> Any:
    made, name = call_factory("purifier", arguments), arguments["factory"]
    call, wanted = (made.images, ("x", "sigma", "noise")) if draws(made) else (made, ("x", "sigma"))
    if not callable(call):
        raise ModelError(
            f"purifier.factory: {name} must return a purifier, a function of (x, sigma) or an object with images and "
            f"combine, got a {type(made).__name__}."
        )
    # A module's own __call__ takes anything.
    signature = _signature(call.forward if isinstance(call, nn.Module) else call)
    try:
        if signature is not None:
            signature.bind(*wanted)
    except TypeError as err:
        raise ModelError(
            f"purifier.factory: what {name} returns must take ({', '.join(wanted)}), got {signature}: {err}."
        ) from err
    return made


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # of a built-in: its first image will tell
        return None

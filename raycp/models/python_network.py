"""Networks made by a function of the user's own package."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raycp.errors import ModelError


def make_python_network(arguments: Mapping[str, Any]) -> nn.Module:
    """Call `package.module:function` with its keyword arguments, on a seeded CPU generator.

    The seed makes a function that initialises at random return the same network in every process.

    Args:
        arguments: `factory` and `kwargs`, plain JSON values.

    Raises:
        ModelError: the function cannot be imported, does not take these arguments, or returns no module. Errors
            inside the function keep their traceback.
    """
    name, kwargs = arguments["factory"], arguments["kwargs"]
    function = _imported(name)
    try:
        inspect.signature(function).bind(**kwargs)
    except (TypeError, ValueError) as err:
        raise ModelError(
            f"classifier.kwargs {kwargs} do not fit {name}{_signature(function)}: {err}."
        ) from err
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = function(**kwargs)
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"classifier.factory: {name} must return a torch.nn.Module, got a {type(network).__name__}."
        )
    return network


def _imported(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as err:
        raise ModelError(
            f"classifier.factory: cannot import {module_name}: {err}. It must be importable on the driver and on every "
            "node: install the package, or put its folder on PYTHONPATH or into the job's working directory."
        ) from err
    function = getattr(module, function_name, None)
    if function is None:
        close = difflib.get_close_matches(function_name, dir(module), n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ModelError(f"classifier.factory: {module_name} has no {function_name}{hint}")
    if not callable(function):
        raise ModelError(
            f"classifier.factory: {factory} is a {type(function).__name__}, which cannot be called."
        )
    return function


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except ValueError:
        return "(...)"

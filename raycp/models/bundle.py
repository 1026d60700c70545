"""A model on its way from files to replicas: a recipe that builds the network, and the tensors that go into it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raycp.errors import ModelError


@dataclass(frozen=True)
class Bundle:
    """Weights read once on the driver; replicas build the model from it without any file."""

    recipe: dict[str, Any]
    """Plain JSON values that `build_denoiser` or `build_classifier` make the network from; no paths."""
    state: dict[str, np.ndarray]
    """The whole state_dict: floats as float32, integers and booleans as stored."""
    sha256: str
    """Hash over the recipe and over the name, dtype, shape and bytes of every tensor."""
    parameters: int
    """Number of parameters of the network, buffers left out."""

    @property
    def not_finite(self) -> list[str]:
        """Names of the tensors that hold NaN or infinity."""
        return [name for name, array in self.state.items() if not np.isfinite(array).all()]


def make_bundle(recipe: dict[str, Any], state: Mapping[str, Tensor], module: nn.Module) -> Bundle:
    """Bundle a recipe with a state_dict that fits `module` (see `fitted_state`)."""
    recipe = json.loads(json.dumps(recipe, allow_nan=False))
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in state.items()}
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Bundle(recipe, arrays, sha256_of(recipe, arrays), parameters)


def hashes(**models: Bundle | None) -> dict[str, str | None]:
    """What a run records of its models by name: their hashes, and as NAME_source that over a user's own source."""
    found: dict[str, str | None] = {}
    for name, bundle in models.items():
        found[name] = None if bundle is None else bundle.sha256
        if bundle is not None and bundle.recipe.get("kind") == "python":
            found[f"{name}_source"] = bundle.recipe["arguments"]["source"]
    return found


def sha256_of(recipe: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> str:
    """Hash a recipe and its tensors, whatever file format they came from.

    The recipe counts because it holds what the tensors do not show: the head width of an attention layer, the
    normalisation of a classifier, `sigma_data`. Names are hashed in sorted order, integers little-endian.
    """
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, allow_nan=False).encode())
    for name in sorted(state):
        array = state[name]
        digest.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def fitted_state(module: nn.Module, given: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Check that tensors are exactly the state_dict of a module, and bring them to the dtypes of a bundle.

    Args:
        module: the network; its tensors may be on the meta device, only names and shapes are used.
        given: tensors by name, of any float dtype.
        source: what they were read from, for the message.

    Returns:
        One tensor per entry of the module's state_dict, in its order. `num_batches_tracked` may be absent from
        `given`: files of before PyTorch 0.4.1 have none, and it has no effect in eval mode.

    Raises:
        ModelError: names are missing or unknown, or shapes differ; the first few are listed.
    """
    expected = module.state_dict()
    counters = {name for name in expected if name.rpartition(".")[2] == "num_batches_tracked"}
    missing = [name for name in expected if name not in given and name not in counters]
    unexpected = [name for name in given if name not in expected]
    wrong = [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(tensor.shape)} in the network"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems = [
        f"{len(items)} {what}: {_first_few(items)}"
        for what, items in (
            ("missing", missing),
            ("not in the network", unexpected),
            ("of another shape", wrong),
        )
        if items
    ]
    if problems:
        raise ModelError(
            f"{source} does not fit the network it is meant for; "
            + "; ".join(problems)
            + ". Check the configuration of the network, and the names in the file (a prefix, a nested state_dict)."
        )
    return {
        name: _bundled(given.get(name, torch.zeros((), dtype=torch.int64)), name, source) for name in expected
    }


def load_state(module: nn.Module, state: Mapping[str, np.ndarray], assign: bool = False) -> nn.Module:
    """Put the tensors of a bundle into a module, strictly, and make it ready for inference.

    Args:
        module: the network built from the recipe.
        state: the tensors; they are copied, since arrays out of an object store are read-only and shared.
        assign: replace the module's tensors, which may be on the meta device, instead of filling them.

    Returns:
        The module: float32, in eval mode, without gradients.
    """
    tensors = {name: torch.tensor(array) for name, array in state.items()}
    module.load_state_dict(tensors, strict=True, assign=assign)
    return module.float().eval().requires_grad_(False)


def require_all_in_state(module: nn.Module, source: str) -> None:
    """Refuse a network with tensors outside its state_dict: built on the meta device, they would stay empty."""
    state = module.state_dict()
    names = [name for name, _ in [*module.named_parameters(), *module.named_buffers()] if name not in state]
    if names:
        raise ModelError(
            f"{source} describes a network with tensors that no weights file holds ({_first_few(names)}); "
            "such block types are not supported."
        )


def _bundled(tensor: Tensor, name: str, source: str) -> Tensor:
    if tensor.is_floating_point():
        return tensor.to(torch.float32)
    if tensor.is_complex() or tensor.is_quantized:
        raise ModelError(
            f"{source}: {name} is of dtype {tensor.dtype}; allowed are floats, integers and booleans."
        )
    return tensor


def _first_few(items: list[str], count: int = 5) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more

"""Writing pickles of the form that NVlabs' EDM publishes its networks in."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

SOURCE = "raise SystemExit('the source in the file was executed')"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("the file's own rebuilding was called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """A module that is pickled as a call of EDM's `torch_utils.persistence`, with its source text."""

    def __init__(self, network: nn.Module, class_name: str | None = None, **arguments: Any) -> None:
        self.network, self.arguments = network, arguments
        self.class_name = class_name or type(network).__name__

    def __reduce__(self) -> Any:
        state = dict(vars(self.network)) | {"_init_args": (), "_init_kwargs": self.arguments}
        state["_modules"] = OrderedDict((n, persistent(child)) for n, child in self.network._modules.items())
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "state": state}
        return _reconstruct_persistent_obj, (meta | {"class_name": self.class_name},)


def persistent(network: Any) -> Any:
    """A child of a persistent module; containers are pickled as they are."""
    if isinstance(network, nn.ModuleDict):
        copy: Any = nn.ModuleDict()
        copy._modules = {name: persistent(child) for name, child in network._modules.items()}
        return copy
    return network if network is None else Persistent(network)


def pickled(content: Any, protocol: int = 4) -> bytes:
    """Pickle what holds persistent modules."""
    module: Any = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    with patch.dict(sys.modules, {"torch_utils": types.ModuleType("torch_utils"), module.__name__: module}):
        return pickle.dumps(content, protocol=protocol)


def write_edm_file(path: Path, arguments: dict[str, Any], state: Mapping[str, Tensor]) -> Path:
    """A published file of a network with these arguments and tensors."""
    root = nn.Module()
    for name, tensor in state.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        module.register_buffer(last, tensor)
    path.write_bytes(pickled({"ema": Persistent(root, "EDMPrecond", **arguments)}))
    return path

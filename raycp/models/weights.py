"""Reading tensors from files that may come from anywhere: no code in them is ever run."""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raycp.errors import ModelError, UnsafeFileError

# What torch.load raises on files that are cut off, overwritten, or no torch files at all.
_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError, struct.error,
)  # fmt: skip
# What DataParallel, and a Sequential of normalisation and network, put before the names of a network's tensors.
_WRAPPERS = ("module.1.module.", "1.module.", "module.1.", "1.", "module.")
NORMALISATION = ("means", "sds")
"""Names of the constants of a `NormalizeLayer`, where it keeps them as buffers: `0.means` and `0.sds`."""


def wrapper_prefix(names: Iterable[str]) -> str:
    """What stands before all names and is no part of the network's, such as `module.`; the constants do not count."""
    names = list(names)
    for prefix in _WRAPPERS:
        constants = {f"{normalisation_prefix(prefix)}{name}" for name in NORMALISATION}
        inside = [name for name in names if name.startswith(prefix)]
        if inside and all(name.startswith(prefix) or name in constants for name in names):
            return prefix
    return ""


def normalisation_prefix(prefix: str) -> str:
    """Of the layer before the network: `module.0.` for a network under `module.1.module.`."""
    outer, _, _ = prefix.partition("1.")
    return f"{outer}0."


def read_tensors(
    path: str | Path, state_key: str | None = None, strip_prefix: str = "", key: str = "weights"
) -> dict[str, Tensor]:
    """Read a state_dict from a safetensors file, a sharded safetensors index, or a torch file of tensors.

    Args:
        path: `*.safetensors`, `*.safetensors.index.json`, or any other name for a torch file.
        state_key: key under which a torch file keeps its state_dict; None when it is one.
        strip_prefix: taken off every name.
        key: dotted path of the configuration key that named the file, for messages.

    Returns:
        CPU tensors by name, dtypes as stored.

    Raises:
        ModelError: the file is missing, damaged, or not a mapping of names to tensors.
        UnsafeFileError: the file would run code if it were unpickled.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelError(f"{key}: there is no file {path}.")
    tensors = read_contents(path)
    if state_key is not None:
        if (
            not isinstance(tensors, Mapping)
            or state_key not in tensors
            or isinstance(tensors[state_key], Tensor)
        ):
            raise ModelError(f"{path} has no state_dict under {state_key!r}; {_contents(tensors)}.")
        tensors = tensors[state_key]
    if not isinstance(tensors, Mapping) or not tensors:
        raise ModelError(f"{path} must hold tensors by name; {_contents(tensors)}.")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(
                f"{path} must hold tensors by name, but {name!r} is a {type(value).__name__}; {_contents(tensors)}. "
                "If one of these is the state_dict, name it with state_key."
            )
    return _stripped(tensors, strip_prefix, path)


def read_contents(path: Path) -> Any:
    """All that a file of tensors holds; no code in it is run.

    Raises:
        ModelError: the file is damaged.
        UnsafeFileError: it would run code if it were unpickled.
    """
    if path.name.endswith(".safetensors"):
        return _read_safetensors(path)
    if path.name.endswith(".safetensors.index.json"):
        return _read_shards(path)
    return _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as err:
        raise ModelError(f"{path} is damaged or not a safetensors file: {err}. Fetch it again.") from err


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Read the files of a sharded checkpoint, as diffusers and transformers write it."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        shard_of = dict(content["weight_map"])
    except (OSError, ValueError, LookupError, TypeError) as err:
        raise ModelError(f"{index} is not an index of safetensors shards: {err!r}.") from err
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(map(str, shard_of.values()))):
        if Path(shard).name != shard or not (index.parent / shard).is_file():
            raise ModelError(f"{index} names the shard {shard!r}, which is not a file beside it.")
        tensors |= _read_safetensors(index.parent / shard)
    if missing := sorted(set(shard_of) - set(tensors)):
        raise ModelError(f"{index} promises {len(missing)} tensors that no shard holds, first {missing[0]}.")
    return tensors


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as err:
        refused = re.search(r"(?:unsupported|global:) GLOBAL ([\w.]+\w) ", str(err))
        name = refused.group(1) if refused else _first_global(path)
        if name is not None:
            raise UnsafeFileError(
                f"{path} is a pickle that would call {name} if it were loaded; raycp loads tensors only. "
                "If you trust its source, load it once yourself and save its state_dict as safetensors."
            ) from err
        raise ModelError(
            f"{path} is damaged or not a torch file ({type(err).__name__}). Fetch it again."
        ) from err


def _first_global(path: Path) -> str | None:
    """The first class or function that a plain pickle names, read from its opcodes without running them."""
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            if file.read(1) != pickle.PROTO:
                return None
            file.seek(0)
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except (ValueError, OSError, struct.error):
        return None  # not a pickle: the caller says what it is
    return None


def _stripped(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    for name in tensors:
        if not name.startswith(prefix):
            raise ModelError(f"{path}: {name} does not start with strip_prefix {prefix!r}; every name must.")
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items()}


def _contents(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"it holds a {type(value).__name__}"
    names = [str(name) for name in list(value)[:8]]
    return f"it holds {', '.join(names)}{', ...' if len(value) > 8 else ''}" if names else "it is empty"

"""Whole networks in torch files: the tensors of a pickled `nn.Module`, without running anything of the file.

`torch.save(network)` pickles every module by the name of its class. `torch.load(weights_only=True)` refuses such a
file: the classes are not torch's own, and the format of before PyTorch 1.6 puts their source beside them. Here a class
or function is an inert stand-in or, by default, refused; both formats are read.

Source: torch/serialization.py of PyTorch 2.14, `_legacy_load` and `_load`.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import torch
from torch import Tensor

from raycp.errors import ModelError, UnsafeFileError

_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError, OverflowError, RecursionError, MemoryError, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip
_ZIP = b"PK\x03\x04"
# The first two numbers of a torch file of before PyTorch 1.6.
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)
_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class PickledModule:
    """What an `nn.Module` was to be rebuilt from: its attributes, by name."""

    state: Mapping[str, Any]

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError(f"a module whose state is a {type(state).__name__}")
        self.state = state


def module_tensors(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of the state_dict of a module and those within, as they were pickled.

    Raises:
        ValueError: something else stands where a module should.
        LookupError: a module lacks what every one has.
    """
    if not isinstance(module, PickledModule):
        raise ValueError(f"{prefix or 'the network'} is a {type(module).__name__}, not a module")
    state = module.state
    passing = state.get("_non_persistent_buffers_set") or ()
    for name, tensor in [*state["_parameters"].items(), *state["_buffers"].items()]:
        if tensor is not None and name not in passing:
            yield f"{prefix}{name}", tensor
    for name, child in state["_modules"].items():
        if child is not None:
            yield from module_tensors(child, f"{prefix}{name}.")


def read_pickled_module(
    path: Path, classes: Collection[tuple[str, str]], state_key: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the tensors of a network that was pickled whole, inside a dict.

    Args:
        path: the torch file.
        classes: of modules that the file may hold, as (Python module, name).
        state_key: key of the network in the dict.

    Returns:
        The tensors by the names of its state_dict, CPU, dtypes as stored, and the other keys.

    Raises:
        ModelError: the file is damaged, or holds something else.
        UnsafeFileError: it names a class or function that such a network has no need of; nothing of it was run.
    """
    try:
        content = _read(path, _stand_ins(classes))
        if not isinstance(content, dict) or not isinstance(content.get(state_key), PickledModule):
            names = content if isinstance(content, dict) else [type(content).__name__]
            raise ValueError(
                f"no network under {state_key!r}, only {', '.join(map(str, names)) or 'nothing'}"
            )
        tensors = {name: _tensor(stored, name) for name, stored in module_tensors(content[state_key])}
    except _DAMAGED as err:
        raise ModelError(
            f"{path} is damaged or not a torch file with a whole network ({type(err).__name__}: {err})."
        ) from err
    return tensors, tuple(str(name) for name in content if name != state_key)


class _Numbers:
    """A storage: flat numbers, which come after the pickle that tells of them."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.count, self.bytes = count, count * dtype.itemsize
        self.dtype = dtype
        self.flat: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a storage with attributes")

    def fill(self, data: bytes) -> None:
        if len(data) != self.bytes:
            raise ValueError(f"{len(data)} bytes where {self.bytes} are promised")
        # Out of a bytearray, since torch wants memory that may be written to.
        self.flat = (
            torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        )


class _StoredTensor:
    """Where a tensor's numbers are."""

    def __init__(
        self, numbers: _Numbers, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> None:
        if not isinstance(numbers, _Numbers):
            raise ValueError(f"a tensor of a {type(numbers).__name__}")
        self.numbers, self.offset, self.size, self.stride = numbers, offset, size, stride

    def __setstate__(self, state: Any) -> None:
        """Whether it wanted gradients, in files of before PyTorch 0.4: of no interest."""


def _tensor(stored: Any, name: str) -> Tensor:
    if not isinstance(stored, _StoredTensor) or stored.numbers.flat is None:
        raise ValueError(f"{name} is not a tensor with numbers")
    # as_strided refuses what would lie outside of the storage.
    return torch.as_strided(stored.numbers.flat, stored.size, stored.stride, stored.offset)


def _read(path: Path, allowed: Mapping[tuple[str, str], Any]) -> Any:
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            return _read_zip(path, allowed)
        file.seek(0)
        if tuple(_Reader(file, path).load() for _ in _LEGACY) != _LEGACY:
            raise ValueError("it does not begin as a torch file")
        if _Reader(file, path).load()["little_endian"] is not True:
            raise ValueError("numbers that are not little-endian")
        reader = _Reader(file, path, allowed)
        content = reader.load()
        for key in _Reader(file, path).load():
            numbers = reader.numbers[key]
            if int.from_bytes(file.read(8), "little") != numbers.count:
                raise ValueError("a storage of another length than promised")
            numbers.fill(file.read(numbers.bytes))
    return content


def _read_zip(path: Path, allowed: Mapping[tuple[str, str], Any]) -> Any:
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [
            name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and _member(archive, f"{folder}byteorder") != b"little":
            raise ValueError("numbers that are not little-endian")
        reader = _Reader(io.BytesIO(_member(archive, pickled)), path, allowed)
        content = reader.load()
        for key, numbers in reader.numbers.items():
            numbers.fill(_member(archive, f"{folder}data/{key}"))
    return content


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    # torch compresses nothing, and what is compressed may become larger than memory.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _stand_ins(classes: Collection[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """For every global of a pickled network. A pickle may set attributes of them: each file gets its own."""
    found: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor"): lambda *arguments: _StoredTensor(*arguments),
        ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _StoredTensor(*arguments),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch.nn.parameter", "Parameter"): lambda tensor, *_: tensor,  # before PyTorch 0.4
        ("torch.nn.backends.thnn", "_get_thnn_function_backend"): lambda: None,  # before PyTorch 1.2
        ("torch", "device"): lambda *_: None,
        ("__builtin__", "xrange"): lambda *_: None,  # as Python 2 and pickle's protocol 2 call it
        ("__builtin__", "set"): lambda items=(): set(items),
        ("collections", "OrderedDict"): OrderedDict,
    }
    for module, name in classes:
        found[module, name] = type(name, (PickledModule,), {})
    for name, dtype in _DTYPES.items():
        for module in ("torch", "torch.cuda"):
            found[module, name] = type(name, (), {"dtype": dtype})
    return found


class _Reader(pickle.Unpickler):
    """Knows the stand-ins it is given, and nothing else."""

    def __init__(
        self, file: IO[bytes], path: Path, allowed: Mapping[tuple[str, str], Any] = MappingProxyType({})
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._path, self._allowed, self._room = path, allowed, path.stat().st_size
        self.numbers: dict[str, _Numbers] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of the file."""
        if (module, name) not in self._allowed:
            raise UnsafeFileError(
                f"{self._path} is a pickle that would call {module}.{name} if it were loaded, which a pickled network "
                "has no need of; nothing of it was run. Fetch the file from its authors again, or do without it."
            )
        return self._allowed[module, name]

    def persistent_load(self, saved: Any) -> Any:
        """A storage, or a class with its source, which is left aside."""
        if saved[0] == "module":
            return saved[1]
        kind, storage, key, _, count, *view = saved
        if kind != "storage" or not isinstance(getattr(storage, "dtype", None), torch.dtype) or any(view):
            raise ValueError("what is no plain storage of numbers")
        if key not in self.numbers:
            numbers = _Numbers(storage.dtype, count)
            self._room -= numbers.bytes
            if count < 0 or self._room < 0:
                raise ValueError("more numbers than the file has room for")
            self.numbers[key] = numbers
        return self.numbers[key]

"""NVlabs' EDM pickles: the networks' tensors and constructor arguments, without the code that the files carry.

Such a file (`edm-cifar10-32x32-uncond-vp.pkl`) pickles each module as a call of `torch_utils.persistence` with the
source text of its class, to be executed. Here that call only keeps what it is given, and every other global but the
few that tensors need is refused.

Source: github.com/NVlabs/edm, torch_utils/persistence.py.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raycp.errors import ModelError, UnsafeFileError
from raycp.models.pickled_module import PickledModule, module_tensors

_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class EdmNetwork:
    """What an EDM pickle says of its network.

    Attributes:
        class_name: of the preconditioner, such as `EDMPrecond`.
        arguments: of its constructor, by name.
        state: tensors by the names of its state_dict, CPU, dtypes as stored.
    """

    class_name: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Tensor]


def read_edm_pickle(path: str | Path, key: str = "weights") -> EdmNetwork:
    """Read the averaged network, `ema`, of a published file or of a training snapshot.

    Args:
        path: the `.pkl`.
        key: dotted path of the configuration key that named the file, for messages.

    Raises:
        ModelError: the file is missing, damaged, or holds something else.
        UnsafeFileError: it names a class or function that such a file has no need of; nothing of it was run.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelError(f"{key}: there is no file {path}.")
    try:
        with path.open("rb") as file:
            content = _Reader(file, path).load()
    except _DAMAGED as err:
        raise ModelError(f"{path} is damaged or not an EDM pickle ({type(err).__name__}: {err}).") from err
    if not isinstance(content, dict) or not isinstance(content.get("ema"), _Kept):
        names = (
            ", ".join(map(str, content)) if isinstance(content, dict) and content else type(content).__name__
        )
        raise ModelError(f"{path} must hold a network of NVlabs' EDM under 'ema'; it holds {names}.")
    try:
        network: _Kept = content["ema"]
        arguments = dict(network.state["_init_kwargs"])
        if network.state["_init_args"]:
            raise ValueError("arguments without names")
        state = dict(module_tensors(network))
        for name, tensor in state.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{name} is a {type(tensor).__name__}, not a tensor")
        return EdmNetwork(str(network.class_name), arguments, state)
    except _DAMAGED as err:
        raise ModelError(
            f"{path} is not laid out as EDM's networks are ({type(err).__name__}: {err})."
        ) from err


class _Kept(PickledModule):
    """What a persistent object was to be rebuilt from."""

    def __init__(self, meta: Mapping[str, Any]) -> None:
        if meta["type"] != "class" or not isinstance(meta["state"], dict):
            raise ValueError("a persistent object that is no module")
        self.class_name = meta["class_name"]
        self.state = meta["state"]


class _Dtype:
    """Stands for numpy.dtype, as far as numbers go."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "fiub":
            raise ValueError(f"numbers of dtype {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _Dtype, data: bytes) -> Any:
    (value,) = np.frombuffer(data, kind.dtype)
    return value.item()


def _tensor(flat: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    # as_strided refuses what would lie outside of the storage.
    return torch.as_strided(flat, size, stride, offset).clone()


class _Reader(pickle.Unpickler):
    """Knows stand-ins for what an EDM pickle needs, and nothing else."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self._path = path
        # A pickle may set attributes of what it was given: so it gets functions and a class of its own.
        self._allowed: dict[tuple[str, str], Any] = {
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): lambda meta: _Kept(meta),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _tensor(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch.storage", "_load_from_bytes"): lambda data: self._storage(data),
            ("torch.nn.modules.container", "ModuleDict"): type("ModuleDict", (PickledModule,), {}),
            ("collections", "OrderedDict"): OrderedDict,
            ("numpy", "dtype"): type("dtype", (_Dtype,), {}),
            ("numpy.core.multiarray", "scalar"): lambda kind, data: _scalar(kind, data),
            ("numpy._core.multiarray", "scalar"): lambda kind, data: _scalar(kind, data),
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of the file."""
        if (module, name) not in self._allowed:
            raise self._unsafe(
                f"would call {module}.{name} if it were loaded, which EDM's networks have no need of"
            )
        return self._allowed[module, name]

    def _storage(self, data: bytes) -> Tensor:
        """A stored array, flat."""
        try:
            stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as err:
            raise self._unsafe(
                f"hides another one that is more than numbers: {str(err).splitlines()[0]}"
            ) from err
        if not isinstance(stored, torch.storage.TypedStorage):
            raise ValueError(f"a {type(stored).__name__} where a tensor's numbers should be")
        # What its untyped() returns, without the warning.
        return torch.empty(0, dtype=stored.dtype).set_(stored._untyped_storage)

    def _unsafe(self, why: str) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self._path} is a pickle that {why}; nothing of it was run. Fetch the file from its authors again, or do "
            "without it."
        )

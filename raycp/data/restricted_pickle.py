"""Reads a pickled dictionary of plain values and arrays of numbers without running code.

A pickle names functions ("globals") and has them called. Here only the globals of a pickled numpy array are
known, and each of them is a stand-in written below: the real `dtype.__setstate__` and `ndarray.__setstate__`
believe the file, which can thereby pass bytes off as object pointers. Everything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.errors import DataError, UnsafeFileError

_NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")

# What a damaged pickle can make the pickle machine raise.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)


class _RefusedError(Exception):
    """The file asks for something that could run code; the message goes on after "a pickle that"."""


class _DTypeStandIn:
    """A dtype of integers or floats; nothing of it but the byte order can be set by the file."""

    __slots__ = ("dtype",)

    def __init__(self, name: str | bytes, align: bool = False, copy: bool = True) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if text.startswith("O"):
            raise _RefusedError("holds an array of Python objects")
        if text not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of dtype {text!r}, where only numbers are expected")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, order, *rest = state
        if (
            version != 3
            or order not in ("|", "<", ">", b"|", b"<", b">")
            or rest != [None, None, None, -1, -1, 0]
        ):
            raise pickle.UnpicklingError("a dtype with an unusual state")
        text = order.decode("ascii") if isinstance(order, bytes) else order
        self.dtype = np.dtype(text + self.dtype.str[1:])


class _ArrayStandIn:
    """An array whose content is filled in by the state that follows it in the file."""

    __slots__ = ("array",)

    def __init__(self, subtype: object, shape: object, code: object) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _DTypeStandIn) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array that is not made of numbers")
        if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
            raise pickle.UnpicklingError("an array with an impossible shape")
        self.array = np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")


class _Global:
    """One allowed global: it can be called and passed on, and the file can do nothing else to it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("tries to change a function")


def _ndarray(*args: object) -> object:
    raise _RefusedError("makes an array by calling 'numpy.ndarray'")


def _encode(text: object, encoding: object) -> bytes:
    """`_codecs.encode` as Python 3 writes bytes into old pickles; other codecs would be code of their own."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError(f"calls '_codecs.encode' with the codec {encoding!r:.50}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Global(_ArrayStandIn),
    ("numpy._core.multiarray", "_reconstruct"): _Global(_ArrayStandIn),
    ("numpy", "ndarray"): _Global(_ndarray),
    ("numpy", "dtype"): _Global(_DTypeStandIn),
    ("_codecs", "encode"): _Global(_encode),
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _RefusedError(f"asks for {f'{module}.{name}'[:200]!r}")
        return _STAND_INS[module, name]


def read_pickled_dict(path: Path) -> dict[str, object]:
    """The dictionary in `path`; keys are text, and arrays among its values are numpy arrays of numbers.

    Text that Python 2 wrote is returned as bytes, except for the keys.

    Raises:
        UnsafeFileError: the file asks for a global that such a file does not need, or does with an allowed one
            what such a file does not do; nothing was run.
        DataError: the file cannot be read, is damaged, or does not hold a dictionary.
    """
    try:
        with path.open("rb") as file:  # not its bytes: the arrays would be in memory twice
            loaded = _RestrictedUnpickler(file, encoding="bytes").load()
    except _RefusedError as err:
        raise UnsafeFileError(
            f"{path} is a pickle that {err}, which a data set does not need and which could run code. Nothing "
            f"was run and nothing was loaded; use a file from a source you trust, or one without pickles."
        ) from err
    except OSError as err:
        raise DataError(f"cannot read {path}: {err.strerror or err}.") from err
    except _DAMAGE as err:
        raise DataError(f"{path} is damaged or not the pickle it should be: {err}.") from err
    if not isinstance(loaded, dict):
        raise DataError(f"{path} holds a {type(loaded).__name__}, but should hold a dictionary.")
    result: dict[str, object] = {}
    for key, value in loaded.items():
        if not isinstance(key, str | bytes):
            raise DataError(f"{path} has a key of type {type(key).__name__}, but keys should be text.")
        name = key if isinstance(key, str) else key.decode("latin1")
        result[name] = value.array if isinstance(value, _ArrayStandIn) else value
    return result

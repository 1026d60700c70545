"""Reads selected rows of one array in a `.npz` archive: any size of file, memory for the selected rows only."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from raycp.errors import DataError, UnsafeFileError

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Member:
    """One array of an archive, described by its header; nothing of its content is read yet.

    Attributes:
        path: the archive.
        key: name of the array.
        shape: shape of the whole array, at least one axis.
        dtype: dtype as stored; never holds objects.
        is_fortran: stored in Fortran order.
        offset: bytes before the content.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    offset: int

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Rows `indices` [M] along the first axis, in that order, native byte order.

        The member is read to its end, which checks its checksum.

        Raises:
            DataError: the content is damaged or of another length than the header says.
        """
        with _opened(self.path, self.key) as stream:
            _read_exactly(stream, self.offset)
            if self.is_fortran:
                flat = np.frombuffer(
                    _read_exactly(stream, prod(self.shape) * self.dtype.itemsize), self.dtype
                )
                chosen = flat.reshape(self.shape, order="F")[indices]
            else:
                chosen = self._stream_rows(stream, indices)
            if stream.read(1):
                raise ValueError("it is longer than its header says")
        return np.ascontiguousarray(chosen, dtype=self.dtype.newbyteorder("="))

    def _stream_rows(self, stream: IO[bytes], indices: NDArray[np.int64]) -> NDArray[Any]:
        order = np.argsort(indices, kind="stable")
        ascending = indices[order]
        chosen = np.empty((len(indices), *self.shape[1:]), self.dtype)
        row_bytes = prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, _CHUNK_BYTES // row_bytes)
        for start in range(0, self.shape[0], step):
            stop = min(start + step, self.shape[0])
            content = _read_exactly(stream, (stop - start) * row_bytes)
            low, high = np.searchsorted(ascending, (start, stop))
            chunk = np.frombuffer(content, self.dtype).reshape(-1, *self.shape[1:])
            chosen[order[low:high]] = chunk[ascending[low:high] - start]
        return chosen


def read_member(path: Path, key: str, config_key: str | None = None) -> Member:
    """Describe the array `key` of the archive `path`.

    Args:
        path: the `.npz` file.
        key: name of the array.
        config_key: dotted path of the configuration that chose `key`, for messages; None: the layout asks for it.

    Raises:
        DataError: not an archive, no such array, or a damaged header.
        UnsafeFileError: an array of Python objects, which would have to be unpickled.
    """
    with _archive(path) as archive:
        arrays = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if key not in arrays:
            lacking = (
                f"{path} has no array {key}"
                if config_key is None
                else f"{config_key} is {key}, but {path} has no such array"
            )
            raise DataError(f"{lacking}; it has: {', '.join(arrays) or 'none'}.")
        info = archive.getinfo(f"{key}.npy")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{path} is encrypted or compressed in a way that np.savez does not use; save it anew."
            )
    with _opened(path, key) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"the array has the format version {version}, which plain numbers do not need")
        offset = stream.tell()
    if dtype.hasobject:
        raise UnsafeFileError(
            f"the array {key} of {path} holds Python objects ({dtype}), and reading them would run code from the "
            f"file. It was not read; save it as plain numbers."
        )
    if not shape or 0 in shape:
        raise DataError(f"the array {key} of {path} is empty: its shape is {list(shape)}.")
    expected = offset + prod(shape) * dtype.itemsize
    if info.file_size != expected:
        raise DataError(
            f"{path} is damaged: the array {key} {list(shape)} of {dtype} needs {expected} bytes, but "
            f"{info.file_size} are there."
        )
    return Member(path, key, shape, dtype, is_fortran, offset)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, RuntimeError, OSError) as err:
        raise DataError(f"{path} is damaged or not an .npz file: {err}.") from err


@contextmanager
def _opened(path: Path, key: str) -> Iterator[IO[bytes]]:
    with _archive(path) as archive, archive.open(f"{key}.npy") as stream:
        yield stream


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise EOFError("it ends before the array does")
    return content

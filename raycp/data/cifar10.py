"""CIFAR-10 as published (Krizhevsky 2009): the binary and the python version hold the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import Cifar10Data
from raycp.data.images import ImageSet
from raycp.data.location import local_path
from raycp.data.restricted_pickle import read_pickled_dict
from raycp.data.selection import select_indices
from raycp.errors import DataError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_ROWS = 10_000
# A red, a green and a blue plane, each row by row.
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32

# (file, rows [m]) -> pixels uint8 [m, 3072], labels [m] as stored
_ReadRows = Callable[[Path, NDArray[np.int64]], tuple[NDArray[np.uint8], list[Any]]]


def read_cifar10(config: Cifar10Data) -> ImageSet:
    """The test batch (10,000 images) or the five training batches in order (50,000)."""
    files, read_rows = _find_batches(local_path(config.path), config.split)
    source = f"the CIFAR-10 {config.split} split in {files[0].parent}"
    indices = select_indices(config.select, _ROWS * len(files), source)
    images = np.empty((len(indices), *_SHAPE), np.uint8)
    labels = np.empty(len(indices), np.int64)
    for batch, file in enumerate(files):
        wanted = np.flatnonzero(indices // _ROWS == batch)
        if len(wanted):
            rows = indices[wanted] % _ROWS
            pixels, stored_labels = read_rows(file, rows)
            for row, label in zip(rows, stored_labels):
                if type(label) is not int or not 0 <= label < len(CLASS_NAMES):
                    raise DataError(
                        f"row {row} of {file} has the label {repr(label)[:40]}, but CIFAR-10 has the labels 0 to 9: "
                        f"the file is damaged or another data set."
                    )
            images[wanted] = pixels.reshape(-1, *_SHAPE)
            labels[wanted] = stored_labels
    return ImageSet(indices, images, labels, CLASS_NAMES, source)


def _find_batches(path: Path, split: str) -> tuple[list[Path], _ReadRows]:
    """The files of the split, from `path` or its usual subfolder, with the function that reads them."""
    stems = ["test_batch"] if split == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    binary = [f"{stem}.bin" for stem in stems]
    candidates: tuple[tuple[Path, list[str], _ReadRows], ...] = (
        (path, binary, _read_binary),
        (path, stems, _read_python),
        (path / "cifar-10-batches-bin", binary, _read_binary),
        (path / "cifar-10-batches-py", stems, _read_python),
    )
    for folder, names, read_rows in candidates:
        files = [folder / name for name in names]
        present = [file.is_file() for file in files]
        if all(present):
            return files, read_rows
        if any(present):
            raise DataError(
                f"there is no {files[present.index(False)]}, but other CIFAR-10 batches lie beside it."
            )
    raise DataError(
        f"data.path: no CIFAR-10 {split} files: looked for {binary[0]} and {stems[0]} in {path}, and in its "
        f"subfolders cifar-10-batches-bin and cifar-10-batches-py."
    )


def _read_binary(file: Path, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[Any]]:
    """Rows of one byte of label and 3,072 of pixels."""
    row_bytes = 1 + _PIXELS
    size = file.stat().st_size
    if size != _ROWS * row_bytes:
        raise DataError(
            f"{file} has {size} bytes, but a CIFAR-10 batch has {_ROWS * row_bytes}, {_ROWS} rows of {row_bytes}: "
            + (
                f"it ends within row {size // row_bytes}."
                if size < _ROWS * row_bytes
                else "it is something else."
            )
        )
    content = np.memmap(file, np.uint8, "r", shape=(_ROWS, row_bytes))
    chosen = np.asarray(content[rows])
    return chosen[:, 1:], chosen[:, 0].tolist()


def _read_python(file: Path, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[Any]]:
    """A pickled dictionary with `data` uint8 [10000, 3072] and `labels`, a list of 10,000 integers."""
    batch = read_pickled_dict(file)
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.shape != (_ROWS, _PIXELS) or pixels.dtype != np.uint8:
        what = (
            f"{pixels.dtype} {list(pixels.shape)}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        raise DataError(f"{file} should hold `data`, uint8 [{_ROWS}, {_PIXELS}], got {what}.")
    if not isinstance(labels, list) or len(labels) != _ROWS:
        what = f"a list of {len(labels)}" if isinstance(labels, list) else type(labels).__name__
        raise DataError(f"{file} should hold `labels`, a list of {_ROWS} integers, got {what}.")
    return pixels[rows], [labels[row] for row in rows]

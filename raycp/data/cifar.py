"""What CIFAR-10 and CIFAR-100 share (Krizhevsky 2009): a binary and a python version that hold the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import Selection
from raycp.data.batch_files import BatchFiles, ReadRows, read_batches, read_pickled_rows
from raycp.data.images import ImageSet
from raycp.data.location import local_path, shown
from raycp.errors import DataError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class CifarLayout:
    """One split of one of the two data sets.

    Attributes:
        title: name of the data set, for messages.
        split: name of the split.
        stems: its python files, in order; the binary ones end in `.bin`.
        num_rows: images in each file.
        binary_folder: subfolder that the binary archive unpacks to.
        python_folder: subfolder that the python archive unpacks to.
        num_label_bytes: bytes before the pixels of a row in the binary files.
        label_byte: which of them is the label.
        labels_key: the list of labels in the python files.
        labels_name: what these labels are called in messages.
        class_names: in the order of the labels.
    """

    title: str
    split: str
    stems: Sequence[str]
    num_rows: int
    binary_folder: str
    python_folder: str
    num_label_bytes: int
    label_byte: int
    labels_key: str
    labels_name: str
    class_names: tuple[str, ...]


def read_cifar(layout: CifarLayout, path: str, select: Selection) -> ImageSet:
    """The selected images of one split, uint8 [M,3,32,32].

    Raises:
        DataError: the files are not there, have another size, or hold something else.
        UnsafeFileError: a python file would run code; it did not.
    """
    files, read_rows = _find_files(layout, local_path(path))
    source = f"the {layout.title} {layout.split} split in {shown(files[0].parent)}"
    labels = range(len(layout.class_names))
    batches = BatchFiles(
        layout.title, files, [layout.num_rows] * len(files), read_rows, labels, layout.labels_name
    )
    return ImageSet(*read_batches(batches, select, source), layout.class_names, source)


def _find_files(layout: CifarLayout, path: Path) -> tuple[list[Path], ReadRows]:
    """The files of the split, from `path` or its usual subfolder, with the function that reads them."""
    binary = [f"{stem}.bin" for stem in layout.stems]
    read_binary = partial(_read_binary, layout)
    read_python = partial(read_pickled_rows, row_lengths=[_PIXELS], labels_key=layout.labels_key)
    candidates: tuple[tuple[Path, Sequence[str], ReadRows], ...] = (
        (path, binary, read_binary),
        (path, layout.stems, read_python),
        (path / layout.binary_folder, binary, read_binary),
        (path / layout.python_folder, layout.stems, read_python),
    )
    for folder, names, read_rows in candidates:
        files = [folder / name for name in names]
        present = [file.is_file() for file in files]
        if all(present):
            return files, read_rows
        if any(present):
            raise DataError(
                f"there is no {files[present.index(False)]}, but other {layout.title} batches lie beside it."
            )
    raise DataError(
        f"data.path: no {layout.title} {layout.split} files: looked for {binary[0]} and {layout.stems[0]} in {path}, "
        f"and in its subfolders {layout.binary_folder} and {layout.python_folder}."
    )


def _read_binary(
    layout: CifarLayout, file: Path, num_rows: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[Any]]:
    """Rows of one or two bytes of labels and 3,072 of pixels."""
    row_bytes = layout.num_label_bytes + _PIXELS
    size = file.stat().st_size
    if size != num_rows * row_bytes:
        raise DataError(
            f"{file} has {size} bytes, but a {layout.title} batch has {num_rows * row_bytes}, {num_rows} rows of "
            f"{row_bytes}: "
            + (
                f"it ends within row {size // row_bytes}."
                if size < num_rows * row_bytes
                else "it is something else."
            )
        )
    content = np.memmap(file, np.uint8, "r", shape=(num_rows, row_bytes))
    chosen = np.asarray(content[rows])
    return chosen[:, layout.num_label_bytes :], chosen[:, layout.label_byte].tolist()

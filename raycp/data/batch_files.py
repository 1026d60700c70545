"""Data sets in batch files, as CIFAR's: rows of a red, a green and a blue plane of pixels, each row with a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import Selection
from raycp.data.restricted_pickle import read_pickled_dict
from raycp.data.selection import select_indices
from raycp.errors import DataError

# (file, number of rows in it, rows [m] wanted) -> pixels uint8 [m, 3 S S], labels [m] as stored
ReadRows = Callable[[Path, int, NDArray[np.int64]], tuple[NDArray[np.uint8], list[Any]]]


@dataclass(frozen=True)
class BatchFiles:
    """The files of one split, in order.

    Attributes:
        title: name of the data set, for messages.
        files: one per batch.
        sizes: images in each.
        read_rows: reads chosen rows of one file.
        labels: labels as they are stored; the first of them is class 0.
        labels_name: what they are called in messages.
    """

    title: str
    files: Sequence[Path]
    sizes: Sequence[int]
    read_rows: ReadRows
    labels: range
    labels_name: str = "labels"


def read_batches(
    batches: BatchFiles, select: Selection, source: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """The selected images; indices count through the files in order, and files without one are not opened.

    Returns:
        indices: int64 [M].
        images: uint8 [M,3,S,S]; S follows from the length of the rows.
        classes: int64 [M], from 0.

    Raises:
        DataError: a label is not one of `batches.labels`, or files differ in the size of their images.
    """
    ends = np.cumsum(batches.sizes)
    indices = select_indices(select, int(ends[-1]), source)
    batch_of = np.searchsorted(ends, indices, side="right")
    images: NDArray[np.uint8] | None = None
    classes = np.empty(len(indices), np.int64)
    for batch, (file, size) in enumerate(zip(batches.files, batches.sizes)):
        wanted = np.flatnonzero(batch_of == batch)
        if not len(wanted):
            continue
        rows = indices[wanted] - (ends[batch] - size)
        pixels, stored = batches.read_rows(file, size, rows)
        for row, label in zip(rows, stored):
            if type(label) is not int or label not in batches.labels:
                raise DataError(
                    f"row {row} of {file} has the label {repr(label)[:40]}, but {batches.title} has the "
                    f"{batches.labels_name} {batches.labels[0]} to {batches.labels[-1]}: the file is damaged or "
                    f"another data set."
                )
        side = isqrt(pixels.shape[1] // 3)
        if images is None:
            images = np.empty((len(indices), 3, side, side), np.uint8)
        elif side != images.shape[2]:
            raise DataError(
                f"{file} has images of {side}x{side} pixels, but those of the batches before it have "
                f"{images.shape[2]}x{images.shape[2]}; keep each size in a folder of its own."
            )
        images[wanted] = pixels.reshape(-1, 3, side, side)
        classes[wanted] = np.array(stored, np.int64) - batches.labels[0]
    assert images is not None, "a selection has at least one image"
    return indices, images, classes


def read_pickled_rows(
    file: Path, num_rows: int, rows: NDArray[np.int64], row_lengths: Sequence[int], labels_key: str
) -> tuple[NDArray[np.uint8], list[Any]]:
    """Rows of a pickled dictionary with `data` uint8 [num_rows, one of row_lengths] and a list of labels.

    A pickle has no part that could be read by itself: the whole file is held until the rows are copied.
    """
    batch = read_pickled_dict(file)
    pixels, labels = batch.get("data"), batch.get(labels_key)
    shapes = [(num_rows, length) for length in row_lengths]
    if not isinstance(pixels, np.ndarray) or pixels.shape not in shapes or pixels.dtype != np.uint8:
        what = (
            f"{pixels.dtype} {list(pixels.shape)}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise DataError(f"{file} should hold `data`, uint8 {allowed}, got {what}.")
    if not isinstance(labels, list) or len(labels) != num_rows:
        what = f"a list of {len(labels)}" if isinstance(labels, list) else type(labels).__name__
        raise DataError(f"{file} should hold `{labels_key}`, a list of {num_rows} integers, got {what}.")
    return pixels[rows], [labels[row] for row in rows]

"""The idx files of MNIST (LeCun et al. 1998) and of the sets that took over its layout: Fashion-MNIST, KMNIST.

An idx file: 0, 0, a byte for the type (8: unsigned bytes), a byte for the number of axes, the length of each axis as a
big-endian 32-bit integer, then the content.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import MnistData
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.location import local_path, shown
from raycp.data.selection import select_indices
from raycp.errors import DataError

_ROWS = {"test": 10_000, "train": 60_000}
_SIDE = 28


@dataclass(frozen=True)
class _Mnist:
    """Name for messages, folder that torchvision keeps the files in, and names of the classes."""

    title: str
    folder: str
    class_names: tuple[str, ...]


# Folders and class names are torchvision's (datasets/mnist.py).
_SETS = {
    "mnist": _Mnist("MNIST", "MNIST/raw", tuple("0123456789")),
    "fashion_mnist": _Mnist(
        "Fashion-MNIST",
        "FashionMNIST/raw",
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": _Mnist("KMNIST", "KMNIST/raw", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
}  # fmt: skip


def read_mnist(config: MnistData) -> ImageSet:
    """The test images (10,000) or the training images (60,000), uint8 [M,1,28,28].

    No more is read of a file than the images that it should hold, whatever it would unpack to.

    Raises:
        DataError: the files are not there, damaged, or of another kind or size.
    """
    data_set = _SETS[config.name]
    rows = _ROWS[config.split]
    images_file, labels_file = _find_files(data_set, local_path(config.path), config.split)
    source = f"the {data_set.title} {config.split} split in {shown(images_file.parent)}"
    indices = select_indices(config.select, rows, source)
    what = f"the {config.split} split of {data_set.title}"
    images = _read_idx(images_file, (rows, _SIDE, _SIDE), f"the images of {what}")[indices]
    labels = _read_idx(labels_file, (rows,), f"the labels of {what}")[indices]
    classes = checked_labels(labels, indices, data_set.class_names, source)
    return ImageSet(indices, images[:, None], classes, data_set.class_names, source)


def _find_files(data_set: _Mnist, path: Path, split: str) -> tuple[Path, Path]:
    """The files of images and of labels, from `path` or its usual subfolder."""
    prefix = "t10k" if split == "test" else "train"
    for folder in (path, path / data_set.folder):
        found = [
            next((folder / name for name in names if (folder / name).is_file()), None)
            for names in (_spellings(prefix, "images", 3), _spellings(prefix, "labels", 1))
        ]
        images, labels = found
        if images is not None and labels is not None:
            return images, labels
        if images is not None or labels is not None:
            lacking = f"{prefix}-labels-idx1-ubyte" if labels is None else f"{prefix}-images-idx3-ubyte"
            raise DataError(
                f"there is no {folder / lacking} (nor .gz), but {images or labels} lies beside it."
            )
    raise DataError(
        f"data.path: no {data_set.title} {split} files: looked for {prefix}-images-idx3-ubyte and "
        f"{prefix}-images.idx3-ubyte, with or without .gz, in {path} and in its subfolder {data_set.folder}."
    )


def _spellings(prefix: str, content: str, axes: int) -> list[str]:
    return [f"{prefix}-{content}{dot}idx{axes}-ubyte{suffix}" for suffix in ("", ".gz") for dot in ("-", ".")]


def _read_idx(file: Path, shape: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an idx file.

    Args:
        file: plain or compressed by gzip; its first bytes tell, not its name.
        shape: the shape that it must have.
        what: what the file should hold, for messages.
    """
    with file.open("rb") as raw:
        is_compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw, mode="rb")) if is_compressed else raw
        try:
            return _read_content(stream, file, shape, what)
        except (EOFError, zlib.error, gzip.BadGzipFile) as err:
            raise DataError(f"{file} is damaged: {err}. Fetch it anew.") from err


def _read_content(stream: IO[bytes], file: Path, shape: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    magic = bytes([0, 0, 8, len(shape)])
    head = stream.read(4 + 4 * len(shape))
    if head[:4] != magic:
        raise DataError(
            f"{file} starts with the bytes {head[:4].hex(' ') or '(none)'}, but {what} start with {magic.hex(' ')} "
            f"(idx, unsigned bytes, {len(shape)} {'axis' if len(shape) == 1 else 'axes'}): it is something else."
        )
    if len(head) < 4 + 4 * len(shape):
        raise DataError(f"{file} has {len(head)} bytes and ends within its header. Fetch it anew.")
    stored = struct.unpack(f">{len(shape)}I", head[4:])
    if stored != shape:
        raise DataError(f"{file} holds {list(stored)}, but {what} are {list(shape)}: it is something else.")
    content = stream.read(prod(shape))
    if len(content) < prod(shape):
        raise DataError(
            f"{file} ends within row {len(content) // prod(shape[1:])}, but its header promises {shape[0]}. Fetch it "
            f"anew."
        )
    if stream.read(1):
        raise DataError(f"{file} goes on after the {shape[0]} rows that its header promises: it is damaged.")
    return np.frombuffer(content, np.uint8).reshape(shape)

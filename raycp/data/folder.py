"""Image files in one folder per class, as torchvision's `ImageFolder` reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import FolderData
from raycp.data.decode import EncodedImage, decode_images
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.location import local_path, shown
from raycp.data.selection import select_indices
from raycp.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm")


@dataclass(frozen=True)
class FolderImages:
    """The files of all class folders, by name; no image is read.

    Attributes:
        path: the folder above the class folders.
        names: encoded file names [M], relative to `path`; an array, which workers share.
        class_numbers: int64 [M].
        source: where the images come from, in words.
    """

    path: Path
    names: NDArray[np.bytes_]
    class_numbers: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str

    @property
    def group_rows(self) -> NDArray[np.int64]:
        """Each file by itself: int64 [M] of ones."""
        return np.ones(len(self.names), dtype=np.int64)

    def file(self, index: int) -> Path:
        """Where an image lies."""
        return self.path / os.fsdecode(self.names[index])

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of these images, checked: int64 [m]."""
        return checked_labels(self.class_numbers[indices], indices, self.class_names, self.source)

    def encoded(self, indices: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """These images, each with its position in `indices`."""
        for position, index in enumerate(indices.tolist()):
            file = self.file(index)
            yield EncodedImage(position, f"image {index} ({file})", file)


def read_folder(config: FolderData) -> ImageSet:
    """Classes are the folders in `path`, numbered in the order of their names (so "10" comes before "2").

    Indices count through the classes in order, and through the files of a class in the order of their names.
    Names that start with a dot are passed over.
    """
    stored = open_folder(config)
    indices = select_indices(config.select, len(stored.names), stored.source)
    images = decode_images(stored.encoded(indices), len(indices), config)
    return ImageSet(indices, images, stored.labels(indices), stored.class_names, stored.source)


def open_folder(config: FolderData) -> FolderImages:
    """List the files, see `read_folder`."""
    path = local_path(config.path)
    source = f"the class folders in {shown(path)}"
    folders = _class_folders(path)
    files = [(file, label) for label, folder in enumerate(folders) for file in _image_files(folder)]
    if not files:
        raise DataError(f"data.path: {source} hold no image files ({' '.join(SUFFIXES)}).")
    names = np.array([os.fsencode(file.relative_to(path)) for file, _ in files])
    class_numbers = np.array([label for _, label in files], dtype=np.int64)
    return FolderImages(path, names, class_numbers, tuple(folder.name for folder in folders), source)


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(
            (entry for entry in folder.iterdir() if entry.name[0] != "."), key=lambda entry: entry.name
        )
    except OSError as err:
        raise DataError(
            f"cannot list {folder}: {err.strerror or err}; it should hold class folders."
        ) from err


def _class_folders(path: Path) -> list[Path]:
    entries = _listing(path)
    folders = [entry for entry in entries if entry.is_dir()]
    stray = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]
    if stray:
        raise DataError(
            f"data.path: {path} should hold one folder per class, but holds the image {stray[0].name} itself; "
            f"name the folder above the class folders, or move the image into one."
        )
    if not folders:
        raise DataError(f"data.path: {path} should hold one folder per class, but holds no folder.")
    return folders


def _image_files(folder: Path) -> list[Path]:
    files = _listing(folder)
    for file in files:
        if file.suffix.lower() not in SUFFIXES or file.is_dir():
            what = "is a folder inside a class folder" if file.is_dir() else "is not an image file"
            raise DataError(
                f"{file} {what}; a class folder holds only image files ({' '.join(SUFFIXES)}). Move it away, so "
                f"that the numbers of the images are beyond doubt."
            )
    return files

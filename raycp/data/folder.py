"""Image files in one folder per class, as torchvision's `ImageFolder` reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from raycp.config.data import FolderData
from raycp.data.decode import EncodedImage, decode_images
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.location import local_path
from raycp.data.selection import select_indices
from raycp.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm")


def read_folder(config: FolderData) -> ImageSet:
    """Classes are the folders in `path`, numbered in the order of their names (so "10" comes before "2").

    Indices count through the classes in order, and through the files of a class in the order of their names.
    Names that start with a dot are passed over.
    """
    path = local_path(config.path)
    source = f"the class folders in {path}"
    folders = _class_folders(path)
    files = [(file, label) for label, folder in enumerate(folders) for file in _image_files(folder)]
    if not files:
        raise DataError(f"data.path: {source} hold no image files ({' '.join(SUFFIXES)}).")
    indices = select_indices(config.select, len(files), source)
    encoded = (
        EncodedImage(position, f"image {index} ({files[index][0]})", files[index][0])
        for position, index in enumerate(indices)
    )
    images = decode_images(encoded, len(indices), config)
    class_names = tuple(folder.name for folder in folders)
    labels = np.array([files[index][1] for index in indices])
    return ImageSet(
        indices, images, checked_labels(labels, indices, class_names, source), class_names, source
    )


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

"""A training set that stays where it is stored: images are read and decoded a few at a time, by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import DataConfig, FolderData, ParquetData
from raycp.data.decode import Model, decode_images
from raycp.data.folder import FolderImages, open_folder
from raycp.data.images import count_classes
from raycp.data.parquet import ParquetImages, open_parquet
from raycp.data.selection import select_indices
from raycp.errors import DataError


@dataclass(frozen=True, eq=False)
class StoredImages:
    """The selected images of one data set, numbered 0..M-1 in the order in which they are stored.

    Attributes:
        indices: int64 [M], place of each image in its whole split, ascending.
        labels: int64 [M], at least 0.
        group_rows: int64 [G], selected images of each group that is read together.
        shape: (C, H, W) of every image.
        sha256: digest of the bytes of the files, of indices and of labels. It covers the images as they are encoded:
            decoding all of them would take hours, and a parquet footer holds no checksum of what it describes.
        class_names: name of each class, or None when the data set does not say.
        source: where the images come from, in words.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    group_rows: NDArray[np.int64]
    shape: tuple[int, ...]
    sha256: str
    class_names: tuple[str, ...] | None
    source: str
    _stored: ParquetImages | FolderImages
    _config: ParquetData | FolderData
    _model: Model

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """Memory that the set takes without its images, in bytes."""
        return self.indices.nbytes + self.labels.nbytes + self.group_rows.nbytes

    @property
    def num_classes(self) -> int:
        """As many as the data set names, otherwise as many as its largest label asks for."""
        return count_classes(self.labels, self.class_names)

    def decoded(self, rows: NDArray[np.int64], chunk: int) -> Iterator[NDArray[np.uint8]]:
        """Images `rows`, in that order: uint8 [n,C,H,W], n at most `chunk`.

        All of them are held as they are stored until they are decoded, `chunk` at a time and in this thread alone.

        Raises:
            DataError: an image is damaged, or differs from the first of the set in mode or size.
        """
        waiting = {image.position: image for image in self._stored.encoded(self.indices[rows])}
        for first in range(0, len(rows), chunk):
            places = range(first, min(first + chunk, len(rows)))
            part = [replace(waiting.pop(place), position=place - first) for place in places]
            yield decode_images(part, len(part), self._config, self._model, threads=1)


def open_images(config: DataConfig) -> StoredImages:
    """Read the names, sizes and labels of a data set, hash its files, and decode its first image.

    Raises:
        DataError: the data set is missing, damaged, or of a kind that is only read whole.
    """
    try:
        return _open(config)
    except OSError as err:
        raise DataError(f"cannot read {err.filename or 'the data set'}: {err.strerror or err}.") from err


def _open(config: DataConfig) -> StoredImages:
    stored: ParquetImages | FolderImages
    if isinstance(config, ParquetData):
        stored = open_parquet(config)
    elif isinstance(config, FolderData):
        stored = open_folder(config)
    else:
        raise DataError(
            f"data.name is {config.name}, which is only read whole; parquet and folder data can stream. Leave "
            f"streaming out."
        )
    all_rows = stored.group_rows
    indices = np.sort(select_indices(config.select, int(all_rows.sum()), stored.source))
    labels = stored.labels(indices)
    first = next(stored.encoded(indices[:1]))
    shape = decode_images([first], 1, config).shape[1:]
    if isinstance(stored, ParquetImages):
        files = stored.paths
    else:
        files = [stored.file(index) for index in indices.tolist()]
    group_rows = np.diff(np.searchsorted(indices, np.cumsum(all_rows)), prepend=0)
    return StoredImages(
        indices, labels, group_rows[group_rows > 0], shape, _digest(files, indices, labels), stored.class_names,
        stored.source, stored, config, Model(first.name, shape),
    )  # fmt: skip


def _digest(files: list[Path], indices: NDArray[np.int64], labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for content in pool.map(_file_digest, files):
            digest.update(content)
    for array in (indices, labels):
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

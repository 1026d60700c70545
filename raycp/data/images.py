"""The one form in which images reach sampling and training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Selected images of one data set, in the order of the selection.

    Attributes:
        indices: int64 [M], place of each image in its whole split, before selection.
        images: uint8 [M,C,H,W], or float32 [M,C,H,W] in [0,1] for `.npz` files that are not on the 1/255 grid.
        labels: int64 [M], at least 0.
        class_names: name of each class, or None when the data set does not say.
        source: where the images come from, in words, for messages and records.
    """

    indices: NDArray[np.int64]
    images: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    source: str

    def __post_init__(self) -> None:
        assert self.images.ndim == 4 and self.images.dtype in (np.uint8, np.float32), self.images.dtype
        assert self.indices.dtype == np.int64 and self.labels.dtype == np.int64
        assert self.indices.shape == self.labels.shape == self.images.shape[:1]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image."""
        return self.images.shape[1:]

    @property
    def nbytes(self) -> int:
        """Memory that the set takes, in bytes."""
        return self.images.nbytes + self.labels.nbytes

    @property
    def num_classes(self) -> int:
        """As many as the data set names, otherwise as many as its largest label asks for."""
        return count_classes(self.labels, self.class_names)

    @property
    def sha256(self) -> str:
        """Digest of indices, images and labels: dtype, shape and little-endian bytes. Computed at each call."""
        digest = hashlib.sha256()
        for name in ("indices", "images", "labels"):
            array = getattr(self, name)
            array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()


def count_classes(labels: NDArray[np.int64], class_names: tuple[str, ...] | None) -> int:
    """Number of classes of labels [M]: a selection may lack some that the data set names."""
    return int(labels.max()) + 1 if class_names is None else len(class_names)

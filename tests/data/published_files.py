"""Writes data sets in the layouts in which they are published."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np


def planes(image: Any) -> bytes:
    """The bytes of one image [S,S,3], spelled out: all reds, all greens, all blues, each row by row."""
    side = len(image)
    return bytes(
        int(image[row, column, channel])
        for channel in range(3)
        for row in range(side)
        for column in range(side)
    )


def rows(images: Any) -> Any:
    """uint8 [N, 3 S S] of images [N,S,S,3]."""
    return np.stack([np.frombuffer(planes(image), np.uint8) for image in images])


def write_cifar100_binary(file: Path, images: Any, fine: list[int], coarse: list[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(bytes([c, f]) + planes(image) for image, f, c in zip(images, fine, coarse)))


def write_cifar100_python(file: Path, images: Any, fine: list[int], coarse: list[int]) -> None:
    """As Python 3 reads the keys of a file that Python 2 wrote."""
    file.parent.mkdir(parents=True, exist_ok=True)
    batch = {
        b"filenames": [b"volcano_s_000012.png"] * len(images),
        b"batch_label": b"testing batch 1 of 1",
        b"fine_labels": fine,
        b"coarse_labels": coarse,
        b"data": rows(images),
    }
    file.write_bytes(pickle.dumps(batch, protocol=2))


def idx(array: Any) -> bytes:
    """An idx file of unsigned bytes, by hand: type 8, the number of axes, big-endian lengths, content."""
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(struct.pack(">I", length) for length in array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_idx(file: Path, array: Any) -> None:
    """`array` as idx, compressed where the name says so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = idx(array)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_imagenet_npz(file: Path, images: Any, labels: Any, compress: bool = False, **more: Any) -> None:
    """Labels as published, from 1; training files also have the array `mean`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compress else np.savez
    with file.open("wb") as stream:
        save(stream, data=rows(images), labels=np.asarray(labels), **more)


def write_imagenet_python(file: Path, images: Any, labels: list[int], **more: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps({"data": rows(images), "labels": labels, **more}, protocol=3))

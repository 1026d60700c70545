"""ImageSet: the digest covers what a certificate depends on, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from raycp.data import ImageSet

BASE = ImageSet(
    indices=np.array([3, 7], np.int64),
    images=np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4),
    labels=np.array([1, 0], np.int64),
    class_names=None,
    source="a test",
)


def test_the_digest_is_of_names_types_shapes_and_bytes() -> None:
    digest = hashlib.sha256()
    digest.update(b"indices <i8 (2,)\n" + bytes([3, *[0] * 7, 7, *[0] * 7]))
    digest.update(b"images |u1 (2, 3, 4, 4)\n" + bytes(range(96)))
    digest.update(b"labels <i8 (2,)\n" + bytes([1, *[0] * 15]))
    assert BASE.sha256 == digest.hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"indices": np.array([3, 8], np.int64)},
        {"labels": np.array([0, 1], np.int64)},
        {"images": BASE.images[::-1].copy()},
        {"images": BASE.images.swapaxes(2, 3).copy()},
        {"images": BASE.images.reshape(2, 3, 2, 8)},
        {"images": (BASE.images / np.float32(255)).astype(np.float32)},
    ],
    ids=["index", "labels", "order", "transposed", "shape", "dtype"],
)
def test_the_digest_sees(change: dict[str, Any]) -> None:
    assert dataclasses.replace(BASE, **change).sha256 != BASE.sha256


def test_the_digest_does_not_see_memory_layout_names_or_source() -> None:
    strided = np.asfortranarray(BASE.images)
    assert not strided.flags.c_contiguous
    other = dataclasses.replace(BASE, images=strided, class_names=("a", "b"), source="elsewhere")
    assert other.sha256 == BASE.sha256


def test_length_is_the_number_of_images() -> None:
    assert len(BASE) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"images": BASE.images[:1]},
        {"images": BASE.images[:, 0]},
        {"images": BASE.images.astype(np.float64)},
        {"labels": BASE.labels.astype(np.int32)},
    ],
)
def test_our_own_mistakes_are_asserted(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        dataclasses.replace(BASE, **change)

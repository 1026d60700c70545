"""Batches: the same draws for any number of workers and parts, from images that are never copied as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raycp.training.batches import Batches, LoadedImages

SIZE, COPIES, MAX_SHIFT, KEY = 12, 2, 2, (5, 1)


def read_only_set() -> tuple[np.ndarray, np.ndarray]:
    """As workers get it from Ray's object store."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    labels = generator.integers(0, 10, 40)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def make(**changes: Any) -> Batches:
    options = {"flip": True, "copies": COPIES, **changes}
    return Batches(LoadedImages(*read_only_set()), SIZE, MAX_SHIFT, KEY, **options)


def plain_batch(step: int) -> tuple[Tensor, ...]:
    """The whole batch image by image, the data set turned into floats first."""
    images_MCHW, labels_M = (torch.from_numpy(array.copy()) for array in read_only_set())
    pixels_MCHW = images_MCHW.float() / 255
    seed = int(np.random.SeedSequence([*KEY, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(seed)
    index_B = torch.randint(len(pixels_MCHW), (SIZE,), generator=generator)
    shift_B2 = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (SIZE, 2), generator=generator)
    noises_mBCHW = torch.randn(COPIES, SIZE, 3, 8, 8, generator=generator)
    uniform_B = torch.rand(SIZE, generator=generator, dtype=torch.float64)
    normal_B = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    mirrored_B = torch.rand(SIZE, generator=generator) < 0.5
    x_BCHW = torch.zeros(SIZE, 3, 8, 8)
    for b in range(SIZE):
        image = pixels_MCHW[index_B[b]]
        image = image.flip(2) if mirrored_B[b] else image
        down, right = shift_B2[b].tolist()
        for row in range(max(0, down), min(8, 8 + down)):
            for column in range(max(0, right), min(8, 8 + right)):
                x_BCHW[b, :, row, column] = image[:, row - down, column - right]
    return x_BCHW, labels_M[index_B], noises_mBCHW, uniform_B, normal_B


@pytest.mark.filterwarnings("error::UserWarning")  # torch warns so of arrays it must not write
@pytest.mark.parametrize(("world_size", "parts"), [(1, 1), (2, 3), (3, 2)])
def test_shares_and_parts_are_pieces_of_one_batch_bit_for_bit(world_size: int, parts: int) -> None:
    workers = [make(rank=rank, world_size=world_size, parts=parts) for rank in range(world_size)]
    for step in (0, 7):
        pieces = [worker(step, part) for worker in workers for part in range(parts)]
        joint = (
            torch.cat([piece.x_BCHW for piece in pieces]),
            torch.cat([piece.label_B for piece in pieces]),
            torch.cat([piece.noises_mBCHW for piece in pieces], dim=1),
            torch.cat([piece.uniform_B for piece in pieces]),
            torch.cat([piece.normal_B for piece in pieces]),
        )
        for found, wanted in zip(joint, plain_batch(step), strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


def test_a_step_drawn_again_after_another_one_is_the_same() -> None:
    batches = make()
    first = batches(3)
    assert not torch.equal(batches(4).noise_BCHW, first.noise_BCHW)
    assert torch.equal(batches(3).noise_BCHW, first.noise_BCHW)


def test_images_larger_than_memory_are_left_where_they_are() -> None:
    """Ten million rows of 3x64x64 would take 123 GB, here one image that all rows share."""
    image = np.arange(3 * 64 * 64).reshape(3, 64, 64) % 256
    images = np.broadcast_to(image.astype(np.uint8), (10_000_000, 3, 64, 64))
    batch = Batches(LoadedImages(images, np.broadcast_to(np.int64(1), 10_000_000)), 4, 0, (0, 0))(0)
    assert torch.equal(batch.x_BCHW[3], torch.from_numpy(image).float() / 255)


def test_images_in_another_memory_layout_give_batches_in_the_usual_one() -> None:
    images, labels = read_only_set()
    other = np.asfortranarray(images)
    batch = Batches(LoadedImages(other, labels), SIZE, 0, KEY)(0)
    assert batch.x_BCHW.is_contiguous()
    assert torch.equal(batch.x_BCHW, Batches(LoadedImages(images, labels), SIZE, 0, KEY)(0).x_BCHW)

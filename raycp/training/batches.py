"""Batches keyed by (seed, stage, step): what is drawn depends neither on the number of workers nor on interruptions.

Every worker draws the whole batch's randomness and keeps its share, so that no generator state has to be saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step.

    Attributes:
        x_BCHW: images, float32 in [0, 1].
        label_B: int64.
        noises_mBCHW: standard normal, m draws for each image.
        uniform_B: float64 in [0, 1), for noise levels and grid steps.
        normal_B: float64, standard normal, for log-normal noise levels.
    """

    x_BCHW: Tensor
    label_B: Tensor
    noises_mBCHW: Tensor
    uniform_B: Tensor
    normal_B: Tensor

    @property
    def noise_BCHW(self) -> Tensor:
        """The first draw of noise."""
        return self.noises_mBCHW[0]


@dataclass(frozen=True)
class _Draws:
    """The randomness of a whole step: its B images and what happens to each."""

    index_B: Tensor
    shift_B2: Tensor
    noises_mBCHW: Tensor
    uniform_B: Tensor
    normal_B: Tensor
    mirrored_B: Tensor


class TrainingImages(Protocol):
    """Where images come from: from memory, or streamed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image."""
        ...

    def __len__(self) -> int:
        """Number of images M."""
        ...

    def take(self, sample: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """Images, uint8 [B, C, H, W], and labels, int64 [B], of B consecutive samples of a stage.

        Args:
            sample: number of the first one, counted from the start of the stage over all workers.
            index_B: drawn at random in 0..M-1 for each of them, for sets in which any image can be had at any time.
        """
        ...


class LoadedImages:
    """A training set in memory: what is drawn is what is taken.

    Args:
        images_MCHW: uint8; never copied as a whole, so that all workers of a node can share it.
        labels_M: int64.
    """

    def __init__(self, images_MCHW: np.ndarray, labels_M: np.ndarray) -> None:
        self._images = images_MCHW
        self._labels = torch.from_numpy(np.array(labels_M))

    @property
    def shape(self) -> tuple[int, ...]:
        """See `TrainingImages`."""
        return self._images.shape[1:]

    def __len__(self) -> int:
        return len(self._images)

    def take(self, sample: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainingImages`."""
        # NumPy's indexing copies the rows alone; torch would warn of an array that it must not write to.
        rows_BCHW = np.ascontiguousarray(self._images[index_B.numpy()])
        return torch.from_numpy(rows_BCHW), self._labels[index_B]


class Batches:
    """Draws batches of a training set.

    Args:
        images: the set.
        batch_size: of all workers together.
        max_shift: images are shifted by up to this many pixels each way, filled with 0.
        key: (seed, number of the stage).
        rank, world_size: of this worker.
        device: where the batch is needed; it is drawn on the CPU, the same for every device.
        flip: every other image, by chance, is reflected left to right.
        copies: m, draws of noise for each image.
        parts: into which the worker's share of a step is cut.
    """

    def __init__(
        self,
        images: TrainingImages,
        batch_size: int,
        max_shift: int,
        key: tuple[int, int],
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        flip: bool = False,
        copies: int = 1,
        parts: int = 1,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._images = images
        self._batch_size = batch_size
        self._max_shift = max_shift
        self._flip = flip
        self._copies = copies
        self._key = key
        share = batch_size // world_size
        assert share % parts == 0, (share, parts)
        self._first, self._part = rank * share, share // parts
        self._latest: tuple[int, _Draws] | None = None

    def __call__(self, step: int, part: int = 0) -> Batch:
        """A part of the share of step `step`."""
        if self._latest is None or self._latest[0] != step:  # all parts of a step have one draw
            self._latest = (step, self._draw(step))
        draws = self._latest[1]
        mine = slice(self._first + part * self._part, self._first + (part + 1) * self._part)
        x_BCHW, label_B = self._images.take(step * self._batch_size + mine.start, draws.index_B[mine])
        if self._flip:
            x_BCHW = torch.where(draws.mirrored_B[mine][:, None, None, None], x_BCHW.flip(-1), x_BCHW)
        if self._max_shift:
            x_BCHW = shifted(x_BCHW, draws.shift_B2[mine])
        tensors = (
            x_BCHW.float() / 255,
            label_B,
            draws.noises_mBCHW[:, mine],
            draws.uniform_B[mine],
            draws.normal_B[mine],
        )
        return Batch(*(tensor.to(self._device, non_blocking=True) for tensor in tensors))

    def seed(self, step: int, part: int = 0) -> int:
        """Of what a network draws by itself (dropout) in a part of step `step`; each worker has its own."""
        # A last word of 0 would be that of `_draw`.
        key = [*self._key, step, 1 + self._first + part * self._part]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _draw(self, step: int) -> _Draws:
        """Everything random in a step, for all workers; the order of the draws is part of what a seed means."""
        word = np.random.SeedSequence([*self._key, step]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(word >> np.uint64(1)))
        B, shape = self._batch_size, self._images.shape
        return _Draws(
            index_B=torch.randint(len(self._images), (B,), generator=generator),
            shift_B2=torch.randint(-self._max_shift, self._max_shift + 1, (B, 2), generator=generator),
            noises_mBCHW=torch.randn(self._copies, B, *shape, generator=generator),
            uniform_B=torch.rand(B, generator=generator, dtype=torch.float64),
            normal_B=torch.randn(B, generator=generator, dtype=torch.float64),
            mirrored_B=torch.rand(B, generator=generator) < 0.5,
        )


def shifted(x_BCHW: Tensor, shift_B2: Tensor) -> Tensor:
    """Each image moved by its own (down, right) number of pixels; what comes in is 0."""
    B, _, H, W = x_BCHW.shape
    rows_BH = torch.arange(H)[None] - shift_B2[:, :1]
    columns_BW = torch.arange(W)[None] - shift_B2[:, 1:]
    inside = ((rows_BH >= 0) & (rows_BH < H))[:, :, None] & ((columns_BW >= 0) & (columns_BW < W))[:, None, :]
    rows, columns = rows_BH.clamp(0, H - 1)[:, :, None], columns_BW.clamp(0, W - 1)[:, None, :]
    moved = x_BCHW.permute(0, 2, 3, 1)[torch.arange(B)[:, None, None], rows, columns].permute(0, 3, 1, 2)
    return moved * inside[:, None]

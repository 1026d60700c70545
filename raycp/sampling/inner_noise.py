"""What a base classifier draws itself: standard normal numbers, each sample's a function of its key alone.

Shapes: B rows of a batch, V = C*H*W values per image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from raycp.sampling.blocks import Block, stream_word
from raycp.sampling.philox import numpy_words, signed, torch_words

_SHARED = np.zeros((1, 3), dtype=np.int64)  # sigma is never 0, so no sample of a run has this key


@dataclass(frozen=True)
class InnerNoise:
    """The inner noise of a batch: draw d of a row is keyed by (run seed, d + 1) and (sample, image, sigma and phase).

    The smoothing noise has 0 where this has d + 1, so the two are independent, and a sample is drawn again with the
    same inner noise wherever it stands. In float64, of 52-bit uniforms, rounded to float32.

    Attributes:
        seed: run seed.
        keys_B3: int64 [B, 3]: index of the image in its data set, stream word, sample.
        shape: (C, H, W).
        device: where it is needed.
    """

    seed: int
    keys_B3: npt.NDArray[np.int64]
    shape: tuple[int, ...]
    device: torch.device

    def __call__(self, draw: int) -> torch.Tensor:
        """Draw number `draw`, from 0, of every row: float32 [B, C, H, W]."""
        return self._normal(draw, self.keys_B3)

    def shared(self, draw: int) -> torch.Tensor:
        """One draw for all samples of the run: float32 [1, C, H, W]."""
        return self._normal(draw, _SHARED)

    def rows(self, chosen: npt.NDArray[np.int64] | slice) -> InnerNoise:
        """The inner noise of these rows, in this order."""
        return replace(self, keys_B3=self.keys_B3[chosen])

    def padded(self, batch_size: int) -> InnerNoise:
        """With rows of no sample's key after its own."""
        missing = np.zeros((batch_size - len(self.keys_B3), 3), dtype=np.int64)
        return replace(self, keys_B3=np.concatenate([self.keys_B3, missing]))

    def _normal(self, draw: int, keys_B3: npt.NDArray[np.int64]) -> torch.Tensor:
        num_values = math.prod(self.shape)
        if self.device.type == "cpu":
            rows = [
                numpy_words(self.seed, index, stream % 2**64, sample, 1, num_values, draw + 1)
                for index, stream, sample in keys_B3.tolist()
            ]
            words = torch.from_numpy(np.concatenate(rows).view(np.int64))
        else:
            index_B, stream_B, sample_B = torch.from_numpy(keys_B3).to(self.device).unbind(dim=1)
            words = torch_words(self.seed, index_B, stream_B, sample_B, num_values, draw + 1)
        return normal_of(words).view(len(keys_B3), *self.shape)


def inner_noise_of(
    seed: int,
    image_index: npt.NDArray[np.int64],
    sigma: float,
    blocks: Sequence[Block],
    shape: tuple[int, ...],
    device: torch.device,
) -> InnerNoise:
    """The inner noise of all samples of the blocks, in order."""
    keys = [
        (int(image_index[block.image]), signed(stream_word(sigma, block.phase)), sample)
        for block in blocks
        for sample in range(block.first, block.first + block.num_samples)
    ]
    return InnerNoise(seed, np.array(keys, dtype=np.int64), shape, device)


def inner_noise_by_place(x_BCHW: torch.Tensor) -> InnerNoise:
    """Some inner noise for images that are samples of no run: to check or to time a base classifier."""
    keys_B3 = np.zeros((len(x_BCHW), 3), dtype=np.int64)
    keys_B3[:, 2] = np.arange(len(x_BCHW))
    return InnerNoise(0, keys_B3, tuple(x_BCHW.shape[1:]), x_BCHW.device)


def normal_of(words: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers, float32, of random words, int64, by the inverse distribution of 52-bit uniforms."""
    # 52 bits and the half fill float64's 53: one bit more would round to even, and the last uniform to 1.
    uniform = (((words >> 12) & (2**52 - 1)).double() + 0.5) * 2.0**-52
    normal: torch.Tensor = torch.special.ndtri(uniform).float()
    return normal

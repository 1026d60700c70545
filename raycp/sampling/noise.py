"""Noisy images: x + noise for rows of (image, phase, sample), each row's noise a function of its key alone.

Shapes: B rows of a batch, M images, V = C*H*W values per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from raycp.errors import DataError
from raycp.sampling.blocks import Block, Phase, stream_word
from raycp.sampling.discrete_gaussian import discrete_gaussian
from raycp.sampling.inner_noise import InnerNoise, inner_noise_of, normal_of
from raycp.sampling.philox import numpy_words, signed, torch_words

# Enough words to amortise NumPy's call overhead, few enough to stay in a core's second-level cache.
_WORDS_AT_ONCE = 2**16


class Noise(Protocol):
    """Draws the noisy images of a batch of consecutive blocks, and what their base classifier draws afterwards."""

    def __call__(self, sigma: float, blocks: Sequence[Block]) -> torch.Tensor:
        """Noisy images of all samples of the blocks, in order: float32 [sum of num_samples, C, H, W], pixel units."""
        ...

    def inner(self, sigma: float, blocks: Sequence[Block]) -> InnerNoise:
        """The inner noise of the same samples, independent of their noise."""
        ...


def make_noise(
    kind: Literal["sound", "float"],
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    image_index: npt.NDArray[np.int64],
    seed: int,
    device: torch.device,
) -> Noise:
    """The noise of a run.

    Args:
        kind: `sound` (integers on the 1/255 grid, never clipped) or `float` (literal x + sigma n).
        images: [M, C, H, W], uint8; float32 in [0, 1] is possible for `float`.
        image_index: int64 [M], index of each image in its data set, which keys its noise.
        seed: run seed.
        device: where the batch is needed.
    """
    if kind == "float":
        return FloatNoise(images, image_index, seed, device)
    if images.dtype != np.uint8:
        raise DataError("sound noise needs 8-bit images; quantise them once, or set certify.noise to float.")
    images = images.astype(np.uint8, copy=False)
    if device.type == "cpu":
        return NumpySoundNoise(images, image_index, seed)
    if device.type == "cuda" and find_spec("triton") is not None:
        return TritonSoundNoise(images, image_index, seed, device)
    return TorchSoundNoise(images, image_index, seed, device)


class _Samples:
    """What keys the samples of a run, and the shape of its images."""

    def __init__(
        self, shape: tuple[int, ...], image_index: npt.NDArray[np.int64], seed: int, device: torch.device
    ) -> None:
        self._shape = shape
        self._image_index = image_index
        self._seed = seed
        self._device = device

    def inner(self, sigma: float, blocks: Sequence[Block]) -> InnerNoise:
        """See `Noise`."""
        return inner_noise_of(self._seed, self._image_index, sigma, blocks, self._shape, self._device)


class NumpySoundNoise(_Samples):
    """Sound noise on the CPU, by NumPy's Philox and a guide table."""

    def __init__(self, images: npt.NDArray[np.uint8], image_index: npt.NDArray[np.int64], seed: int) -> None:
        super().__init__(images.shape[1:], image_index, seed, torch.device("cpu"))
        self._images_MV = images.reshape(len(images), -1)

    def __call__(self, sigma: float, blocks: Sequence[Block]) -> torch.Tensor:
        gaussian = discrete_gaussian(sigma)
        num_values = self._images_MV.shape[1]
        at_once = max(1, _WORDS_AT_ONCE // num_values)
        noisy = np.empty((sum(block.num_samples for block in blocks), num_values), dtype=np.float32)
        row = 0
        for block in blocks:
            stream = stream_word(sigma, block.phase)
            index = int(self._image_index[block.image])
            for first in range(block.first, block.first + block.num_samples, at_once):
                n = min(at_once, block.first + block.num_samples - first)
                words = numpy_words(self._seed, index, stream, first, n, num_values)
                noisy[row : row + n] = gaussian(words) + self._images_MV[block.image].astype(np.int16)
                row += n
        return torch.from_numpy(noisy).div_(255).view(-1, *self._shape)


class _DeviceRows(_Samples):
    """Images and keys on a device, and the counter words of a batch of blocks."""

    def __init__(
        self,
        images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
        image_index: npt.NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(images.shape[1:], image_index, seed, device)
        self._images_MV = torch.from_numpy(images.reshape(len(images), -1)).to(device)
        self._image_index_M = torch.from_numpy(image_index).to(device)

    def _rows(
        self, sigma: float, blocks: Sequence[Block]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """(slot, image index, stream word, sample), int64 [B] each; four small copies to the device."""
        counts = [block.num_samples for block in blocks]
        streams = {phase: signed(stream_word(sigma, phase)) for phase in Phase}
        slot = np.repeat([block.image for block in blocks], counts)
        stream = np.repeat(np.array([streams[block.phase] for block in blocks], dtype=np.int64), counts)
        sample = np.concatenate([np.arange(b.first, b.first + b.num_samples) for b in blocks])
        slot_B, stream_B, sample_B = (
            torch.from_numpy(a).to(self._device, non_blocking=True) for a in (slot, stream, sample)
        )
        return slot_B, self._image_index_M[slot_B], stream_B, sample_B


class TorchSoundNoise(_DeviceRows):
    """Sound noise on any device, by int64 arithmetic: the reference, and the path where Triton is absent."""

    def __call__(self, sigma: float, blocks: Sequence[Block]) -> torch.Tensor:
        gaussian = discrete_gaussian(sigma)
        slot_B, index_B, stream_B, sample_B = self._rows(sigma, blocks)
        words = torch_words(self._seed, index_B, stream_B, sample_B, self._images_MV.shape[1])
        # Flipping the top bit turns unsigned order into signed order.
        flip = torch.iinfo(torch.int64).min
        thresholds = torch.from_numpy(gaussian.thresholds.view(np.int64)).to(self._device) ^ flip
        values = torch.bucketize(words ^ flip, thresholds, right=True) - gaussian.largest
        return (self._images_MV[slot_B] + values).float().div_(255).view(-1, *self._shape)


class TritonSoundNoise(_DeviceRows):
    """Sound noise on a GPU, by one fused Triton kernel."""

    def __call__(self, sigma: float, blocks: Sequence[Block]) -> torch.Tensor:
        from raycp.sampling.triton_noise import noisy_pixels

        gaussian = discrete_gaussian(sigma)
        thresholds = torch.from_numpy(gaussian.thresholds.view(np.int64)).to(self._device)
        pixels = noisy_pixels(self._images_MV, *self._rows(sigma, blocks), thresholds, self._seed)
        return pixels.float().div_(255).view(-1, *self._shape)


class FloatNoise(_DeviceRows):
    """The literal x + sigma n in float32, as published code draws it; floating point makes it unsound in theory.

    n is the inverse normal distribution of a 52-bit uniform in (0, 1), in float64, rounded to float32.
    """

    def __call__(self, sigma: float, blocks: Sequence[Block]) -> torch.Tensor:
        slot_B, words = self._words(sigma, blocks)
        n = normal_of(words)
        x = self._images_MV[slot_B]
        x = x.float().div_(255) if x.dtype == torch.uint8 else x
        noisy: torch.Tensor = x + sigma * n
        return noisy.view(-1, *self._shape)

    def _words(self, sigma: float, blocks: Sequence[Block]) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots int64 [B] and words int64 [B, V]; NumPy draws them where the device is the CPU."""
        slot_B, index_B, stream_B, sample_B = self._rows(sigma, blocks)
        num_values = self._images_MV.shape[1]
        if self._device.type != "cpu":
            return slot_B, torch_words(self._seed, index_B, stream_B, sample_B, num_values)
        parts = [
            numpy_words(
                self._seed,
                int(self._image_index[b.image]),
                stream_word(sigma, b.phase),
                b.first,
                b.num_samples,
                num_values,
            )
            for b in blocks
        ]
        return slot_B, torch.from_numpy(np.concatenate(parts).view(np.int64))

"""Integer noise on the GPU: Philox4x64-10, threshold search and the sum with the image, in one Triton kernel.

It gives the integers of `DiscreteGaussian` on `numpy_words`, bit for bit; Triton's interpreter runs it on a CPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from raycp.sampling.philox import signed

_BLOCKS_PER_PROGRAM = 256


@triton.jit
def _philox_round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    m0 = tl.full(c0.shape, 0xD2E7470EE14C6C93, tl.uint64)
    m1 = tl.full(c0.shape, 0xCA5A826395121157, tl.uint64)
    return tl.umulhi(c2, m1) ^ c1 ^ k0, c2 * m1, tl.umulhi(c0, m0) ^ c3 ^ k1, c0 * m0


@triton.jit  # type: ignore[untyped-decorator]
def _count_below(words, thresholds, num_thresholds, STEPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Number of sorted thresholds <= word, by binary search with a fixed number of steps."""
    low = tl.zeros(words.shape, tl.int32)
    high = low + num_thresholds
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        searching = low < high
        threshold = tl.load(thresholds + middle, mask=searching, other=0).to(tl.uint64, bitcast=True)
        below = threshold <= words
        low = tl.where(searching & below, middle + 1, low)
        high = tl.where(searching & (below == 0), middle, high)
    return low


@triton.jit  # type: ignore[untyped-decorator]
def _noisy_kernel(  # type: ignore[no-untyped-def]
    out, images, slot, image_index, stream, sample, thresholds, seed, num_thresholds, num_values,
    STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    block = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    c0 = (block + 1).to(tl.uint64)
    c1 = tl.zeros_like(c0) + tl.load(sample + row).to(tl.uint64, bitcast=True)
    c2 = tl.zeros_like(c0) + tl.load(image_index + row).to(tl.uint64, bitcast=True)
    c3 = tl.zeros_like(c0) + tl.load(stream + row).to(tl.uint64, bitcast=True)
    k0 = tl.zeros_like(c0) + tl.load(seed).to(tl.uint64, bitcast=True)
    k1 = tl.zeros_like(c0)
    for _ in tl.static_range(10):
        c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
        k0 += tl.full(k0.shape, 0x9E3779B97F4A7C15, tl.uint64)
        k1 += tl.full(k1.shape, 0xBB67AE8584CAA73B, tl.uint64)
    image = images + tl.load(slot + row) * num_values
    for part in tl.static_range(4):
        words = c0 if part == 0 else (c1 if part == 1 else (c2 if part == 2 else c3))
        position = block * 4 + part
        inside = position < num_values
        value = _count_below(words, thresholds, num_thresholds, STEPS) - num_thresholds // 2
        pixel = tl.load(image + position, mask=inside, other=0).to(tl.int32)
        tl.store(out + row.to(tl.int64) * num_values + position, (pixel + value).to(tl.int16), mask=inside)


def noisy_pixels(
    images_MV: torch.Tensor,
    slot_B: torch.Tensor,
    image_index_B: torch.Tensor,
    stream_B: torch.Tensor,
    sample_B: torch.Tensor,
    thresholds: torch.Tensor,
    seed: int,
) -> torch.Tensor:
    """Image values plus integer noise.

    Args:
        images_MV: uint8 [M, V], contiguous.
        slot_B: int64 [B], row of `images_MV`.
        image_index_B, stream_B, sample_B: int64 [B], the counter words (uint64 bits).
        thresholds: int64 [2K] with the bits of `DiscreteGaussian.thresholds`.
        seed: run seed.

    Returns:
        int16 [B, V].
    """
    num_values = images_MV.shape[1]
    out = torch.empty((len(slot_B), num_values), dtype=torch.int16, device=images_MV.device)
    grid = (len(slot_B), triton.cdiv(num_values, 4 * _BLOCKS_PER_PROGRAM))
    # The seed goes in as a tensor: Triton would compile the kernel anew for a seed of 1 or a multiple of 16.
    seed_word = torch.tensor([signed(seed)], dtype=torch.int64, device=images_MV.device)
    _noisy_kernel[grid](
        out, images_MV, slot_B, image_index_B, stream_B, sample_B, thresholds, seed_word,
        len(thresholds), num_values, STEPS=len(thresholds).bit_length(), BLOCK=_BLOCKS_PER_PROGRAM,
    )  # fmt: skip
    return out

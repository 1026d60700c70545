"""Counter-based random words: Philox4x64-10 keyed by meaning, so a sample's noise depends on nothing else.

Key = (run seed, purpose); counter = (word block + 1, sample, image index, stream word of sigma and phase); each counter
gives four 64-bit words. The purpose is 0 for the smoothing noise and d + 1 for draw d inside the base classifier. The
+1 of the counter is NumPy's: its Philox increments the counter before it draws.

Two implementations of the same words: NumPy's (fast on CPU) and torch's int64 arithmetic (any device). The Triton
kernel is in `triton_noise`.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
ROUNDS = 10
_LOW = 0xFFFFFFFF


def numpy_words(
    seed: int,
    image_index: int,
    stream: int,
    first_sample: int,
    num_samples: int,
    num_words: int,
    purpose: int = 0,
) -> npt.NDArray[np.uint64]:
    """Words of consecutive samples of one image and stream.

    Args:
        seed: run seed, 0 <= seed < 2^64.
        image_index: index of the image in its data set.
        stream: `stream_word(sigma, phase)`.
        first_sample: first sample.
        num_samples: number of samples n.
        num_words: words per sample w (one per pixel and channel).
        purpose: 0, the smoothing noise; d + 1, draw d inside the base classifier.

    Returns:
        uint64 [n, w].
    """
    words = np.empty((num_samples, num_words), dtype=np.uint64)
    generator = np.random.Philox(
        key=np.array([seed, purpose], dtype=np.uint64),
        counter=np.array([0, first_sample, image_index, stream], dtype=np.uint64),
    )
    to_next_sample = 2**64 - -(-num_words // 4)
    for row in words:
        row[:] = generator.random_raw(num_words)
        generator.advance(to_next_sample)
    return words


def torch_words(
    seed: int,
    image_index_B: torch.Tensor,
    stream_B: torch.Tensor,
    sample_B: torch.Tensor,
    num_words: int,
    purpose: int = 0,
) -> torch.Tensor:
    """The same words on any device, one row per (image, stream, sample).

    Args:
        image_index_B, stream_B, sample_B: int64 [B]; int64 stands for the uint64 of the same bits.

    Returns:
        int64 [B, num_words], to be read as uint64.
    """
    import torch

    num_blocks = -(-num_words // 4)
    block = torch.arange(1, num_blocks + 1, device=sample_B.device)
    columns = (block[None, :], sample_B[:, None], image_index_B[:, None], stream_B[:, None])
    c0, c1, c2, c3 = (column.expand(len(sample_B), num_blocks) for column in columns)
    k0, k1 = seed, purpose
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ signed(k0), low1, high0 ^ c3 ^ signed(k1), low0
        k0, k1 = (k0 + WEYL[0]) % 2**64, (k1 + WEYL[1]) % 2**64
    return torch.stack((c0, c1, c2, c3), dim=-1).flatten(1)[:, :num_words]


def signed(word: int) -> int:
    """The int64 that has the bits of a uint64."""
    return word - 2**64 if word >= 2**63 else word


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low words of the unsigned 128-bit product, from 32-bit halves; int64 arithmetic wraps."""
    a_low, a_high = a & _LOW, (a >> 32) & _LOW
    b_low, b_high = b & _LOW, b >> 32
    low_low, low_high, high_low = a_low * b_low, a_low * b_high, a_high * b_low
    middle = ((low_low >> 32) & _LOW) + (low_high & _LOW) + (high_low & _LOW)
    high = a_high * b_high + ((low_high >> 32) & _LOW) + ((high_low >> 32) & _LOW) + (middle >> 32)
    return high, a * signed(b)

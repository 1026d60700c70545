"""Philox4x64-10 in plain Python integers: the definition, against which the fast implementations are held."""

from __future__ import annotations

WORD = 2**64
PHILOX_M = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
PHILOX_W = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def philox4x64_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Salmon et al. 2011, section 4.3."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = divmod(PHILOX_M[0] * c0, WORD)
        high1, low1 = divmod(PHILOX_M[1] * c2, WORD)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + PHILOX_W[0]) % WORD, (k1 + PHILOX_W[1]) % WORD
    return c0, c1, c2, c3


def words_of_sample(seed: int, image_index: int, stream: int, sample: int, num_words: int) -> list[int]:
    """The words of one sample as the run's noise is keyed: counter (block + 1, sample, image, stream)."""
    words: list[int] = []
    block = 0
    while len(words) < num_words:
        block += 1
        words += philox4x64_10((block, sample, image_index, stream), (seed, 0))
    return words[:num_words]

"""The inner noise of a base classifier: keyed by the sample, apart from the smoothing noise, standard normal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from base_classifiers import CPU
from philox_oracle import philox4x64_10
from scipy.special import ndtri
from scipy.stats import kstest

from raycp.sampling.blocks import Block, Phase, stream_word
from raycp.sampling.inner_noise import InnerNoise, inner_noise_by_place, normal_of
from raycp.sampling.noise import FloatNoise, Noise, NumpySoundNoise, TorchSoundNoise
from raycp.sampling.philox import numpy_words, signed, torch_words

SEED = 2**63 + 11
SIGMA = 0.25
IMAGES = np.random.default_rng(2).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
INDEX = np.array([5, 50, 2**40])
BLOCKS = [
    Block(2, Phase.ESTIMATION, 2**33, 3),
    Block(0, Phase.SELECTION, 7, 4),
    Block(2, Phase.PREDICTION, 0, 2),
]
SAMPLES = [(b, sample) for b in BLOCKS for sample in range(b.first, b.first + b.num_samples)]
KINDS: list[Noise] = [
    NumpySoundNoise(IMAGES, INDEX, SEED),
    TorchSoundNoise(IMAGES, INDEX, SEED, CPU),
    FloatNoise(IMAGES, INDEX, SEED, CPU),
]


def by_definition(index: int, stream: int, sample: int, draw: int, num_values: int) -> list[float]:
    """Counter (word block + 1, sample, image, stream), key (seed, draw + 1), and the top 52 bits of each word."""
    words: list[int] = []
    while len(words) < num_values:
        words += philox4x64_10((len(words) // 4 + 1, sample, index, stream), (SEED, draw + 1))
    return [float(np.float32(ndtri(((word >> 12) + 0.5) / 2**52))) for word in words[:num_values]]


@pytest.mark.parametrize("draw", [0, 1, 12])
@pytest.mark.parametrize("noise", KINDS, ids=lambda noise: type(noise).__name__)
def test_a_draw_is_what_its_key_says(noise: Noise, draw: int) -> None:
    normal = noise.inner(SIGMA, BLOCKS)(draw)
    assert normal.dtype == torch.float32 and normal.shape == (9, 3, 8, 8)
    for row, (block, sample) in zip(normal, SAMPLES, strict=True):
        expected = by_definition(int(INDEX[block.image]), stream_word(SIGMA, block.phase), sample, draw, 192)
        torch.testing.assert_close(row.flatten(), torch.tensor(expected), rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("purpose", [0, 1, 2**32 + 5])
def test_both_implementations_draw_the_same_words(purpose: int) -> None:
    stream = stream_word(0.5, Phase.ESTIMATION)
    by_numpy = numpy_words(SEED, 3, stream, 40, 2, 13, purpose)
    rows = [torch.tensor([value, value]) for value in (3, signed(stream))]
    by_torch = torch_words(SEED, *rows, torch.tensor([40, 41]), 13, purpose)
    assert by_torch.numpy().view(np.uint64).tolist() == by_numpy.tolist()


def test_a_device_draws_what_the_cpu_draws() -> None:
    """The two ways to the words, without a GPU: the path of other devices, on this one."""
    inner = KINDS[0].inner(SIGMA, BLOCKS)
    columns = torch.from_numpy(inner.keys_B3).unbind(dim=1)
    words = torch_words(SEED, columns[0], columns[1], columns[2], 192, 4)
    assert torch.equal(normal_of(words).view(9, 3, 8, 8), inner(3))


def test_rows_go_with_their_samples() -> None:
    inner = KINDS[0].inner(SIGMA, BLOCKS)
    order = np.random.default_rng(1).permutation(9)
    assert torch.equal(inner.rows(order)(2), inner(2)[torch.from_numpy(order)])
    assert torch.equal(inner.rows(slice(4, 9)).padded(8)(2)[:5], inner(2)[4:])
    assert len(inner.padded(16)(0)) == 16
    pieces = [KINDS[0].inner(SIGMA, [Block(b.image, b.phase, sample, 1)])(2) for b, sample in SAMPLES]
    assert torch.equal(torch.cat(pieces), inner(2))


def test_draws_phases_sigmas_images_and_samples_are_apart() -> None:
    """No value occurs twice: 52 bits leave odds of 1e-8 for one pair among these 9,600."""
    inner = [KINDS[0].inner(sigma, BLOCKS)(draw) for sigma in (0.25, 0.5) for draw in range(2)]
    inner.append(KINDS[0].inner(SIGMA, BLOCKS).shared(0))
    words = [
        numpy_words(SEED, int(INDEX[b.image]), stream_word(sigma, b.phase), sample, 1, 192, purpose)
        for b, sample in SAMPLES
        for sigma in (0.25, 0.5)
        for purpose in range(3)
    ]
    assert len(np.unique(np.concatenate(words))) == sum(part.size for part in words)
    rows = torch.cat(inner).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows) == 37


def test_a_shared_draw_is_that_of_the_run() -> None:
    first, other = KINDS[0].inner(SIGMA, BLOCKS), KINDS[0].inner(0.5, BLOCKS[:1])
    assert first.shared(1).shape == (1, 3, 8, 8)
    assert torch.equal(first.shared(1), other.shared(1))
    assert not torch.equal(first.shared(1), first.shared(2))
    seeded = InnerNoise(SEED + 1, first.keys_B3, first.shape, CPU)
    assert not torch.equal(first.shared(1), seeded.shared(1))


def test_the_numbers_are_standard_normal_and_know_nothing_of_the_noise() -> None:
    """A fixed seed; a right implementation would fail at 1 of 1,000 seeds."""
    n = 4_000
    block = [Block(0, Phase.ESTIMATION, 0, n)]
    noise = NumpySoundNoise(IMAGES[:, :1, :4, :4], INDEX, 3)
    draws = [noise.inner(SIGMA, block)(draw).double().flatten() for draw in range(2)]
    assert kstest(torch.cat(draws), "norm").pvalue > 1e-3
    smoothing = (noise(SIGMA, block) * 255 - torch.from_numpy(IMAGES[0, :1, :4, :4])).double().flatten()
    for a, b in ((draws[0], draws[1]), (draws[0], smoothing), (draws[0][16:], draws[0][:-16])):
        correlation = float(np.corrcoef(a, b)[0, 1])
        assert abs(correlation) < 3.5 / np.sqrt(16 * n)


def test_noise_by_place_has_a_row_for_every_image() -> None:
    inner = inner_noise_by_place(torch.zeros(3, 1, 2, 2))
    assert inner(0).shape == (3, 1, 2, 2)
    assert len(torch.unique(inner(0))) == 12

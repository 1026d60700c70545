"""Noisy images: known answers, the exact grid, no clipping, and keys that nothing but their meaning enters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from philox_oracle import words_of_sample
from scipy.stats import kstest, norm

from raycp.errors import DataError
from raycp.sampling import noise as noise_module
from raycp.sampling.blocks import Block, Phase, stream_word
from raycp.sampling.discrete_gaussian import discrete_gaussian
from raycp.sampling.noise import FloatNoise, NumpySoundNoise, TorchSoundNoise, make_noise
from raycp.sampling.philox import numpy_words

CPU = torch.device("cpu")
SMALL = np.array([[[[0, 1, 128], [254, 255, 7]]], [[[9, 9, 9], [9, 9, 9]]]], dtype=np.uint8)
INDEX = np.array([20, 9_999])
# Computed apart: 255 sigma times the inverse normal distribution of word / 2^64 (mpmath), rounded, plus the pixel.
COMMITTED = [[12, -25, 96, 291, 291, -1], [-28, -68, 162, 247, 168, 6], [31, 99, -76, 71, 17, 87]]


def test_committed_integers() -> None:
    """The whole path from key to pixels: these numbers are part of every run."""
    noise = make_noise("sound", SMALL, INDEX, 2024, CPU)
    blocks = [Block(0, Phase.SELECTION, 0, 2), Block(1, Phase.ESTIMATION, 2**33, 1)]
    noisy = noise(0.25, blocks)
    assert noisy.dtype == torch.float32
    assert noisy.shape == (3, 1, 2, 3)
    assert (noisy * 255).round().int().flatten(1).tolist() == COMMITTED


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1])
def test_sound_noise_is_pixel_plus_integer_of_the_keyed_word(seed: int) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (2, 3, 3, 5), dtype=np.uint8)
    noise = NumpySoundNoise(images, INDEX, seed)
    sigma, phase, first = 0.5, Phase.PREDICTION, 2**32 + 5
    rows = noise(sigma, [Block(1, phase, first, 3)])
    gaussian = discrete_gaussian(sigma)
    for sample, row in enumerate(rows):
        words = words_of_sample(seed, 9_999, stream_word(sigma, phase), first + sample, 45)
        integers = [
            int(np.searchsorted(gaussian.thresholds, np.uint64(word), side="right")) - gaussian.largest
            for word in words
        ]
        expected = (images[1].reshape(-1).astype(np.int64) + integers).astype(np.float32) / np.float32(255)
        assert (row.reshape(-1).numpy() == expected).all()


@pytest.mark.parametrize("sigma", [0.002, 0.25, 1.0, 3.7])
def test_sound_noise_stays_on_the_grid_and_is_never_clipped(sigma: float) -> None:
    images = np.stack([np.zeros((1, 16, 16), np.uint8), np.full((1, 16, 16), 255, np.uint8)])
    for noise in (NumpySoundNoise(images, INDEX, 4), TorchSoundNoise(images, INDEX, 4, CPU)):
        noisy = noise(sigma, [Block(0, Phase.ESTIMATION, 0, 40), Block(1, Phase.ESTIMATION, 0, 40)])
        integers = (noisy.double() * 255).round()
        assert (noisy == integers.float().div(255)).all()
        black, white = integers[:40], integers[40:]
        # Half of the noise lies outside [0, 255] on the one or the other side.
        assert (black < 0).any() and (black > 0).any()
        assert (white > 255).any() and (white < 255).any()


def test_all_words_equal_to_the_extremes_do_not_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine sigma at the largest sigma, on a white image: the sum must not leave int16."""
    images = np.full((1, 1, 2, 2), 255, np.uint8)
    monkeypatch.setattr(noise_module, "numpy_words", lambda *_: np.full((1, 4), 2**64 - 1, dtype=np.uint64))
    noisy = NumpySoundNoise(images, INDEX[:1], 0)(14.1, [Block(0, Phase.SELECTION, 0, 1)])
    assert (noisy * 255).round().flatten().tolist() == [255 + 32_359] * 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_numpy_and_torch_give_the_same_bits(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(1, 1, 1), (1, 2, 3), (3, 4, 4), (1, 1, 7)]))
    images = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
        0, 256, (3, *shape), dtype=np.uint8
    )
    index = np.array([0, 2**40, 2**63 - 1])
    seed = data.draw(st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]))
    sigma = data.draw(st.sampled_from([0.0005, 0.12, 0.25, 1.0, 3.3]))
    blocks = data.draw(
        st.lists(
            st.builds(
                Block,
                st.integers(0, 2),
                st.sampled_from(Phase),
                st.sampled_from([0, 1, 99, 2**32 - 2, 2**50]),
                st.integers(1, 5),
            ),
            min_size=1,
            max_size=4,
        )
    )
    by_numpy = NumpySoundNoise(images, index, seed)(sigma, blocks)
    by_torch = TorchSoundNoise(images, index, seed, CPU)(sigma, blocks)
    assert by_numpy.shape == (sum(block.num_samples for block in blocks), *shape)
    assert by_numpy.dtype == by_torch.dtype == torch.float32
    assert torch.equal(by_numpy, by_torch)


def test_torch_counts_a_threshold_that_equals_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the words of real runs do not meet: thresholds that are the words of this very sample."""
    words = numpy_words(3, 20, stream_word(0.25, Phase.SELECTION), 5, 1, 64)[0]
    thresholds = np.sort(words)
    table = SimpleNamespace(thresholds=thresholds, largest=32)
    monkeypatch.setattr(noise_module, "discrete_gaussian", lambda sigma: table)
    black = np.zeros((1, 1, 8, 8), np.uint8)
    noisy = TorchSoundNoise(black, INDEX[:1], 3, CPU)(0.25, [Block(0, Phase.SELECTION, 5, 1)])
    expected = np.searchsorted(thresholds, words, side="right") - 32
    assert (noisy.flatten() * 255).round().tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["sound", "float"])
def test_a_row_depends_on_its_key_alone(kind: str) -> None:
    """However samples are cut into blocks, and whatever else is drawn, a sample's bits are the same."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    index = np.array([3, 1, 4, 15])
    noise = make_noise(kind, images, index, 11, CPU)  # type: ignore[arg-type]
    whole = {
        (image, phase): noise(0.25, [Block(image, phase, 0, 30)]) for image in range(4) for phase in Phase
    }
    for _ in range(20):
        blocks = []
        for _ in range(rng.integers(1, 6)):
            first = int(rng.integers(0, 30))
            blocks.append(
                Block(
                    int(rng.integers(4)),
                    Phase(int(rng.integers(3))),
                    first,
                    int(rng.integers(1, 31 - first)),
                )
            )
        expected = [whole[b.image, b.phase][b.first : b.first + b.num_samples] for b in blocks]
        assert torch.equal(noise(0.25, blocks), torch.cat(expected))
    # The place of an image in the run does not matter either, its index in the data set does.
    alone = make_noise(kind, images[2:3], index[2:3], 11, CPU)  # type: ignore[arg-type]
    assert torch.equal(alone(0.25, [Block(0, Phase.SELECTION, 0, 30)]), whole[2, Phase.SELECTION])
    other = make_noise(kind, images[2:3], index[1:2], 11, CPU)  # type: ignore[arg-type]
    assert not torch.equal(other(0.25, [Block(0, Phase.SELECTION, 0, 30)]), whole[2, Phase.SELECTION])


@pytest.mark.parametrize("num_values", [30_000, 70_000])
def test_images_larger_than_the_words_drawn_at_once(num_values: int) -> None:
    images = np.zeros((1, 1, 1, num_values), np.uint8)
    block = [Block(0, Phase.SELECTION, 3, 5)]
    by_numpy = NumpySoundNoise(images, INDEX[:1], 1)(0.25, block)
    assert torch.equal(by_numpy, TorchSoundNoise(images, INDEX[:1], 1, CPU)(0.25, block))


def test_float_noise_is_the_literal_sum_of_keyed_normals() -> None:
    index = np.array([7])
    black, grey = np.zeros((1, 1, 4, 5), np.uint8), np.full((1, 1, 4, 5), 77, np.uint8)
    blocks = [Block(0, Phase.ESTIMATION, 6, 3)]
    sigma = 0.25
    sigma_n = FloatNoise(black, index, 5, CPU)(sigma, blocks)
    assert torch.equal(
        FloatNoise(grey, index, 5, CPU)(sigma, blocks), np.float32(77) / np.float32(255) + sigma_n
    )
    real = np.full((1, 1, 4, 5), 0.3, np.float32)
    assert torch.equal(FloatNoise(real, index, 5, CPU)(sigma, blocks), np.float32(0.3) + sigma_n)
    for row, sample in zip(sigma_n, range(6, 9), strict=True):
        words = words_of_sample(5, 7, stream_word(sigma, Phase.ESTIMATION), sample, 20)
        n = norm.ppf([((word >> 12) + 0.5) / 2**52 for word in words])
        assert row.flatten().numpy() == pytest.approx(sigma * n, rel=3e-7)


def test_float_noise_at_the_ends_of_its_uniform_is_finite_and_symmetric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = np.array([[0, 2**64 - 1, 2**63 - 1, 2**63]], dtype=np.uint64)
    monkeypatch.setattr(noise_module, "numpy_words", lambda *_: words)
    black = np.zeros((1, 1, 2, 2), np.uint8)
    low, high, left, right = FloatNoise(black, INDEX[:1], 0, CPU)(
        1.0, [Block(0, Phase.SELECTION, 0, 1)]
    ).flatten()
    assert low == pytest.approx(norm.ppf(2.0**-53), rel=1e-6)
    assert high == -low
    assert left == -right
    assert 0 < right < 1e-15


def test_float_noise_is_normal() -> None:
    """Mean, variance and Kolmogorov-Smirnov over 200,000 values. False alarm: 2e-6 in all, over the seed."""
    black = np.zeros((1, 1, 20, 20), np.uint8)
    n = (
        FloatNoise(black, INDEX[:1], 8, CPU)(0.5, [Block(0, Phase.SELECTION, 0, 500)]).flatten().double()
        / 0.5
    )
    assert abs(n.mean()) < 5.1 / len(n) ** 0.5
    assert abs(n.var() - 1) < 5.1 * (2 / len(n)) ** 0.5
    assert kstest(n.numpy(), norm.cdf).pvalue > 1e-6


@pytest.mark.parametrize("kind", ["sound", "float"])
def test_samples_and_pixels_are_uncorrelated(kind: str) -> None:
    """Correlation of each sample with the next one, and of each pixel with the next, and over phases: five sigmas."""
    black = np.zeros((2, 1, 16, 16), np.uint8)
    noise = make_noise(kind, black, INDEX, 8, CPU)  # type: ignore[arg-type]

    def drawn(image: int, phase: Phase) -> torch.Tensor:
        return noise(1.0, [Block(image, phase, 0, 400)]).flatten(1)

    x = drawn(0, Phase.SELECTION)
    others = [x.roll(1, 0), x.roll(1, 1), x.roll(4, 1), drawn(0, Phase.ESTIMATION), drawn(1, Phase.SELECTION)]
    for other in others:
        assert abs((x * other).mean()) < 5 / x.numel() ** 0.5


def test_kinds_of_make_noise() -> None:
    assert type(make_noise("sound", SMALL, INDEX, 0, CPU)) is NumpySoundNoise
    assert type(make_noise("float", SMALL, INDEX, 0, CPU)) is FloatNoise
    with pytest.raises(DataError, match=r"^sound noise needs 8-bit images; .* certify\.noise to float\.$"):
        make_noise("sound", SMALL.astype(np.float32) / 255, INDEX, 0, CPU)


def test_images_are_left_as_they_are() -> None:
    for images in (SMALL.copy(), SMALL.astype(np.float32) / 255):
        before = images.copy()
        noise = make_noise("float", images, INDEX, 0, CPU)
        first = noise(0.5, [Block(0, Phase.SELECTION, 0, 2)])
        first.zero_()
        assert not torch.equal(noise(0.5, [Block(0, Phase.SELECTION, 0, 2)]), first)
        assert (images == before).all()

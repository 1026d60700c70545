"""A base classifier that draws, in the kernel: its counts are a function of the samples' keys alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from base_classifiers import CPU, residue_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from keyed_blocks import BLOCKS, IMAGES, NOISE

from raycp.errors import NumericsError
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.inner_noise import InnerNoise
from raycp.sampling.kernel import Kernel
from raycp.sampling.measure import Measurer

K = 7
SIGMA = 0.25


def whole(normal: torch.Tensor) -> torch.Tensor:
    """Whole 255ths, so that the class is the same whatever the batch."""
    return (64 * normal).round() / 255


class Steps:
    """Adds whole numbers of its own to the pixels, twice, and takes the sum of the logits."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def images(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        assert sigma == SIGMA
        self.seen.append(tuple(x_BCHW.shape))
        yield x_BCHW + whole(noise(0))
        yield x_BCHW + whole(noise(1))

    def combine(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        first, second = logits
        return first + 2 * second


def drawing(purify: Any = None) -> BaseClassifier:
    return BaseClassifier(purify or Steps(), residue_logits(K), CPU, torch.float32, channels_last=False)


def classes_of(block: Block) -> list[int]:
    """The second image has the word, worked out from the noise alone."""
    x, inner = NOISE(SIGMA, [block]), NOISE.inner(SIGMA, [block])
    return residue_logits(K)(x + whole(inner(1))).argmax(1).tolist()


@settings(max_examples=40, deadline=None)
@given(BLOCKS, st.integers(1, 40))
def test_counts_are_those_of_each_block_by_itself(blocks: list[Block], batch_size: int) -> None:
    purify = Steps()
    counts = Kernel(drawing(purify), NOISE, K, batch_size).run(SIGMA, blocks)
    for block, row in zip(blocks, counts, strict=True):
        assert row.tolist() == [classes_of(block).count(k) for k in range(K)] + [0]
    assert set(purify.seen) == {(batch_size, 3, 8, 8)}


def test_the_inner_noise_has_a_say() -> None:
    """Else the test above would show nothing."""
    block = Block(1, Phase.ESTIMATION, 0, 200)
    without = residue_logits(K)(NOISE(SIGMA, [block])).argmax(1).tolist()
    assert np.mean(np.array(without) == np.array(classes_of(block))) < 0.3  # 1/7 by chance


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 33])
def test_the_self_test_passes_what_is_keyed(batch_size: int) -> None:
    Kernel(drawing(), NOISE, K, batch_size).self_test(SIGMA)


class ByPlace(Steps):
    """Draws by the place in the batch, as a generator would."""

    def images(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(2):
            yield x_BCHW + whole(torch.randn(x_BCHW.shape, generator=generator))


class OneForTheBatch(Steps):
    """The first sample's noise for all of them."""

    def images(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        for draw in range(2):
            yield x_BCHW + whole(noise(draw)[:1])


@pytest.mark.parametrize("batch_size", [8, 33])
@pytest.mark.parametrize("purify", [ByPlace, OneForTheBatch])
def test_the_self_test_refuses_what_is_not(purify: type[Steps], batch_size: int) -> None:
    with pytest.raises(NumericsError, match=r"^the order of a batch changes"):
        Kernel(drawing(purify()), NOISE, K, batch_size).self_test(SIGMA)


class Shared(Steps):
    """One draw for the run: also a function of the sample alone."""

    def images(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        for draw in range(2):
            yield x_BCHW + whole(noise.shared(draw))


def test_one_draw_for_the_run_passes() -> None:
    Kernel(drawing(Shared()), NOISE, K, 8).self_test(SIGMA)


def test_examples_are_the_first_draw_of_the_samples_that_are_counted() -> None:
    examples = Kernel(drawing(), NOISE, K, 3).examples(SIGMA, [3, 0, 2, 1])
    for row, image in enumerate([3, 0, 2, 1]):
        block = Block(image, Phase.ESTIMATION, 0, 1)
        clean = NOISE(SIGMA, [block]) + whole(NOISE.inner(SIGMA, [block])(0))
        assert np.array_equal(examples.purified[row], clean[0].numpy())
        assert [examples.predicted[row]] == classes_of(block)


@pytest.mark.parametrize("batch_size", [2, 5])
def test_an_evaluation_measures_the_first_draw(batch_size: int) -> None:
    measurer = Measurer(drawing(), NOISE, IMAGES, batch_size, None, None, keep=4)
    measurer.self_test(SIGMA)
    block = Block(1, Phase.EVALUATION, 3, 7)
    measured = measurer.run(SIGMA, [block])
    clean = NOISE(SIGMA, [block]) + whole(NOISE.inner(SIGMA, [block])(0))
    assert measured.purified is not None and np.array_equal(measured.purified, clean.flatten(1).numpy())
    assert measured.predicted.tolist() == classes_of(block)


def test_a_classifier_that_draws_must_be_given_the_noise() -> None:
    with pytest.raises(AssertionError, match="inner noise"):
        drawing()(torch.zeros(1, 3, 8, 8), SIGMA)

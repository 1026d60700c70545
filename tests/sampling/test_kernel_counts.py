"""Counts of the kernel against direct counting; padding, NaN, and packing leave no trace."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from base_classifiers import BlurringPurifier, of, residue_logits, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from keyed_blocks import BLOCKS, NOISE

from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import Kernel, batches

K = 7
SIGMA = 0.25


def noisy(block: Block) -> torch.Tensor:
    return NOISE(SIGMA, [block])


@settings(max_examples=60, deadline=None)
@given(BLOCKS, st.integers(1, 40))
def test_counts_are_those_of_each_block_by_itself(blocks: list[Block], batch_size: int) -> None:
    counts = Kernel(of(residue_logits(K)), NOISE, K, batch_size).run(SIGMA, blocks)
    assert counts.dtype == np.int64
    assert counts.shape == (len(blocks), K + 1)
    for block, row in zip(blocks, counts, strict=True):
        classes = residue_logits(K)(noisy(block)).argmax(1).tolist()
        assert row.tolist() == [classes.count(k) for k in range(K)] + [0]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_padding_is_never_counted(batch_size: int) -> None:
    """The classifier has NaN for an image of zeros and a class of its own for one of any constant."""

    def classify(x_BCHW: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x_BCHW), K)
        logits[:, 0] = 1
        flat = x_BCHW.flatten(1)
        logits[(flat == flat[:, :1]).all(1), 1] = 2
        logits[(flat == 0).all(1)] = torch.nan
        return logits

    seen = []
    model = of(lambda x: (seen.append(tuple(x.shape)), classify(x))[1])
    counts = Kernel(model, NOISE, K, batch_size).run(SIGMA, [Block(0, Phase.SELECTION, 0, 13)])
    assert counts.tolist() == [[13] + [0] * K]
    assert set(seen) == {(batch_size, 3, 8, 8)}
    assert len(seen) == -(-13 // batch_size)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", [0, K - 1, slice(None)])
def test_samples_with_a_logit_that_is_not_finite_are_counted_apart(bad: float, where: int | slice) -> None:
    """Every third residue goes bad, in one logit or all: those samples are in column K, the others where they were."""

    def classify(x_BCHW: torch.Tensor) -> torch.Tensor:
        logits = residue_logits(K)(x_BCHW)
        broken = logits.argmax(1) % 3 == 0
        logits[broken.nonzero()[:, 0], where] = bad
        return logits

    blocks = [Block(2, Phase.ESTIMATION, 0, 61), Block(0, Phase.SELECTION, 4, 30)]
    good = Kernel(of(residue_logits(K)), NOISE, K, 16).run(SIGMA, blocks)
    counts = Kernel(of(classify), NOISE, K, 16).run(SIGMA, blocks)
    expected = good.copy()
    expected[:, :K:3] = 0
    expected[:, K] = good[:, :K:3].sum(1)
    assert (expected[:, K] > 5).all()
    assert counts.tolist() == expected.tolist()


def test_a_sample_that_overflows_in_its_image_is_counted_apart() -> None:
    """A purifier that returns NaN for one sample: its logits are NaN, its neighbours' are not."""

    def purify(x: torch.Tensor, sigma: float) -> torch.Tensor:
        odd = (x.double() * 255).round().flatten(1).sum(1) % 2 == 1
        return torch.where(odd[:, None, None, None], torch.nan, x)

    network = small_network(3, K)
    block = Block(1, Phase.ESTIMATION, 0, 50)
    num_odd = int(((noisy(block).double() * 255).round().flatten(1).sum(1) % 2).sum())
    counts = Kernel(of(network, purify), NOISE, K, 16).run(SIGMA, [block])
    assert 10 < num_odd < 40
    assert counts[0, K] == num_odd
    assert counts.sum() == 50


def test_ties_go_to_the_lowest_class() -> None:
    counts = Kernel(of(lambda x: torch.zeros(len(x), K)), NOISE, K, 4).run(
        SIGMA, [Block(0, Phase.SELECTION, 0, 9)]
    )
    assert counts.tolist() == [[9] + [0] * K]


def network_of(dtype: torch.dtype, channels_last: bool) -> BaseClassifier:
    purifier = BlurringPurifier(3)
    if channels_last:
        purifier = purifier.to(memory_format=torch.channels_last)
    return of(small_network(3, K, channels_last), purifier, dtype, channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packing_does_not_change_a_count(dtype: torch.dtype, channels_last: bool) -> None:
    """A real network at one batch shape: blocks cut, reordered, repeated and mixed over images give the same counts."""
    model = network_of(dtype, channels_last)
    kernel = Kernel(model, NOISE, K, 24)
    kernel.self_test(SIGMA)
    n = 40
    streams = [(image, phase) for image in range(4) for phase in (Phase.SELECTION, Phase.ESTIMATION)]
    per_sample = {
        (image, phase): kernel.run(SIGMA, [Block(image, phase, i, 1) for i in range(n)])
        for image, phase in streams
    }
    assert len({tuple(row) for rows in per_sample.values() for row in rows.tolist()}) > 2  # several classes
    rng = np.random.default_rng(6)
    for _ in range(6):
        blocks = []
        for image, phase in streams:
            cuts = sorted({0, n, *rng.integers(1, n, rng.integers(0, 5)).tolist()})
            blocks += [Block(image, phase, a, b - a) for a, b in pairwise(cuts)]
        blocks = [blocks[i] for i in rng.permutation(len(blocks))]
        cut = int(rng.integers(1, len(blocks)))
        tasks = [blocks[:cut], blocks[cut:], blocks[:1]]
        for task in tasks:
            for block, row in zip(task, kernel.run(SIGMA, task), strict=True):
                expected = per_sample[block.image, block.phase][block.first : block.first + block.num_samples]
                assert row.tolist() == expected.sum(0).tolist()


def test_logits_are_float32_and_purifier_sees_noise_and_sigma() -> None:
    seen = {}

    def purify(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen["x"], seen["sigma"] = x, sigma
        return x.to(torch.bfloat16) + 1

    def classify(x: torch.Tensor) -> torch.Tensor:
        seen["purified"] = x
        return x.flatten(1)[:, :K]

    model = of(classify, purify, torch.bfloat16, channels_last=True)
    x = noisy(Block(0, Phase.SELECTION, 0, 4))
    purified, logits = model.purify_and_classify(x, SIGMA)
    assert torch.equal(seen["x"], x) and seen["x"].is_contiguous(memory_format=torch.channels_last)
    assert seen["sigma"] == SIGMA
    assert torch.equal(
        seen["purified"], x.to(torch.bfloat16) + 1
    )  # the classifier gets the purified image itself
    assert purified.dtype == logits.dtype == torch.float32
    assert torch.equal(purified, seen["purified"].float())
    assert torch.equal(model(x, SIGMA), logits)


def test_examples_are_the_first_estimation_samples() -> None:
    model = of(residue_logits(K), lambda x, sigma: x + sigma)
    wanted = [2, 0, 3, 1, 2]
    examples = Kernel(model, NOISE, K, 2).examples(SIGMA, wanted)
    x = torch.cat([noisy(Block(image, Phase.ESTIMATION, 0, 1)) for image in wanted])
    assert (examples.noisy == x.numpy()).all()
    assert (examples.purified == (x + SIGMA).numpy()).all()
    assert examples.predicted.tolist() == residue_logits(K)(x + SIGMA).argmax(1).tolist()


def test_a_classifier_with_another_number_of_logits_is_our_mistake() -> None:
    kernel = Kernel(of(residue_logits(K + 1)), NOISE, K, 4)
    with pytest.raises(AssertionError):
        kernel.run(SIGMA, [Block(0, Phase.SELECTION, 0, 4)])


@given(st.lists(st.builds(Block, st.integers(0, 9), st.sampled_from(Phase), st.integers(0, 99), st.integers(1, 50))),
       st.integers(1, 60))  # fmt: skip
def test_batches_keep_every_sample_in_order(blocks: list[Block], batch_size: int) -> None:
    cut = list(batches(blocks, batch_size))
    samples = [[(b.image, b.phase, b.first + i) for b in part for i in range(b.num_samples)] for part in cut]
    assert [s for part in samples for s in part] == [
        (b.image, b.phase, b.first + i) for b in blocks for i in range(b.num_samples)
    ]
    assert all(len(part) == batch_size for part in samples[:-1])
    assert all(1 <= len(part) <= batch_size for part in samples)
    assert all(block.num_samples >= 1 for part in cut for block in part)

"""Counts over choices and classes against direct counting, the core's answers, and what is not finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from base_classifiers import CPU, of, residue_logits, small_network
from keyed_blocks import IMAGES, NOISE

from raycp.errors import NumericsError
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.composition import Composition, normalised_entropy
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise
from raycp.statistics import normalised_entropy as exact_entropy

K, SIGMA = 7, 0.25
BLOCKS = [
    Block(2, Phase.CORE, 0, 1),
    Block(2, Phase.SELECTION, 0, 61),
    Block(0, Phase.ESTIMATION, 4, 130),
    Block(0, Phase.CORE, 0, 1),
]


def composition(threshold: float, images: np.ndarray = IMAGES) -> Composition:
    return Composition(threshold, residue_logits(K), images, CPU)


@pytest.mark.parametrize("batch_size", [1, 8, 64])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_counts_are_those_of_choice_and_class(share: float, batch_size: int) -> None:
    """The entropy by scipy, of the logits of each sample; the threshold half-way between two of them."""
    model, noisy = of(small_network(3, K)), BLOCKS[1:3]
    logits = [model(NOISE(SIGMA, [block]), SIGMA).numpy() for block in noisy]
    entropies = np.sort(np.concatenate([exact_entropy(logits_BK) for logits_BK in logits]))
    at = int(share * len(entropies))
    threshold = float(entropies[at - 1 : at + 1].mean())
    assert entropies[at] - entropies[at - 1] > 1e-9
    counts = Kernel(model, NOISE, K, batch_size, composition(threshold)).run(SIGMA, BLOCKS)
    assert counts.shape == (4, 2 * K + 1) and counts.dtype == np.int64
    for logits_BK, row in zip(logits, counts[1:3], strict=True):
        expected = np.zeros((2, K), np.int64)
        np.add.at(expected, ((exact_entropy(logits_BK) <= threshold).astype(int), logits_BK.argmax(1)), 1)
        assert expected.sum(1).min() > 0
        assert row.tolist() == [*expected.ravel().tolist(), 0]
    assert counts[1:3, K:-1].sum() == at


def test_the_choice_leaves_the_classes_as_they_are() -> None:
    model, noisy = of(small_network(3, K)), BLOCKS[1:3]
    plain = Kernel(model, NOISE, K, 16).run(SIGMA, noisy)
    composed = Kernel(model, NOISE, K, 16, composition(0.99)).run(SIGMA, noisy)
    assert (composed[:, :K] + composed[:, K:-1]).tolist() == plain[:, :K].tolist()


def test_the_core_sees_the_image_itself() -> None:
    counts = Kernel(of(residue_logits(K)), NOISE, K, 8, composition(0.5)).run(SIGMA, BLOCKS)
    for row, image in ((0, 2), (3, 0)):
        expected = [0] * (2 * K + 1)
        expected[int(IMAGES[image].astype(int).sum()) % K] = 1
        assert counts[row].tolist() == expected


def test_the_core_sees_images_that_are_no_bytes() -> None:
    images = IMAGES.astype(np.float32) / 255
    noise = make_noise("float", images, np.arange(4), 3, CPU)
    counts = Kernel(of(residue_logits(K)), noise, K, 8, composition(0.5, images)).run(SIGMA, BLOCKS[:1])
    assert int(counts[0].argmax()) == int(IMAGES[2].astype(int).sum()) % K


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_neither_class_nor_choice(bad: float) -> None:
    def broken(x_BCHW: torch.Tensor) -> torch.Tensor:
        logits = residue_logits(K)(x_BCHW)
        logits[logits.argmax(1) % 3 == 0, 1] = bad
        return logits

    good = Kernel(of(residue_logits(K)), NOISE, K, 16, composition(1.0)).run(SIGMA, BLOCKS[1:3])
    counts = Kernel(of(broken), NOISE, K, 16, composition(1.0)).run(SIGMA, BLOCKS[1:3])
    expected = good.copy()
    expected[:, K : 2 * K : 3] = 0
    expected[:, -1] = good[:, K : 2 * K : 3].sum(1)
    assert (expected[:, -1] > 5).all()
    assert counts.tolist() == expected.tolist()


def test_a_core_that_is_not_finite_has_no_class() -> None:
    core = Composition(0.5, lambda x: torch.full((1, K), torch.nan), IMAGES, CPU)
    counts = Kernel(of(residue_logits(K)), NOISE, K, 8, core).run(SIGMA, BLOCKS[:1])
    assert counts.tolist() == [[0] * 2 * K + [1]]


def test_threshold_one_chooses_every_sample_and_zero_none() -> None:
    for logits in (torch.zeros(K), torch.linspace(-3, 3, K)):
        model = of(lambda x, logits=logits: logits.expand(len(x), K))
        all_, none = (
            Kernel(model, NOISE, K, 8, composition(t)).run(SIGMA, BLOCKS[1:2])[0] for t in (1.0, 0.0)
        )
        assert all_[:K].sum() == 0 and all_[K:-1].sum() == 61
        assert none[:K].sum() == 61 and none[K:-1].sum() == 0


def test_the_entropy_is_that_of_the_statistics() -> None:
    logits = 10 * torch.randn(500, 10, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(normalised_entropy(logits).numpy(), exact_entropy(logits.numpy()), atol=1e-14)
    extreme = torch.tensor([[3e38, -3e38, 0.0], [5.0, 5.0, 5.0]])
    assert normalised_entropy(extreme).tolist() == [0.0, pytest.approx(1)]
    assert all(float(normalised_entropy(torch.zeros(1, k))) <= 1 for k in range(2, 2_000))
    assert normalised_entropy(torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0]])).isnan().all()


def test_a_classifier_that_looks_at_its_batch_is_refused() -> None:
    """Its classes are right, so that the logits' sizes, which the entropy is made from, are all that gives it away."""

    def normalised(x_BCHW: torch.Tensor) -> torch.Tensor:
        logits = residue_logits(K)(x_BCHW)
        return logits * (1 + x_BCHW.abs().max())

    Kernel(of(residue_logits(K)), NOISE, K, 16, composition(0.5)).self_test(SIGMA)
    with pytest.raises(NumericsError, match="changes the logits of a sample"):
        Kernel(of(normalised), NOISE, K, 16, composition(0.5)).self_test(SIGMA)

"""The evaluation kernel against what it says of each sample."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from raycp.errors import NumericsError
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase, stream_word
from raycp.sampling.measure import CLEAN, Measured, Measurer
from raycp.sampling.noise import Noise, make_noise

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
INDEX = np.array([3, 8, 21, 22, 40])
CPU = torch.device("cpu")
BLOCKS = [
    Block(2, Phase.EVALUATION, 0, 3),
    Block(0, Phase.EVALUATION, 0, 3),
    Block(4, Phase.EVALUATION, 0, 3),
]


def noise() -> Noise:
    return make_noise("sound", IMAGES, INDEX, seed=7, device=CPU)


def shrunk(x: Tensor, sigma: float) -> Tensor:
    return 0.5 + (x - 0.5) / (1 + sigma)


def logits(x: Tensor) -> Tensor:
    rows = x.flatten(1)
    return torch.stack([rows[:, 0], rows[:, 5], rows[:, 9]], dim=1)


def measurer(purify=shrunk, classify=logits, batch_size: int = 4, keep: int = 5) -> Measurer:  # type: ignore[no-untyped-def]
    base = BaseClassifier(purify, classify, CPU, torch.float32, False)
    return Measurer(
        base,
        noise(),
        IMAGES,
        batch_size,
        features=lambda x: x.flatten(1)[:, :6],
        lpips=lambda x, y: (x - y).abs().flatten(1).mean(dim=1),
        keep=keep,
    )


def test_every_figure_of_every_sample() -> None:
    found = measurer().run(0.5, BLOCKS)
    noisy = noise()(0.5, BLOCKS)
    purified = shrunk(noisy, 0.5)
    clean = torch.from_numpy(IMAGES[[2] * 3 + [0] * 3 + [4] * 3]).float() / 255
    assert found.finite.all()
    assert not torch.equal(noisy[0], noisy[1]), "each draw has noise of its own"
    np.testing.assert_array_equal(found.predicted, logits(purified).argmax(dim=1))
    np.testing.assert_allclose(
        found.squared_l2, (purified - clean).double().flatten(1).square().sum(dim=1), rtol=1e-6
    )
    # Model units are twice pixel units: so is this stand-in for LPIPS.
    np.testing.assert_allclose(found.lpips, 2 * (purified - clean).abs().flatten(1).mean(dim=1), rtol=1e-5)
    shown = (purified.clamp(0, 1) * 255).round() / 255
    np.testing.assert_array_equal(found.features, shown.flatten(1)[:, :6])
    np.testing.assert_array_equal(found.purified, purified.flatten(1))
    assert (found.purified > 1).any() or (found.purified < 0).any(), "distances are of what is not clipped"


def test_clean_images_are_neither_noisy_nor_purified() -> None:
    def must_not_run(x: Tensor, sigma: float) -> Tensor:
        raise AssertionError

    found = measurer(purify=must_not_run).run(
        CLEAN, [Block(image, Phase.EVALUATION, 0, 1) for image in range(5)]
    )
    clean = torch.from_numpy(IMAGES).float() / 255
    np.testing.assert_array_equal(found.predicted, logits(clean).argmax(dim=1))
    np.testing.assert_array_equal(found.features, clean.flatten(1)[:, :6])
    assert (found.squared_l2 == 0).all()
    assert found.lpips is None
    assert found.purified is None


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_leave_no_trace(batch_size: int) -> None:
    whole = measurer(batch_size=9).run(0.25, BLOCKS)
    other = measurer(batch_size=batch_size).run(0.25, BLOCKS)
    alone = [measurer(batch_size=batch_size).run(0.25, [block]) for block in BLOCKS]
    for field in fields(Measured):
        expected = getattr(whole, field.name)
        np.testing.assert_array_equal(getattr(other, field.name), expected)
        np.testing.assert_array_equal(np.concatenate([getattr(a, field.name) for a in alone]), expected)
        np.testing.assert_array_equal(getattr(whole.rows(3, 6), field.name), expected[3:6])


def test_what_is_not_finite_is_said() -> None:
    def broken(x: Tensor) -> Tensor:
        values = logits(x)
        values[1, 2] = torch.inf
        return values

    found = measurer(classify=broken, batch_size=9).run(0.5, BLOCKS)
    assert found.finite.tolist() == [True, False] + [True] * 7


def test_a_network_that_looks_at_its_neighbours_is_refused() -> None:
    def mixed(x: Tensor, sigma: float) -> Tensor:
        return x + x.mean(dim=0) / 100

    measurer().self_test(0.5)
    with pytest.raises(NumericsError, match=r"of a sample depends on its place in a batch of 4 at sigma 0.5"):
        measurer(purify=mixed).self_test(0.5)


def test_evaluation_has_a_stream_of_its_own() -> None:
    words = {stream_word(0.5, phase) for phase in Phase}
    assert len(words) == len(Phase) == 5
    assert [int(phase) for phase in Phase] == [0, 1, 2, 3, 4], "keys of runs that exist"
    draws = [noise()(0.5, [Block(0, phase, 0, 1)]) for phase in Phase]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])

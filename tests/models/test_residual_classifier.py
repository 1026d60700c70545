"""The network that raycp trains itself: its shape, its independence of batch and mode, and that it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raycp.models import ResidualClassifier


@pytest.mark.parametrize(
    ("channels", "size", "widths", "classes"),
    [(1, 8, (16, 32), 10), (3, 32, (16, 32, 64), 7), (3, 16, (8,), 2), (3, 13, (8, 16), 2)],
)
def test_logits_have_one_column_per_class(
    channels: int, size: int, widths: tuple[int, ...], classes: int
) -> None:
    network = ResidualClassifier(classes, channels, widths, blocks=1)
    assert network(torch.rand(3, channels, size, size)).shape == (3, classes)


def test_every_stage_but_the_first_halves_the_image() -> None:
    network = ResidualClassifier(10, 1, (8, 16, 32), blocks=2)
    assert network.blocks(network.stem(torch.rand(1, 1, 8, 8))).shape == (1, 32, 2, 2)
    assert len(network.blocks) == 6


def test_number_of_parameters() -> None:
    # Stem 9w; a block of width w: 2 norms of 2w and 2 convolutions of 9w^2; final norm 2w; head (w + 1)K.
    w, K = 16, 10
    network = ResidualClassifier(K, 1, (w,), blocks=2)
    expected = 9 * w + 2 * (4 * w + 18 * w**2) + 2 * w + (w + 1) * K
    assert sum(p.numel() for p in network.parameters()) == expected


def test_a_logit_depends_on_its_image_alone_in_both_modes() -> None:
    torch.manual_seed(0)
    network = ResidualClassifier(10, 1, (8, 16), blocks=1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.rand(5, 1, 8, 8)
    alone = torch.cat([network(x[i : i + 1]) for i in range(5)])
    for mode in (True, False):
        torch.testing.assert_close(network.train(mode)(x), alone, atol=1e-5, rtol=1e-5)


def test_it_starts_as_its_shortcuts_and_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = ResidualClassifier(4, 1, (8, 16), blocks=2)
    x, label = torch.rand(64, 1, 8, 8), torch.arange(64) % 4
    # Each class has its own quarter lit, which a linear function of the mean over the image cannot see.
    for i, k in enumerate(label.tolist()):
        x[i, 0, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] += 1
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = {name: p.clone() for name, p in network.named_parameters()}
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(network(x), label).backward()
        optimiser.step()
    assert all(not torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert float((network(x).argmax(dim=1) == label).float().mean()) > 0.95


@pytest.mark.parametrize(("widths", "blocks"), [((8, 12), 1), ((), 1), ((8,), 0)])
def test_shapes_that_cannot_be_built(widths: tuple[int, ...], blocks: int) -> None:
    with pytest.raises(
        ValueError, match=r"widths must be multiples of groups \(8\) and blocks at least 1, got"
    ):
        ResidualClassifier(2, 1, widths, blocks)

"""Losses under Gaussian noise, against closed forms of linear two-class networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from raycp.training.classifier_losses import consistency_regularised_loss, gaussian_loss

SIGMA = 0.25


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def first_pixel(x_BCHW: Tensor) -> Tensor:
    """Two classes with logits (v/2, -v/2), v the first pixel in model units: p_0 = sigmoid(v)."""
    v_B = x_BCHW[:, 0, 0, 0]
    return torch.stack([v_B / 2, -v_B / 2], dim=1)


def linear(classes: int = 3) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).double()
    with torch.no_grad():
        network[1].weight.copy_(draw(classes, 16, seed=0))
        network[1].bias.copy_(draw(classes, seed=1))
    return network


def images(B: int) -> tuple[Tensor, Tensor]:
    return draw(B, 1, 4, 4, seed=2).sigmoid(), torch.arange(B) % 2


def test_gaussian_loss_by_hand() -> None:
    """Pixel 0.5 + 0.25 * 2 = 1.0 is 1 in model units, and 0.5 - 0.25 * 4 = -0.5 is -2: it is not clipped."""
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    noise = torch.zeros_like(x)
    noise[0, 0, 0, 0], noise[1, 0, 0, 0] = 2.0, -4.0
    loss_B = gaussian_loss(first_pixel, x, torch.tensor([0, 0]), noise, SIGMA)
    assert loss_B.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log1p(math.exp(2))])
    clean = gaussian_loss(first_pixel, x, torch.tensor([0, 1]), noise, 0.0)
    assert clean.tolist() == pytest.approx([math.log(2)] * 2)


def test_label_smoothing_spreads_the_label_over_all_classes() -> None:
    x, label = images(4)
    noise = draw(4, 1, 4, 4, seed=3)
    right, wrong = (gaussian_loss(first_pixel, x, y, noise, SIGMA) for y in (label, 1 - label))
    smoothed = gaussian_loss(first_pixel, x, label, noise, SIGMA, label_smoothing=0.2)
    torch.testing.assert_close(smoothed, 0.9 * right + 0.1 * wrong)


def test_all_three_terms_by_hand() -> None:
    """p_0 of the two copies is 0.8 and 0.3, so q_0 = 0.55."""
    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    noises = torch.zeros(2, 1, 1, 4, 4, dtype=torch.float64)
    for copy, p in enumerate((0.8, 0.3)):
        noises[copy, 0, 0, 0, 0] = math.log(p / (1 - p)) / (2 * SIGMA)
    loss = consistency_regularised_loss(first_pixel, x, torch.tensor([1]), noises, SIGMA, 10.0, 0.5)
    likelihood = -(math.log(0.2) + math.log(0.7)) / 2
    divergence = (
        0.55 * math.log(0.55 / 0.8) + 0.45 * math.log(0.45 / 0.2)
        + 0.55 * math.log(0.55 / 0.3) + 0.45 * math.log(0.45 / 0.7)
    ) / 2  # fmt: skip
    entropy = -0.55 * math.log(0.55) - 0.45 * math.log(0.45)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(likelihood + 10 * divergence + 0.5 * entropy)


def test_equal_copies_have_no_divergence() -> None:
    x, label = images(5)
    noises = draw(1, 5, 1, 4, 4, seed=4).expand(3, -1, -1, -1, -1)
    network = linear()
    loss_B = consistency_regularised_loss(network, x, label, noises, SIGMA, 1e6, 0.0)
    torch.testing.assert_close(loss_B, gaussian_loss(network, x, label, noises[0], SIGMA), atol=1e-8, rtol=0)


@pytest.mark.parametrize("classes", [2, 7])
def test_the_entropy_of_uniform_probabilities(classes: int) -> None:
    x, label = images(3)
    noises = draw(2, 3, 1, 4, 4, seed=5)
    loss_B = consistency_regularised_loss(
        lambda x_BCHW: x_BCHW.new_zeros(len(x_BCHW), classes), x, label, noises, SIGMA, 10.0, 0.5
    )
    torch.testing.assert_close(loss_B, torch.full_like(loss_B, 1.5 * math.log(classes)))


def test_without_its_weights_it_is_the_mean_gaussian_loss() -> None:
    x, label = images(6)
    noises = draw(3, 6, 1, 4, 4, seed=6)
    network = linear()
    loss_B = consistency_regularised_loss(network, x, label, noises, SIGMA, 0.0, 0.0)
    separate = torch.stack([gaussian_loss(network, x, label, noise, SIGMA) for noise in noises])
    torch.testing.assert_close(loss_B, separate.mean(dim=0))


def test_with_equal_weights_it_is_the_cross_entropy_to_the_mean() -> None:
    """KL(q || p) + H(q) = -sum q ln p."""
    x, label = images(6)
    noises = draw(4, 6, 1, 4, 4, seed=7)
    network = linear()
    p_mBK = torch.stack([network(2 * (x + SIGMA * noise) - 1).softmax(dim=1) for noise in noises])
    expected = -(p_mBK.mean(dim=0) * p_mBK.log()).sum(dim=2).mean(dim=0)
    weighted = consistency_regularised_loss(network, x, label, noises, SIGMA, 3.0, 3.0)
    plain = consistency_regularised_loss(network, x, label, noises, SIGMA, 0.0, 0.0)
    torch.testing.assert_close(weighted - plain, 3 * expected)


def test_the_order_of_copies_does_not_matter_but_whose_they_are_does() -> None:
    x, label = images(4)
    noises = draw(3, 4, 1, 4, 4, seed=8)
    network = linear()
    arguments = (SIGMA, 10.0, 0.5)
    loss_B = consistency_regularised_loss(network, x, label, noises, *arguments)
    permuted = consistency_regularised_loss(network, x, label, noises[[2, 0, 1]], *arguments)
    torch.testing.assert_close(permuted, loss_B)
    alone = consistency_regularised_loss(network, x[1:2], label[1:2], noises[:, 1:2], *arguments)
    torch.testing.assert_close(alone, loss_B[1:2])
    mixed = consistency_regularised_loss(network, x, label, noises[:, [1, 0, 2, 3]], *arguments)
    assert not torch.allclose(mixed[:2], loss_B[:2])


def test_gradients() -> None:
    x, label = images(2)
    noises = draw(2, 2, 1, 4, 4, seed=9)
    weight = draw(3, 16, seed=10).requires_grad_()

    def regularised(weight: Tensor) -> Tensor:
        return consistency_regularised_loss(
            lambda x: x.flatten(1) @ weight.T, x, label, noises, SIGMA, 10.0, 0.5
        )

    def gaussian(weight: Tensor) -> Tensor:
        return gaussian_loss(lambda x: x.flatten(1) @ weight.T, x, label, noises[0], SIGMA, 0.1)

    assert torch.autograd.gradcheck(regularised, (weight,))
    assert torch.autograd.gradcheck(gaussian, (weight,))


def test_sure_networks_give_finite_losses_and_gradients() -> None:
    """Float32 logits of +-150 that disagree: p is 0 or 1 to the last bit."""
    x = torch.zeros(1, 1, 4, 4)
    noises = torch.zeros(2, 1, 1, 4, 4)
    noises[0], noises[1] = 300.0, -300.0
    scale = torch.ones((), requires_grad=True)
    loss = consistency_regularised_loss(
        lambda x_BCHW: scale * first_pixel(x_BCHW), x, torch.tensor([0]), noises, 0.5, 10.0, 0.5
    )
    # v = +-300 - 1: ln p_0 is 0 or -301, ln p_1 is -299 or 0, and q = (1/2, 1/2) but for 1e-130.
    expected = 301 / 2 + 10 * (300 / 2 - math.log(2)) + 0.5 * math.log(2)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.sum().backward()
    assert scale.grad is not None and bool(scale.grad.isfinite())

"""The calibration loss: closed forms, gradients, and the two-point example, recoverable at small noise alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from raycp.training.calibration import (
    CalibrationWeights,
    brier_score,
    calibration_loss,
    recoverable,
    wrong_agreement,
)
from raycp.training.losses import edm_loss

SD = 0.7


def probabilities(*copies: list[float]) -> Tensor:
    """[m, 1, K] of one image."""
    return torch.tensor(copies, dtype=torch.float64)[:, None]


def random_probabilities(m: int = 3, B: int = 5, K: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p_mBK = (2 * torch.randn(m, B, K, generator=generator, dtype=torch.float64)).softmax(dim=-1)
    return p_mBK, torch.randint(K, (B,), generator=generator)


LABEL = torch.tensor([0])
SURE = probabilities([1, 0, 0], [1, 0, 0])
SAME_WRONG = probabilities([0, 1, 0], [0, 1, 0])
TWO_WRONG = probabilities([0, 1, 0], [0, 0, 1])
ONE_RIGHT = probabilities([1, 0, 0], [0, 1, 0])
UNSURE = probabilities([1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("p_mBK", "found", "brier", "agreement"),
    [
        (SURE, True, 0, 0),
        (SAME_WRONG, False, 2, 1),
        (TWO_WRONG, False, 2, 0),
        (ONE_RIGHT, False, 1, 0),  # a tie is not enough
        (UNSURE, False, 2 / 3, 2 / 9),
        (probabilities([0.6, 0.3, 0.1], [0.2, 0.3, 0.5]), True, (0.26 + 0.98) / 2, 0.09 + 0.05),
    ],
)
def test_by_hand(p_mBK: Tensor, found: bool, brier: float, agreement: float) -> None:
    assert recoverable(p_mBK, LABEL).tolist() == [found]
    assert brier_score(p_mBK, LABEL).item() == pytest.approx(brier, abs=1e-12)
    assert wrong_agreement(p_mBK, LABEL).item() == pytest.approx(agreement, abs=1e-12)


def test_the_brier_score_is_that_of_the_mean_and_the_spread_of_the_copies() -> None:
    p_mBK, label_B = random_probabilities()
    q_BK = p_mBK.mean(dim=0)
    spread_B = (p_mBK - q_BK).square().sum(dim=-1).mean(dim=0)
    torch.testing.assert_close(brier_score(p_mBK, label_B), brier_score(q_BK[None], label_B) + spread_B)
    assert (spread_B > 0.01).all()


def test_agreement_is_a_mean_over_pairs() -> None:
    p_mBK, label_B = random_probabilities(m=4)
    for b, label in enumerate(label_B.tolist()):
        wrong = [k for k in range(4) if k != label]
        pairs = [p_mBK[i, b, wrong] @ p_mBK[j, b, wrong] for i in range(4) for j in range(4) if i != j]
        expected = torch.stack(pairs).mean()
        torch.testing.assert_close(wrong_agreement(p_mBK, label_B)[b], expected)


def test_wrong_images_gain_from_diversity_alone() -> None:
    """Copies that turn from one wrong class to two: the Brier score of one-hot copies does not see it."""
    before = None
    for share in torch.linspace(0, 0.5, 6).tolist():
        # Of each copy the mass on a wrong class of its own grows, at the cost of the class they share.
        p_mBK = probabilities([0, 1 - share, share, 0], [0, 1 - share, 0, share])
        agreement = wrong_agreement(p_mBK, LABEL).item()
        assert agreement == pytest.approx((1 - share) ** 2)
        assert before is None or agreement < before
        before = agreement


def test_gradients() -> None:
    """Against finite differences, and finite where probabilities are exactly 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    logits_mBK = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    label_B = torch.tensor([0, 1, 2, 4])
    for term in (brier_score, wrong_agreement):
        assert torch.autograd.gradcheck(lambda z, term=term: term(z.softmax(dim=-1), label_B), logits_mBK)
    extreme = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]], requires_grad=True)
    p_mBK = extreme.softmax(dim=-1)
    (brier_score(p_mBK, LABEL) + wrong_agreement(p_mBK, LABEL)).sum().backward()
    assert extreme.grad is not None and torch.isfinite(extreme.grad).all()


def test_a_step_down_the_loss_makes_wrong_copies_differ() -> None:
    """Two copies that agree on a wrong class, not quite equally sure of the next: the step parts them."""
    logits = torch.tensor([[[-3.0, 2.0, 1.0, 0.5]], [[-3.0, 2.0, 0.5, 1.0]]], requires_grad=True)
    wrong_agreement(logits.softmax(dim=-1), LABEL).sum().backward()
    assert logits.grad is not None
    towards = -logits.grad[:, 0]
    assert (towards[:, 1] < 0).all()  # away from what they share
    assert towards[0, 2] > towards[0, 3] and towards[1, 3] > towards[1, 2]  # each to its own


# The two-point example: x = -1 or 1 with equal probability, whose posterior mean at noise s is tanh(x / s^2).


def two_point(scale: float = 1.0) -> Any:
    return lambda x, s_B: (scale * x / s_B.to(x.dtype).view(-1, 1, 1, 1) ** 2).tanh()


def sign_classifier(x_BCHW: Tensor) -> Tensor:
    """Class 1 has the logit 8 x, class 0 its opposite."""
    return 8 * torch.stack([-x_BCHW.flatten(), x_BCHW.flatten()], dim=1)


def two_point_terms(s: float, scale: float = 1.0) -> tuple[float, float, float]:
    """Share of recoverable images, Brier score, agreement on the wrong class: means over 20,000 images, 3 copies."""
    m, B = 3, 20_000
    generator = torch.Generator().manual_seed(2)
    label_B = torch.randint(2, (B,), generator=generator)
    x_BCHW = (2.0 * label_B - 1).view(-1, 1, 1, 1)
    noises_mBCHW = torch.randn(m, B, 1, 1, 1, generator=generator)
    x_mB = (x_BCHW + s * noises_mBCHW).flatten(0, 1)
    denoised = two_point(scale)(x_mB, torch.tensor(s).repeat(m * B))
    p_mBK = sign_classifier(denoised).softmax(dim=-1).view(m, B, 2)
    found = recoverable(p_mBK, label_B)
    lost_B = (~found).float()
    return (
        found.float().mean().item(),
        brier_score(p_mBK, label_B).mean().item(),
        (lost_B * wrong_agreement(p_mBK, label_B)).mean().item(),
    )


def test_two_points_are_recoverable_at_small_noise_alone() -> None:
    """A copy is on the wrong side with probability w = Phi(-1/s), and an image is lost if two of three copies are.

    At s = 0.2 that is w = 3e-7, so no loss is left. At s = 2, w = 0.309, hard copies have a Brier score of 2 w, and two
    of them agree on the wrong class with probability w^2, where the third cannot save the image. 20,000 images: the
    standard error of a share is below 0.0034; 0.015 is more than four of them, and 0.03 of twice a share.
    """
    share, brier, agreement = two_point_terms(0.2)
    assert share == 1 and agreement == 0 and brier < 1e-4
    w = 0.5 * math.erfc(1 / 2 / math.sqrt(2))
    share, brier, agreement = two_point_terms(
        2.0, scale=100
    )  # tanh(100 x / s^2) is sign(x) almost everywhere
    assert share == pytest.approx(1 - 3 * w**2 * (1 - w) - w**3, abs=0.015)
    assert brier == pytest.approx(2 * w, abs=0.03)
    assert agreement == pytest.approx(w**2, abs=0.015)
    # The posterior mean is less sure than the sign where it cannot know, and agrees less on the wrong class.
    soft = two_point_terms(2.0)
    assert soft[1] < brier - 0.05 and soft[2] < agreement - 0.01


WEIGHTS = CalibrationWeights(0.5, 2.0, 3.0)


def loss_of(
    denoise: Any, s: float, weights: CalibrationWeights = WEIGHTS, B: int = 400
) -> tuple[Tensor, Any]:
    generator = torch.Generator().manual_seed(3)
    label_B = torch.randint(2, (B,), generator=generator)
    x_BCHW = (2.0 * label_B - 1).view(-1, 1, 1, 1)
    noises_mBCHW = torch.randn(3, B, 1, 1, 1, generator=generator)
    sigma_B = torch.full((B,), s, dtype=torch.float64)
    loss_B = calibration_loss(denoise, sign_classifier, x_BCHW, label_B, noises_mBCHW, sigma_B, SD, weights)
    return loss_B, (label_B, x_BCHW, noises_mBCHW, sigma_B)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    loss_B, (label_B, x_BCHW, noises_mBCHW, sigma_B) = loss_of(two_point(), 1.5)
    denoise = two_point()
    error = [edm_loss(denoise, x_BCHW, noise_BCHW, sigma_B, SD) for noise_BCHW in noises_mBCHW]
    p = [
        sign_classifier(denoise(x_BCHW + 1.5 * noise_BCHW, sigma_B)).softmax(dim=-1)
        for noise_BCHW in noises_mBCHW
    ]
    p_mBK = torch.stack(p)
    lost_B = p_mBK.mean(dim=0).argmax(dim=-1) != label_B
    assert 0.05 < lost_B.float().mean() < 0.5
    expected = (
        0.5 * torch.stack(error).mean(dim=0)
        + 2 * brier_score(p_mBK, label_B)
        + 3 * torch.where(lost_B, wrong_agreement(p_mBK, label_B), 0.0)
    )
    torch.testing.assert_close(loss_B, expected)


def test_a_perfect_denoiser_and_classifier_lose_nothing() -> None:
    def perfect(x_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        return 20 * x_BCHW.sign()

    loss_B, _ = loss_of(perfect, 0.1, CalibrationWeights(0, 1, 1))
    assert torch.equal(loss_B, torch.zeros_like(loss_B))


def test_the_denoiser_is_called_once_and_recoverability_has_no_gradient() -> None:
    calls = []
    scale = torch.tensor(1.0, requires_grad=True)

    def denoise(x_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        calls.append(x_BCHW.shape)
        return scale * two_point()(x_BCHW, sigma_B)

    loss_B, _ = loss_of(denoise, 1.5)
    loss_B.mean().backward()
    assert calls == [(1200, 1, 1, 1)] and scale.grad is not None and torch.isfinite(scale.grad)

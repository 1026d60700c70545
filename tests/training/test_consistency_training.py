"""Consistency training without a teacher, against closed forms on Gaussian data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raycp.maths import karras_grid
from raycp.training import distances
from raycp.training.losses import consistency_training_loss, distillation_loss

SD, S_MIN = 0.7, 0.05


def normal(B: int, seed: int) -> Tensor:
    return torch.randn(B, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gain(t: Tensor) -> Tensor:
    """f(x, t) = gain(t) x is the consistency function of data N(0, SD^2)."""
    return ((SD**2 + S_MIN**2) / (SD**2 + t**2)).sqrt().view(-1, 1, 1, 1)


def consistency_function(x: Tensor, t: Tensor) -> Tensor:
    return gain(t) * x


def posterior_mean(x: Tensor, s: Tensor) -> Tensor:
    return x * (SD**2 / (SD**2 + s**2)).view(-1, 1, 1, 1)


def test_the_loss_of_the_consistency_function_of_gaussian_data() -> None:
    """The residual is `(a_1 - a_0) x + (a_1 t_1 - a_0 t_0) z`: two independent normals of known variance.

    20,000 images of 16 pixels: relative standard error sqrt(2 / 320,000) = 0.0025, so 0.0125 is five of them.
    """
    B = 20_000
    grid_N = karras_grid(12, S_MIN, 2.0, 7.0)
    step_B = torch.full((B,), 6)
    x, z = SD * normal(B, 0), normal(B, 1)
    loss_B = consistency_training_loss(
        consistency_function, consistency_function, distances.l2, x, z, grid_N, step_B
    )
    assert loss_B.shape == (B,)
    t_0, t_1 = grid_N[6], grid_N[7]
    a_0, a_1 = gain(t_0).item(), gain(t_1).item()
    residual = (a_1 - a_0) * x + (a_1 * t_1 - a_0 * t_0) * z
    torch.testing.assert_close(loss_B, residual.square().mean(dim=(1, 2, 3)))
    expected = (a_1 - a_0) ** 2 * SD**2 + (a_1 * t_1 - a_0 * t_0) ** 2
    assert loss_B.mean().item() == pytest.approx(expected.item(), rel=0.0125)
    other = (normal(B, 2) * a_0 * t_0 - a_1 * t_1 * z).square().mean()  # what two draws of z would cost
    assert other > 10 * loss_B.mean()


def test_each_image_has_its_own_step_and_each_network_its_own_time() -> None:
    grid_N = karras_grid(6, S_MIN, 2.0, 7.0)
    step_B = torch.tensor([0, 4, 2])
    x, z = normal(3, 3), normal(3, 4)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def recording(name: str) -> Callable[[Tensor, Tensor], Tensor]:
        def model(noisy: Tensor, time_B: Tensor) -> Tensor:
            seen[name] = (noisy, time_B)
            return noisy

        return model

    consistency_training_loss(recording("student"), recording("target"), distances.l1, x, z, grid_N, step_B)
    for name, shift in (("student", 1), ("target", 0)):
        noisy, time_B = seen[name]
        assert torch.equal(time_B, grid_N[step_B + shift])
        torch.testing.assert_close(noisy, x + time_B.view(-1, 1, 1, 1) * z)


def test_no_gradient_reaches_the_target() -> None:
    student, target = nn.Linear(4, 4).double(), nn.Linear(4, 4).double()
    grid_N = karras_grid(6, S_MIN, 2.0, 7.0)
    loss_B = consistency_training_loss(
        lambda x, _: student(x), lambda x, _: target(x), distances.l2, normal(2, 5), normal(2, 6), grid_N,
        torch.tensor([0, 4]),
    )  # fmt: skip
    loss_B.sum().backward()
    assert student.weight.grad is not None and bool(student.weight.grad.abs().sum() > 0)
    assert target.weight.grad is None and target.bias.grad is None


def gradients(step: float) -> tuple[float, float]:
    """d/dw of training's and distillation's mean loss for f(x, t) = w x/(1 + t), w = 1, between t = 1 and 1 + step.

    The four images (x, z) = (+-SD, +-1) have the second moments of Gaussian data, on which a linear f alone depends.
    """
    x = SD * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64).view(4, 1, 1, 1)
    z = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(4, 1, 1, 1)
    grid_N = torch.tensor([1.0, 1.0 + step], dtype=torch.float64)
    step_B = torch.zeros(4, dtype=torch.int64)
    w = torch.ones((), dtype=torch.float64, requires_grad=True)

    def f(noisy: Tensor, t: Tensor) -> Tensor:
        return w * noisy / (1 + t).view(-1, 1, 1, 1)

    trained = consistency_training_loss(f, f, distances.l2, x, z, grid_N, step_B).mean()
    distilled = distillation_loss(f, f, posterior_mean, distances.l2, x, z, grid_N, step_B).mean()
    return torch.autograd.grad(trained, w)[0].item(), torch.autograd.grad(distilled, w)[0].item()


def test_it_agrees_with_distillation_from_the_true_denoiser_to_first_order() -> None:
    """Both gradients fall with the step, their difference with its square."""
    by_step = [gradients(step) for step in (0.02, 0.01, 0.005)]
    difference = [trained - distilled for trained, distilled in by_step]
    for coarse, fine in ((0, 1), (1, 2)):
        assert by_step[coarse][1] / by_step[fine][1] == pytest.approx(2, abs=0.1)
        assert difference[coarse] / difference[fine] == pytest.approx(4, abs=0.2)
    assert abs(difference[2]) < 0.05 * abs(by_step[2][1])

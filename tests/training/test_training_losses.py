"""The losses against closed forms on Gaussian data, and what batches and steps are keyed by."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycp.config.stages import ClassifierStage
from raycp.errors import TrainingError
from raycp.maths import karras_grid
from raycp.models import ResidualClassifier
from raycp.training import distances
from raycp.training.batches import Batches, LoadedImages, shifted
from raycp.training.loop import StageTraining, schedule
from raycp.training.losses import distillation_loss, edm_loss, finetune_loss
from raycp.training.networks import features_of, inherit

SD = 0.7


def gaussian(B: int, seed: int) -> Tensor:
    return torch.randn(B, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posterior_mean(scale: float = 1.0):  # type: ignore[no-untyped-def]
    """D(x; s) of data N(0, SD^2): x SD^2 / (SD^2 + s^2), times `scale`."""
    return lambda x, s: scale * x * (SD**2 / (SD**2 + s**2)).view(-1, 1, 1, 1)


def consistency_function(s_min: float):  # type: ignore[no-untyped-def]
    """f(x, t) of data N(0, SD^2): x sqrt((SD^2 + s_min^2) / (SD^2 + t^2))."""
    return lambda x, t: x * ((SD**2 + s_min**2) / (SD**2 + t**2)).sqrt().view(-1, 1, 1, 1)


def test_edm_loss_of_the_posterior_mean() -> None:
    """It is the weight times the posterior variance, which is (s^2 + sd^2)/(s sd)^2 * s^2 sd^2/(s^2 + sd^2) = 1.

    20,000 images of 16 pixels: standard error sqrt(2 / 320,000) = 0.0025, so 0.0125 is five of them.
    """
    B = 20_000
    sigma_B = torch.linspace(0.1, 4, B, dtype=torch.float64)
    losses = [
        edm_loss(posterior_mean(scale), SD * gaussian(B, 0), gaussian(B, 1), sigma_B, SD).mean()
        for scale in (0.97, 1.0, 1.03)
    ]
    assert losses[1] == pytest.approx(1.0, abs=0.0125)
    assert losses[1] < min(losses[0], losses[2])  # and no other multiple does better on the same draws


def test_distillation_is_zero_for_the_true_consistency_function() -> None:
    """Up to the error of one Heun step, which falls with the third power of the step."""
    s_min, B = 0.05, 64
    worst = []
    for N in (10, 20, 40):
        grid_N = karras_grid(N, s_min, 2.0, 7.0)
        step_B = torch.arange(B) % (N - 1)
        f = consistency_function(s_min)
        loss_B = distillation_loss(
            f, f, posterior_mean(), distances.l2, SD * gaussian(B, 2), gaussian(B, 3), grid_N, step_B
        )
        worst.append(loss_B.sqrt().max().item())
    assert worst[0] < 0.05
    assert worst[0] / worst[1] > 5
    assert worst[1] / worst[2] > 5
    wrong = distillation_loss(
        posterior_mean(), posterior_mean(), posterior_mean(), distances.l2, SD * gaussian(B, 2), gaussian(B, 3),
        grid_N, step_B,
    )  # fmt: skip
    assert wrong.sqrt().max() > 10 * worst[2]


def test_finetuning_conditions_on_the_time_and_draws_with_sigma() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor, time_B: Tensor) -> Tensor:
        seen.append(time_B)
        return x

    x, noise = gaussian(3, 4), gaussian(3, 5)
    sigma_B, time_B = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.6, 1.1, 1.9])
    loss_B = finetune_loss(model, distances.l2, x, noise, sigma_B, time_B)
    assert torch.equal(seen[0], time_B)
    expected = sigma_B.double() ** 2 * noise.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss_B, expected)


def test_perceptual_distance_has_finite_gradients_at_identical_images() -> None:
    torch.manual_seed(0)
    classifier = ResidualClassifier(10, 1, widths=(8, 16), blocks=1, groups=4)
    distance = distances.lpips_on(lambda x: features_of(classifier, x))
    y = torch.rand(3, 1, 8, 8)
    x = y.clone().requires_grad_()
    loss_B = distance(x, y)
    loss_B.sum().backward()
    assert torch.equal(loss_B, torch.zeros(3))
    assert x.grad is not None and torch.isfinite(x.grad).all()
    zero = torch.zeros(1, 1, 8, 8, requires_grad=True)
    distance(zero, y[:1]).sum().backward()
    assert zero.grad is not None and torch.isfinite(zero.grad).all()
    assert (distance(1 - y, y) > 0).all()
    assert len(features_of(classifier, y)) == 4


def test_perceptual_distance_by_hand() -> None:
    distance = distances.lpips_on(lambda x: [x])
    x = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    y = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    assert distance(x, y).item() == pytest.approx((0.6 - 0.0) ** 2 + (0.8 - 1.0) ** 2, abs=1e-6)


def test_a_consistency_model_inherits_the_denoiser_exactly_on_its_grid() -> None:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    make = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (16, 32), "layers_per_block": 1,
        "norm_num_groups": 8, "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
    }  # fmt: skip
    teacher, student = UNet2DModel(**make), UNet2DModel(**make)
    grid_N = karras_grid(8, 0.002, 2.0, 7.0)
    inherit(student, teacher, grid_N)
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        taught = teacher(x, (grid_N.log() / 4).float()).sample
        learnt = student(x, (250 * grid_N.log()).float()).sample
    torch.testing.assert_close(learnt, taught, atol=1e-4, rtol=1e-4)


def test_shifts() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    down_right = shifted(x, torch.tensor([[1, 1]]))
    assert down_right.flatten().tolist() == [0, 0, 0, 0, 0, 1, 0, 3, 4]
    assert torch.equal(shifted(x, torch.tensor([[0, 0]])), x)
    assert shifted(x, torch.tensor([[-1, 0]])).flatten().tolist() == [3, 4, 5, 6, 7, 8, 0, 0, 0]


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (50, 1, 8, 8), dtype=np.uint8), rng.integers(0, 10, 50)


def test_workers_share_one_batch() -> None:
    images, labels = images_and_labels()
    data = LoadedImages(images, labels)
    whole = Batches(data, 12, 1, key=(3, 1))(7)
    shares = [Batches(data, 12, 1, (3, 1), rank, 3)(7) for rank in range(3)]
    for name in ("x_BCHW", "label_B", "noise_BCHW", "uniform_B", "normal_B"):
        joint = torch.cat([getattr(share, name) for share in shares])
        assert torch.equal(joint, getattr(whole, name)), name
    for other in (
        Batches(data, 12, 1, (3, 2))(7),
        Batches(data, 12, 1, (3, 1))(8),
    ):
        assert not torch.equal(other.noise_BCHW, whole.noise_BCHW)


def make_training(steps: int = 12) -> StageTraining:
    images, labels = images_and_labels()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    batches = Batches(LoadedImages(images, labels), 16, 1, key=(0, 0))
    config = ClassifierStage(stage="classifier", steps=steps, batch_size=16, learning_rate=0.05)

    def loss(step: int, part: int) -> Tensor:
        batch = batches(step, part)
        return nn.functional.cross_entropy(network(batch.x_BCHW), batch.label_B, reduction="none")

    return StageTraining(config, network, network, loss)


def test_half_of_the_images_are_reflected_and_nothing_else_changes() -> None:
    images, labels = images_and_labels()
    plain, flipped = (
        Batches(LoadedImages(images, labels), 64, 0, (3, 1), flip=flip)(7) for flip in (False, True)
    )
    mirrored = (flipped.x_BCHW == plain.x_BCHW.flip(-1)).all(dim=(1, 2, 3))
    same = (flipped.x_BCHW == plain.x_BCHW).all(dim=(1, 2, 3))
    assert (mirrored | same).all()
    assert 16 <= mirrored.sum() <= 48  # false alarm below 1e-4
    assert torch.equal(flipped.noise_BCHW, plain.noise_BCHW)
    assert torch.equal(flipped.label_B, plain.label_B)


def test_resumed_equals_uninterrupted_bit_for_bit() -> None:
    whole = make_training()
    losses = list(whole.run())
    first = make_training()
    half = [value for _, value in zip(range(5), first.run(), strict=False)]
    saved = copy.deepcopy(first.state())
    second = make_training()
    second.load(saved)
    assert half + list(second.run()) == losses
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, second.average.state_dict()[name])
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_a_loss_that_is_not_finite_stops_with_stage_and_step() -> None:
    training = make_training()
    with torch.no_grad():
        next(training._plain.parameters()).fill_(float("inf"))
    with pytest.raises(TrainingError, match="the loss of stage classifier is nan at step 0"):
        list(training.run())


def test_schedule() -> None:
    assert schedule(0, 100, 10) == pytest.approx(0.1)
    assert schedule(9, 100, 10) == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.09)))
    assert schedule(50, 100, 0) == pytest.approx(0.5)

"""Which loss a stage's configuration stands for, on which images: against the losses written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_setups import train_config

from raycp.config.stages import ConsistencyStage
from raycp.maths import karras_grid
from raycp.training.batches import Batches, LoadedImages
from raycp.training.classifier_losses import consistency_regularised_loss
from raycp.training.stages import Diffusion, Trained, diffusion_of, stage_loss, trained_purifier

SIGMA = 0.5
COMMON = {"steps": 1, "batch_size": 8}


class Zero(nn.Module):
    """A U-Net that predicts nothing: its model is `c_skip x`."""

    def forward(self, x_BCHW: Tensor, conditioning_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.zeros_like(x_BCHW),)


def batches_of(copies: int = 1) -> Batches:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    return Batches(LoadedImages(images, rng.integers(0, 3, 20)), 8, 0, (1, 2), copies=copies)


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def loss_of(stage: dict[str, Any], network: nn.Module, batches: Batches, **earlier: Trained) -> Tensor:
    models = {name: {"path": name} for name in earlier}
    (config,) = train_config(COMMON | stage, models=models, engine={"workers": 1}).stages
    return stage_loss(config, network, network, earlier, batches)(3)


def cross_entropy(network: nn.Module, x_BCHW: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(network(x_BCHW), batch.label_B, reduction="none", label_smoothing=0.05)


def test_clean_images_without_noise() -> None:
    network, batches = classifier(), batches_of()
    expected = cross_entropy(network, 2 * batches(3).x_BCHW - 1, batches(3))
    assert torch.equal(loss_of({"stage": "classifier"}, network, batches), expected)


@pytest.mark.parametrize("copies", [1, 3])
def test_noisy_images(copies: int) -> None:
    network, batches = classifier(), batches_of(copies)
    batch = batches(3)
    assert batch.noises_mBCHW.shape == (copies, 8, 1, 8, 8)
    each = [cross_entropy(network, 2 * (batch.x_BCHW + SIGMA * n) - 1, batch) for n in batch.noises_mBCHW]
    loss = loss_of({"stage": "classifier", "noise_sigma": SIGMA, "copies": copies}, network, batches)
    assert torch.allclose(loss, torch.stack(each).mean(dim=0), atol=1e-6)


def test_the_first_copy_does_not_depend_on_their_number() -> None:
    assert torch.equal(batches_of(1)(3).x_BCHW, batches_of(4)(3).x_BCHW)
    assert torch.equal(batches_of(1)(3).noise_BCHW, batches_of(4)(3).noise_BCHW)


def test_consistency_regularisation() -> None:
    network, batches = classifier(), batches_of(2)
    batch = batches(3)
    stage = {
        "stage": "classifier",
        "noise_sigma": SIGMA,
        "copies": 2,
        "consistency_weight": 7,
        "entropy_weight": 0.3,
    }
    expected = consistency_regularised_loss(
        network, batch.x_BCHW, batch.label_B, batch.noises_mBCHW, SIGMA, lam=7, eta=0.3
    )
    assert torch.equal(loss_of(stage, network, batches), expected)


@pytest.mark.parametrize(
    ("diffusion", "scale"),
    [
        (Diffusion(0.5), 0.5**2 / (1.0**2 + 0.5**2)),  # a denoiser: c_skip at 2 sigma = 1
        # a consistency model: c_skip at the grid time nearest to 1, which is 0.5 or 2 here
        (Diffusion(0.5, 2, 0.5, 2.0), 0.5**2 / ((0.5 - 0.5) ** 2 + 0.5**2)),
    ],
)
def test_purified_images(diffusion: Diffusion, scale: float) -> None:
    network, batches = classifier(), batches_of()
    batch = batches(3)
    purified = scale * (2 * (batch.x_BCHW + SIGMA * batch.noise_BCHW) - 1)
    stage = {"stage": "classifier", "noise_sigma": SIGMA, "purifier": "pure"}
    loss = loss_of(stage, network, batches, pure=Trained(Zero(), diffusion))
    assert torch.allclose(loss, cross_entropy(network, purified, batch), atol=1e-5)


def test_noise_levels_of_fine_tuning() -> None:
    """With a network of zeros the purified image is `c_skip x_noisy`, and its distance shows the noise level."""
    batches, diffusion = batches_of(), Diffusion(0.5, 3, 0.4, 2.0)
    batch = batches(3)
    x = 2 * batch.x_BCHW - 1
    for continuous in (False, True):
        levels = 2 * torch.tensor([0.25, 1.0], dtype=torch.float64)
        sigma_B = batch.uniform_B * 2.0 if continuous else levels[(batch.uniform_B * 2).long()]
        time_B = diffusion.snapped(sigma_B)
        c_skip_B = 0.25 / ((time_B - 0.4) ** 2 + 0.25)
        noisy = x + sigma_B.float()[:, None, None, None] * batch.noise_BCHW
        expected = (c_skip_B.float()[:, None, None, None] * noisy - x).abs().mean(dim=(1, 2, 3))
        stage = {
            "stage": "finetune",
            "start": "cm",
            "loss": "l1",
            "sigmas": [0.25, 1.0],
            "continuous": continuous,
        }
        loss = loss_of(stage, Zero(), batches, cm=Trained(Zero(), diffusion))
        assert torch.allclose(loss, expected, atol=1e-5)


def test_consistency_training_does_not_ask_its_teacher() -> None:
    class Never(nn.Module):
        def forward(self, *_: Any, **__: Any) -> None:
            raise AssertionError("the teacher was asked")

    stage = {"stage": "consistency", "teacher": "t", "loss": "l2", "num_steps": 4, "sigma_max": 2.0}
    never = Trained(Never(), Diffusion(0.5))
    assert loss_of({**stage, "method": "training"}, Zero(), batches_of(), t=never).shape == (8,)
    with pytest.raises(AssertionError, match="the teacher was asked"):
        loss_of(stage, Zero(), batches_of(), t=never)


def test_consistency_training_goes_without_a_teacher() -> None:
    """A U-Net of zeros makes the model `c_skip x`, with the `sigma_data` that the stage names."""
    batches, sd = batches_of(), 0.7
    stage = {"stage": "consistency", "teacher": None, "method": "training", "sigma_data": sd}
    loss = loss_of({**stage, "loss": "l2", "num_steps": 4, "sigma_max": 2.0}, Zero(), batches)
    batch, grid_N = batches(3), karras_grid(4, 0.002, 2.0, 7.0)
    step_B = (batch.uniform_B * 3).long()
    x_BCHW = 2 * batch.x_BCHW - 1
    later, earlier = (
        (sd**2 / ((t_B - 0.002) ** 2 + sd**2)).float().view(-1, 1, 1, 1)
        * (x_BCHW + t_B.float().view(-1, 1, 1, 1) * batch.noise_BCHW)
        for t_B in (grid_N[step_B + 1], grid_N[step_B])
    )
    assert torch.allclose(loss, (later - earlier).square().mean(dim=(1, 2, 3)), atol=1e-6)
    assert loss.max() > 1e-3


class Large(nn.Module):
    """Whatever is not exactly 0 before it shows."""

    def forward(self, x_BCHW: Tensor, conditioning_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.full_like(x_BCHW, 1e6),)


@pytest.mark.parametrize("exact", [False, True])
def test_the_boundary_condition_is_exact(exact: bool) -> None:
    """sigma_min is 0.002, which is another number in float32."""
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    purify = trained_purifier(Large(), Diffusion(0.5, 8, 0.002, 2.0), exact)
    assert torch.equal(purify(x_BCHW, 0.002), x_BCHW)
    assert not torch.allclose(purify(x_BCHW, 0.5), x_BCHW)


@pytest.mark.parametrize(("scale", "fits"), [(1.0, False), (7.0, False), (1.0, True)])
def test_a_student_sees_the_conditioning_of_a_teacher_that_it_copies(scale: float, fits: bool) -> None:
    """ln(t)/4 times the teacher's scale, or 250 ln(t) where its weights are solved for it."""
    seen = []

    class Looking(torch.nn.Module):
        def forward(self, x: Tensor, conditioning_B: Tensor, return_dict: bool) -> tuple[Tensor]:
            seen.append(conditioning_B)
            return (x,)

    network = Looking()
    if fits:
        network.time_embedding = torch.nn.Identity()  # type: ignore[assignment]
    teacher = Trained(network, Diffusion(0.4, conditioning_scale=scale))
    config = ConsistencyStage(stage="consistency", name="c", steps=1, teacher="t", num_steps=6, loss="l2")
    diffusion = diffusion_of(config, {"t": teacher})
    assert diffusion is not None and (diffusion.sigma_data, diffusion.num_steps) == (0.4, 6)
    for constants in (teacher.diffusion, diffusion):
        assert constants is not None
        trained_purifier(network, constants, exact=True)(torch.zeros(2, 1, 4, 4), 3.0)
    expected = 250 * np.log(3.0) if fits else scale * np.log(3.0) / 4
    np.testing.assert_allclose(seen[0].numpy(), scale * np.log(3.0) / 4, rtol=1e-6)
    np.testing.assert_allclose(seen[1].numpy(), expected, rtol=1e-6)


def test_a_consistency_model_that_goes_on_keeps_its_conditioning() -> None:
    before = Trained(torch.nn.Identity(), Diffusion(0.3, 40, conditioning_scale=1e-3))
    config = ConsistencyStage(
        stage="consistency", name="c", steps=1, start="s", teacher=None, method="training", num_steps=18
    )
    diffusion = diffusion_of(config, {"s": before})
    assert diffusion == Diffusion(0.3, 18, conditioning_scale=1e-3)

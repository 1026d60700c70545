"""The calibrate stage: what it is made of, what it does to a denoiser of the digits, and what it refuses."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from training_setups import DIGITS, train_config

from raycp.config.data import DigitsData
from raycp.config.stages import CalibrateStage
from raycp.data import load_images
from raycp.errors import ConfigError
from raycp.models import ResidualClassifier
from raycp.training.batches import Batches, LoadedImages
from raycp.training.calibration import CalibrationWeights, calibration_loss
from raycp.training.loop import StageTraining
from raycp.training.stages import Diffusion, Trained, diffusion_of, purifier_of, stage_loss
from raycp.training.validation import HeldOut

MODELS = {"denoiser": {"path": "d"}, "classifier": {"path": "c"}}


def calibrate(**changes: Any) -> CalibrateStage:
    raw = {"stage": "calibrate", "steps": 6, "batch_size": 32, "learning_rate": 1e-3, "warmup_steps": 2}
    (stage,) = train_config({**raw, **changes}, models=MODELS, engine={"workers": 1}).stages
    assert isinstance(stage, CalibrateStage)
    return stage


class Zero(nn.Module):
    """A U-Net that predicts nothing: its model is `c_skip x`."""

    def forward(self, x_BCHW: Tensor, conditioning_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.zeros_like(x_BCHW),)


@pytest.mark.parametrize("diffusion", [Diffusion(0.5), Diffusion(0.5, 3, 0.4, 2.0)])
def test_levels_copies_and_conditioning(diffusion: Diffusion) -> None:
    """Each image at one of `sigmas`, the same for its copies; a consistency model sees the nearest grid time."""
    rng = np.random.default_rng(0)
    images = LoadedImages(rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, 20))
    batches = Batches(images, 32, 0, (1, 2), copies=3)
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    stage = calibrate(
        copies=3, sigmas=[0.25, 1.0], denoising_weight=0.5, brier_weight=2, anti_consistency_weight=3
    )
    earlier = {"denoiser": Trained(Zero(), diffusion), "classifier": Trained(classifier)}
    batch = batches(4)
    assert batch.noises_mBCHW.shape == (3, 32, 1, 8, 8)
    sigma_B = torch.tensor([0.5, 2.0], dtype=torch.float64)[(batch.uniform_B * 2).long()]
    assert len(sigma_B.unique()) == 2

    def skipped(x_BCHW: Tensor, s_B: Tensor) -> Tensor:
        if diffusion.num_steps is None:
            c_skip_B = 0.25 / (s_B**2 + 0.25)
        else:
            c_skip_B = 0.25 / ((diffusion.snapped(s_B) - 0.4) ** 2 + 0.25)
        return c_skip_B.float().view(-1, 1, 1, 1) * x_BCHW

    expected = calibration_loss(
        skipped, classifier, 2 * batch.x_BCHW - 1, batch.label_B, batch.noises_mBCHW, sigma_B, 0.5,
        CalibrationWeights(0.5, 2, 3),
    )  # fmt: skip
    loss = stage_loss(stage, Zero(), None, earlier, batches)(4)
    torch.testing.assert_close(loss, expected)
    assert diffusion_of(stage, earlier) == diffusion  # what is saved, and so how it is certified


# On the digits: a classifier, a denoiser of few steps, and the denoiser after calibration.


def train(stage: Any, network: nn.Module, earlier: dict[str, Trained]) -> nn.Module:
    training = training_of(stage, network, earlier)
    losses = list(training.run())
    assert np.isfinite(losses).all()
    return training.average.eval().requires_grad_(False)


def training_of(stage: Any, network: nn.Module, earlier: dict[str, Trained]) -> StageTraining:
    images = load_images(DigitsData(**DIGITS))
    copies = stage.copies if isinstance(stage, CalibrateStage) else 1
    batches = Batches(
        LoadedImages(images.images, images.labels),
        stage.batch_size,
        0,
        (0, 0),
        copies=copies,
        parts=stage.accumulate,
    )
    return StageTraining(stage, network, network, stage_loss(stage, network, None, earlier, batches))


@pytest.fixture(scope="module")
def parents() -> dict[str, Trained]:
    common = {"batch_size": 64, "warmup_steps": 10}
    config = train_config(
        {"stage": "classifier", "steps": 100, "learning_rate": 5e-3, **common},
        {"stage": "denoiser", "steps": 100, "learning_rate": 1e-2, "log_mean": 0.0, "log_std": 0.8, **common},
        engine={"workers": 1},
    )
    torch.manual_seed(0)
    made: Any = UNet2DModel
    unet = made(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        add_attention=False,
    )  # fmt: skip
    return {
        "classifier": Trained(train(config.stages[0], ResidualClassifier(10, 1, (8, 16), 1, 8), {})),
        "denoiser": Trained(train(config.stages[1], unet, {}), Diffusion(0.5)),
    }


def trainable(parents: dict[str, Trained]) -> nn.Module:
    return copy.deepcopy(parents["denoiser"].network).train().requires_grad_(True)


def test_purified_digits_are_recognised_more_often(parents: dict[str, Trained]) -> None:
    """On held-out digits and the same noise, with the classifier frozen.

    More often than before, and than after as many steps on the squared error alone (a Brier score of no weight).
    """
    frozen = copy.deepcopy(parents["classifier"].network.state_dict())
    images = load_images(DigitsData(**{**DIGITS, "split": "test"}))
    held_out = HeldOut(
        images.images, images.labels, (0.5,), 2, 0, 0, 1, torch.device("cpu"), lambda total: total
    )

    def measure(network: nn.Module) -> dict[str, float]:
        diffusion = parents["denoiser"].diffusion
        assert diffusion is not None
        with torch.no_grad():
            purify = purifier_of(calibrate(), network, diffusion)
            return held_out.of_purifier(purify, parents["classifier"].network, None)

    def trained(**weights: float) -> dict[str, float]:
        stage = calibrate(steps=60, batch_size=64, learning_rate=2e-3, **weights)
        return measure(train(stage, trainable(parents), parents))

    before, after = measure(parents["denoiser"].network), trained()
    longer = trained(brier_weight=1e-9, anti_consistency_weight=0)
    key = "purified_accuracy@0.5"  # 0.524, above 0.460 and 0.474, when this was written
    assert after[key] > max(before[key], longer[key]) + 0.02
    assert after["l2@0.5"] < 1.05 * longer["l2@0.5"]  # still a denoiser
    for name, value in parents["classifier"].network.state_dict().items():
        assert torch.equal(value, frozen[name])


def test_a_resumed_stage_is_the_uninterrupted_one_bit_for_bit(
    parents: dict[str, Trained], tmp_path: Path
) -> None:
    stage = calibrate(accumulate=2)
    whole = training_of(stage, trainable(parents), parents)
    losses = list(whole.run())
    first = training_of(stage, trainable(parents), parents)
    head = list(itertools.islice(first.run(), 4))
    torch.save(first.state(), tmp_path / "state.pt")
    second = training_of(stage, trainable(parents), parents)
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert head + list(second.run()) == losses
    for name, value in whole.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value)


CALIBRATE = {"stage": "calibrate", "steps": 1}
DENOISER = {"stage": "denoiser", "steps": 1}
CLASSIFIER = {"stage": "classifier", "steps": 1}
CONSISTENCY = {"stage": "consistency", "steps": 1, "loss": "l2", "sigma_min": 0.5, "sigma_max": 2.0}


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([CLASSIFIER, CALIBRATE], "start of calibrate is denoiser, which must be a stage before it or one of models"),
        ([DENOISER, CALIBRATE], "classifier of calibrate is classifier, which must be a stage before it"),
        (
            [DENOISER, CLASSIFIER, {**CALIBRATE, "start": "classifier"}],
            "start of calibrate must be a denoiser or consistency or finetune or calibrate stage; classifier is a "
            "classifier stage",
        ),
        (
            [DENOISER, CLASSIFIER, {**CALIBRATE, "classifier": "denoiser"}],
            "classifier of calibrate must be a classifier stage; denoiser is a denoiser stage",
        ),
        (
            [DENOISER, CLASSIFIER, {**CALIBRATE, "brier_weight": 0, "anti_consistency_weight": 0}],
            "brier_weight or anti_consistency_weight must be above 0, got 0 and 0",
        ),
        ([DENOISER, CLASSIFIER, {**CALIBRATE, "copies": 1}], "copies"),
        ([DENOISER, CLASSIFIER, {**CALIBRATE, "brier_weight": -1}], "brier_weight"),
        ([DENOISER, CLASSIFIER, {**CALIBRATE, "sigmas": []}], "sigmas"),
        (
            [DENOISER, CLASSIFIER, CONSISTENCY, {**CALIBRATE, "start": "consistency", "sigmas": [0.5, 1.1]}],
            "sigmas of calibrate has 1.1, 2.2 in [-1,1] units, outside 0.5 to 2, the noise that calibrate "
            "is trained on",
        ),
    ],
)  # fmt: skip
def test_configurations_that_are_refused(stages: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        train_config(*stages)
    assert words in str(caught.value)


def test_what_a_calibrated_model_may_be_used_for() -> None:
    """It starts from a denoiser of any noise level, may be calibrated again, and purifies for a classifier."""
    again = {**CALIBRATE, "name": "again", "start": "calibrate", "sigmas": [5.0]}
    behind = {**CLASSIFIER, "name": "behind", "noise_sigma": 0.5, "purifier": "again"}
    config = train_config(DENOISER, CLASSIFIER, CALIBRATE, again, behind)
    assert [stage.name for stage in config.stages[2:]] == ["calibrate", "again", "behind"]

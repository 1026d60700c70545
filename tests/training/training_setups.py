"""Small stages on the real digits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raycp.config import parse_config
from raycp.config.data import DigitsData
from raycp.config.stages import ClassifierStage
from raycp.config.train import TrainConfig
from raycp.data import load_images
from raycp.models import ResidualClassifier
from raycp.training.batches import Batches, LoadedImages
from raycp.training.loop import StageTraining
from raycp.training.stages import stage_loss

DIGITS = {"name": "digits", "split": "train"}


def train_config(*stages: dict[str, Any], **sections: Any) -> TrainConfig:
    """A configuration on the digits."""
    return parse_config(TrainConfig, {"data": DIGITS, "stages": list(stages), **sections})


def classifier_stage(**changes: Any) -> ClassifierStage:
    """A few steps of a tiny classifier."""
    raw = {"stage": "classifier", "steps": 30, "batch_size": 64, "widths": [8, 16], "learning_rate": 5e-3}
    return parse_config(ClassifierStage, {**raw, **changes})


def classifier_training(
    config: ClassifierStage, rank: int = 0, world_size: int = 1, wrap: Any = lambda network: network
) -> tuple[StageTraining, nn.Module]:
    """The training of that classifier and its network, always from the same weights and data."""
    torch.manual_seed(0)
    plain = ResidualClassifier(10, 1, config.widths, config.blocks, config.groups)
    network = wrap(plain)
    images = load_images(DigitsData(**DIGITS))
    batches = Batches(
        LoadedImages(images.images, images.labels),
        config.batch_size,
        config.max_shift,
        (0, 0),
        rank,
        world_size,
        parts=config.accumulate,
    )
    loss = stage_loss(config, network, None, {}, batches)
    return StageTraining(config, network, plain, loss), plain

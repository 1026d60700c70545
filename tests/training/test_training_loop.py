"""Steps of a stage: learning, averages and clipping."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training_setups import classifier_stage, classifier_training

from raycp.training.loop import StageTraining


def test_a_classifier_of_the_digits_learns_within_seconds() -> None:
    training, _ = classifier_training(classifier_stage(steps=100, widths=[16, 32], learning_rate=1e-2))
    losses = list(training.run())
    assert len(losses) == 100 and training.step == 100
    # Ten classes start at ln 10 = 2.3, and label smoothing by 0.05 keeps the loss above 0.29.
    assert losses[0] > 2.0
    assert 0.29 < sum(losses[-5:]) / 5 < 1.0


class OneWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))


def test_the_averages_follow_by_their_decays() -> None:
    config = classifier_stage(steps=3, ema_decay=0.15, warmup_steps=0)
    network, target = OneWeight(), OneWeight().requires_grad_(False)
    training = StageTraining(config, network, network, lambda step, part: network.w.view(1), target, 0.75)
    average = follower = 1.0
    for step, _ in enumerate(training.run()):
        w = network.w.item()
        decay = min(0.15, (1 + step) / (10 + step))  # 1/10, then 2/11 and 3/12, which are above 0.15
        average = decay * average + (1 - decay) * w
        follower = 0.75 * follower + 0.25 * w
        assert float(training.average.w) == pytest.approx(average, rel=1e-5)
        assert float(target.w) == pytest.approx(follower, rel=1e-5)
    assert w < 1.0  # the loss is w itself


def test_long_gradients_are_shortened() -> None:
    config = classifier_stage(steps=1, clip_norm=0.5, warmup_steps=0)
    network = OneWeight()
    training = StageTraining(config, network, network, lambda step, part: 1e6 * network.w.view(1))
    list(training.run())
    assert network.w.grad is not None
    assert float(network.w.grad) == pytest.approx(0.5, rel=1e-5)

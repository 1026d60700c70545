"""Steps of a stage: learning, averages and clipping."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

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


@pytest.mark.parametrize("optimizer", ["adamw", "radam", "muon"])
def test_a_resumed_stage_is_the_uninterrupted_one_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    config = classifier_stage(steps=8, max_shift=1, optimizer=optimizer)
    whole, _ = classifier_training(config)
    losses = list(whole.run())
    first, _ = classifier_training(config)
    head = list(itertools.islice(first.run(), 5))
    assert first.step == 5
    torch.save(first.state(), tmp_path / "state.pt")
    second, _ = classifier_training(config)
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert head + list(second.run()) == losses
    for name, value in whole.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value)


def test_a_checkpoint_of_the_unfused_optimizer_goes_on_with_it() -> None:
    """A training that began before the optimizer was fused ends with the weights it would have had."""
    config = classifier_stage(steps=8)
    before, _ = classifier_training(config)
    before._optimizers[0].param_groups[0]["fused"] = None
    head = list(itertools.islice(before.run(), 5))
    after, _ = classifier_training(config)
    assert after._optimizers[0].param_groups[0]["fused"]
    after.load(copy.deepcopy(before.state()))
    assert after._optimizers[0].param_groups[0]["fused"] is None
    assert list(after.run()) == list(before.run()) != head[:3]

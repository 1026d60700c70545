"""Training against a plain loop: the same step on both sides, and turns that are counted right."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from raycp.bench.measurements import Measurements
from raycp.bench.plain_training import PlainLoop
from raycp.bench.tables import plain_text, tables
from raycp.bench.training import TrainingMeasured, TrainingSize, TrainingWindow
from raycp.bench.training_stamps import Stamp, stamps
from raycp.config import parse_config
from raycp.config.stages import DenoiserStage
from raycp.distributed.trained_models import make_unet
from raycp.training.batches import Batches, LoadedImages
from raycp.training.loop import StageTraining
from raycp.training.stages import stage_loss

TINY = TrainingSize(channels=(8, 8), groups=4, batch_size=8, image_size=8, images=20)


def test_the_plain_loop_takes_the_steps_of_the_stage() -> None:
    """From the same weights, on the same draws: losses, weights and averages agree but for rounding."""
    stage = parse_config(DenoiserStage, {"name": "denoiser", **TINY.stage(3), "warmup_steps": 2})
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    network = make_unet(stage, 3, 8, 8)
    engine_network = make_unet(stage, 3, 8, 8)
    engine_network.load_state_dict(network.state_dict())
    before = copy.deepcopy(network.state_dict())
    batches = Batches(
        LoadedImages(images, np.zeros(20, dtype=np.int64)), 8, stage.max_shift, (0, 0), flip=True
    )
    training = StageTraining(
        stage, engine_network, engine_network, stage_loss(stage, engine_network, None, {}, batches)
    )
    plain = PlainLoop(stage, network, images)
    losses = list(training.run())
    for step, loss in enumerate(losses):
        batch = batches(step)
        sigma = (stage.log_mean + stage.log_std * batch.normal_B).exp().float()
        assert plain.learn(2 * batch.x_BCHW - 1, batch.noise_BCHW, sigma) == pytest.approx(loss, rel=1e-4)
    for wanted, found in ((engine_network, network), (training.average, plain.average)):
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-3, atol=1e-4)
            assert not torch.equal(value, before[name])


def test_a_step_without_an_end_of_line_is_not_counted(tmp_path: Path) -> None:
    assert stamps(tmp_path, 1) == []
    (tmp_path / "1.stamps").write_text("1.5 0.25\n2.5 1.0\n3.")
    assert stamps(tmp_path, 1) == [Stamp(1.5, 0.25), Stamp(2.5, 1.0)]


def measured() -> TrainingMeasured:
    """Turns of ten steps: the plain loop takes 10 s, 10 s and 20 s, two workers half as long as one."""
    windows = []
    for plain, one, two in ((10.0, 10.0, 5.0), (10.0, 13.0, 6.5), (20.0, None, None)):
        windows.append(TrainingWindow("plain loop", 10, plain, plain))
        if one is not None and two is not None:
            windows.append(TrainingWindow("1 worker", 10, one, 8.0, 0.1 * one))
            windows.append(TrainingWindow("2 workers", 10, two, 10.0, 0.1 * two))
    return TrainingMeasured(TINY, 1_234, windows)


def test_ratios_are_of_neighbours_in_time() -> None:
    found = measured().comparisons()
    # Steps per second: plain 1, 1, 0.5; one worker 1 and 10/13 between 1 and 0.5.
    one = found["1 worker / plain loop"]
    assert (one.lowest, one.highest, one.count) == (pytest.approx(1.0), pytest.approx(10 / 13 / 0.75), 2)
    two = found["2 workers / 1 worker"]
    # The first turn of two workers lies between 1 and 10/13 steps per second, the last one has one neighbour.
    assert two.lowest == pytest.approx(2.0)
    assert two.highest == pytest.approx(2 / ((1 + 10 / 13) / 2))
    by_cpu = found["2 workers / 1 worker, by CPU time"]
    assert by_cpu.median == pytest.approx(2 * 8 / 10)


def test_figures_are_printed_and_recorded() -> None:
    everything = Measurements(machine={}, training=measured())
    text = plain_text(tables(everything))
    assert "training, U-Net of 1,234 parameters, 3x8x8 images, batch 8" in text
    assert "Ray's own processes" in text
    assert (
        next(line for line in text.splitlines() if "2 workers / 1 worker, by CPU" in line).split()[-1]
        == "1.600"
    )
    record = json.loads(json.dumps(everything.record()))
    assert record["training"]["ratios"]["2 workers / 1 worker"]["count"] == 2
    assert record["training"]["windows"][1] == {
        "side": "1 worker", "steps": 10, "seconds": 10.0, "cpu_seconds": 8.0, "ray_seconds": 1.0,
    }  # fmt: skip


SCRIPT = """
import json
from raycp.bench.training import TrainingSize, measure_training
size = TrainingSize(channels=(8, 8), groups=4, batch_size=8, image_size=8, images=20)
if __name__ == "__main__":
    print(json.dumps(measure_training(0.1, 2, lambda _: None, size).record()))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers want two cores")
def test_all_sides_take_turns_on_the_real_training(tmp_path: Path) -> None:
    (tmp_path / "small_bench.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "small_bench.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    sides = [window["side"] for window in record["windows"]]
    assert sides == 2 * ["plain loop", "1 worker", "2 workers"] + ["plain loop"]
    for window in record["windows"]:
        assert window["steps"] == record["windows"][0]["steps"] >= 5
        assert 0 < window["cpu_seconds"] < 4 * window["seconds"]
        # A step of this size takes milliseconds; a turn that counted a start would take seconds each.
        assert window["seconds"] / window["steps"] < 2
    assert record["ratios"]["2 workers / 1 worker"]["count"] == 2

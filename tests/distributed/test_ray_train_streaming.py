"""`raycp train` with streaming: the same curve for one worker and two, the same weights after a worker was killed."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamed_set import write_set

from raycp.config import parse_config
from raycp.config.models import DirectoryClassifier
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from raycp.errors import DataError, RunMismatchError
from raycp.models import read_classifier

pytestmark = pytest.mark.ray

STEPS = 60


def streaming(path: Path, window: int = 20, **engine: Any) -> TrainConfig:
    stage = {
        "stage": "classifier", "steps": STEPS, "batch_size": 8, "widths": [8], "groups": 4, "max_shift": 1,
        "flip": True, "warmup_steps": 2, "accumulate": 2,
    }  # fmt: skip
    raw = {
        "data": {"name": "parquet", "path": str(path)},
        "streaming": {"window": window},
        "stages": [stage],
        "engine": {"workers": 2, "checkpoint_steps": 3, "log_steps": 1, **engine},
    }
    return parse_config(TrainConfig, raw)


def curve(out: Path) -> dict[int, float]:
    """The loss of every step, as it was last made."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert sorted(losses) == list(range(1, STEPS + 1))
    return losses


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("streaming") / "x.parquet")


@pytest.fixture(scope="module")
def trained(ray_cluster: None, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streamed") / "run"
    assert train_models(streaming(parquet), str(out), lambda line: None)
    return out


def test_one_worker_follows_the_same_curve(trained: Path, parquet: Path, tmp_path: Path) -> None:
    assert train_models(streaming(parquet, workers=1), str(tmp_path / "run"), lambda line: None)
    assert curve(tmp_path / "run") == pytest.approx(curve(trained), rel=1e-4)


def test_the_card_names_the_files_and_another_window_is_another_training(
    trained: Path, parquet: Path
) -> None:
    card = json.loads((trained / "models" / "classifier" / "card.json").read_text())
    assert set(card["data"]) == {"training_files", "set"}
    with pytest.raises(RunMismatchError, match=r"streaming.window: 20 -> 30"):
        train_models(streaming(parquet, window=30), str(trained), print)


def test_an_image_that_differs_ends_the_training_with_its_name(ray_cluster: None, tmp_path: Path) -> None:
    path = write_set(tmp_path / "x.parquet", {33: np.zeros((9, 8), np.uint8)})
    config = streaming(path, max_failures=0)
    with pytest.raises(DataError, match=r"image 33 .* is 8x9; set data.resize"):
        train_models(config, str(tmp_path / "run"), lambda line: None)


def test_a_killed_worker_resumes_to_the_same_weights(trained: Path, parquet: Path, tmp_path: Path) -> None:
    import ray

    out, killed = tmp_path / "run", threading.Event()

    def kill_after_the_first_checkpoint() -> None:
        while not any((out / "ray").glob("checkpoint_*/state.pt")):
            if finished.wait(0.02):
                return
        for actor in ray._private.state.actors().values():
            if actor["ActorClassName"] == "RayTrainWorker" and actor["State"] == "ALIVE":
                os.kill(actor["Pid"], signal.SIGKILL)
                killed.set()
                return

    finished = threading.Event()
    killer = threading.Thread(target=kill_after_the_first_checkpoint)
    killer.start()
    try:
        assert train_models(streaming(parquet), str(out), lambda line: None)
    finally:
        finished.set()
        killer.join()
    assert killed.is_set()

    def sha256(run: Path) -> Any:
        return read_classifier(
            DirectoryClassifier(kind="directory", path=str(run / "models" / "classifier"))
        ).sha256

    assert sha256(out) == sha256(trained)
    assert curve(out) == curve(trained)

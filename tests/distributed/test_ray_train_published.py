"""Published classifiers under `raycp train`: what it leaves is read, certified and trained on like any classifier."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_runs import Recorder
from tiny_classifiers import CLASSES, SIDE, section

from raycp.config import RunConfig, parse_config
from raycp.config.train import TrainConfig
from raycp.distributed.job import prepare_job
from raycp.distributed.session import run_job
from raycp.distributed.train import train_models
from raycp.distributed.train_worker import train_worker
from raycp.models import Bundle, build_classifier, read_classifier, read_model
from raycp.training.loop import StageTraining

pytestmark = pytest.mark.ray
COMMON = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 0}
NOISY = {"stage": "classifier", "noise_sigma": 0.25}
STAGES: list[dict[str, Any]] = [
    {"stage": "denoiser", "block_out_channels": [8, 8], "norm_num_groups": 4},
    {**NOISY, "name": "vit-ft", "start": "vit", "purifier": "denoiser"},  # with dropout
    {**NOISY, "name": "resnet-ft", "start": "resnet", "copies": 2},  # two forward passes in a step
    {**NOISY, "name": "further", "start": "resnet-ft"},
    {**NOISY, "name": "own-ft", "start": "own"},  # with a parameter that is not used
]
KINDS = {"vit": "transformers", "resnet": "cifar_resnet", "own": "python"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images on one of four greys, and classifiers with random weights."""
    folder = tmp_path_factory.mktemp("published")
    labels = np.arange(32) % CLASSES
    noise = np.random.default_rng(0).integers(-20, 21, (32, SIDE, SIDE, 3))
    images = (40 + 50 * labels[:, None, None, None] + noise).astype(np.uint8)
    np.savez(folder / "images.npz", images=images, labels=labels)
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> TrainConfig:
    data = {"name": "npz", "path": str(folder / "images.npz")}
    raw = {
        "data": data,
        "validation": data,
        "validation_classifier": "vit",
        "validation_sigmas": [0.25],
        "models": {name: section(kind, folder) for name, kind in KINDS.items()},
        "stages": [COMMON | stage for stage in STAGES],
        "engine": {"workers": 2, "checkpoint_steps": 2},
    }
    return parse_config(TrainConfig, raw)


@pytest.fixture(scope="module")
def trained(ray_cluster: None, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert train_models(config, str(out), lambda line: None)
    return out


OWN = [{"factory": "tiny_classifiers:with_dropout", "kwargs": {"width": 8}}]


def left(run: Path, name: str) -> Bundle:
    return read_model(str(run / "models" / name), OWN)


@pytest.mark.parametrize(
    ("start", "name"), [("vit", "vit-ft"), ("resnet", "resnet-ft"), ("resnet", "further"), ("own", "own-ft")]
)
def test_what_is_left_is_what_was_validated(
    trained: Path, config: TrainConfig, folder: Path, start: str, name: str
) -> None:
    before, after = read_classifier(config.models[start]), left(trained, name)  # type: ignore[arg-type]
    assert after.recipe == before.recipe and after.sha256 != before.sha256
    with np.load(folder / "images.npz") as file:
        images, labels = (
            torch.from_numpy(file["images"]).permute(0, 3, 1, 2),
            torch.from_numpy(file["labels"]),
        )
    with torch.no_grad():
        logits_BK = build_classifier(after)(images / 255)
    card = json.loads((trained / "models" / name / "card.json").read_text())
    found = torch.nn.functional.cross_entropy(logits_BK, labels.long()).item()
    # Cut to whole 255ths, a pixel may lose one on its way through model units.
    assert card["metrics"]["cross_entropy"] == pytest.approx(found, abs=5e-3 if start == "vit" else 1e-5)
    assert {"accuracy", "cross_entropy"} < set(card["metrics"])
    assert card["parents"][start] == before.sha256


class FatalOnce:
    """What workers run; one of them dies once, in the middle of a stage with batch normalisation and dropout."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(self, job: dict[str, Any]) -> None:
        whole = StageTraining.run

        def interrupted(training: StageTraining) -> Iterator[float]:
            for value in whole(training):
                if training.step == 5 and training._config.name == "own-ft" and not self.marker.exists():
                    self.marker.touch()
                    time.sleep(2)  # for Ray Train to take note of the checkpoints before
                    os._exit(1)
                yield value

        StageTraining.run = interrupted  # type: ignore[method-assign]
        train_worker(job)


def test_an_interruption_leaves_no_trace(trained: Path, config: TrainConfig, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    assert train_models(config, str(tmp_path / "run"), lines.append, FatalOnce(tmp_path / "fatal"))
    restored = {line["stage"]: line["step"] for line in lines if line.get("restored")}
    assert set(restored) == {"own-ft"} and restored["own-ft"] in (2, 4)
    for stage in config.stages:
        assert left(tmp_path / "run", stage.name).sha256 == left(trained, stage.name).sha256, stage.name


def test_it_is_certified_like_any_classifier(trained: Path, folder: Path, tmp_path: Path) -> None:
    counts = {}
    raw = {
        "data": {"name": "npz", "path": str(folder / "images.npz"), "select": {"count": 3}},
        "certify": {"sigmas": [0.25], "num_selection": 10, "num_estimation": 200},
        "numerics": {"batch_size": 32},
        "engine": {"replicas": 1},
    }
    models = trained / "models"
    purified = {"kind": "edm", "model": {"path": str(models / "denoiser")}}
    vit = {"kind": "transformers", "path": str(models / "vit-ft"), "truncate": True}
    for out, classifier in (("a", {"kind": "directory", "path": str(models / "vit-ft")}), ("b", vit)):
        run = parse_config(RunConfig, {**raw, "purifier": purified, "classifier": classifier})
        assert run_job(prepare_job("certify", run), str(tmp_path / out), Recorder())
        counts[out] = pq.read_table(tmp_path / out / "certificates.parquet").drop_columns(["seconds"])
    assert counts["a"].equals(counts["b"]) and len(counts["a"]) == 3

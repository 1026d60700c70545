"""`raycp train` on Ray Train: models that certify takes, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local import descendants

from raycp.config import parse_config
from raycp.config.models import ConsistencyPurifier, DenoiserModel, DirectoryClassifier
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from raycp.distributed.train_worker import train_worker
from raycp.distributed.training_room import room_taken
from raycp.errors import ClusterError, RunMismatchError, TrainingError
from raycp.models import build_denoiser, read_classifier, read_denoiser
from raycp.purifiers.build import build_purifier
from raycp.purifiers.pixels import PixelPurifier
from raycp.training.stages import Diffusion, trained_purifier

pytestmark = pytest.mark.ray


def small_training(steps: int = 6, **sections: Any) -> dict[str, Any]:
    common = {"steps": steps, "batch_size": 16, "warmup_steps": 2}
    return {
        "data": {"name": "digits", "split": "train", "select": {"count": 64}},
        "validation": {"name": "digits", "select": {"count": 20}},
        "stages": [
            {"stage": "classifier", "widths": [8], "groups": 4, **common},
            {"stage": "denoiser", "block_out_channels": [8, 8], "norm_num_groups": 4, **common},
            {"stage": "consistency", "num_steps": 8, "sigma_max": 2.0, "optimizer": "radam", **common},
            {"stage": "finetune", "optimizer": "radam", **common},
        ],
        "engine": {"workers": 2, "checkpoint_steps": 2},
        **sections,
    }


def hashes(run: Path) -> dict[str, str]:
    models = run / "models"
    found = {
        name: read_denoiser(DenoiserModel(path=str(models / name))).sha256
        for name in ("denoiser", "consistency", "finetune")
    }
    found["classifier"] = read_classifier(
        DirectoryClassifier(kind="directory", path=str(models / "classifier"))
    ).sha256
    return found


@pytest.fixture(scope="module")
def trained(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    lines: list[dict[str, Any]] = []
    assert train_models(parse_config(TrainConfig, small_training()), str(out), lines.append)
    done = [line for line in lines if line.get("done")]
    assert [line["stage"] for line in done] == ["classifier", "denoiser", "consistency", "finetune"]
    assert set(done[3]["metrics"]) >= {
        "purified_accuracy@0.25",
        "purified_accuracy@0.5",
        "purified_accuracy@1",
    }
    return out


def test_cards_name_data_and_parents(trained: Path) -> None:
    card = json.loads((trained / "models" / "finetune" / "card.json").read_text())
    found = hashes(trained)
    assert card["parents"] == {name: found[name] for name in ("classifier", "denoiser", "consistency")}
    assert set(card["data"]) == {"training", "set", "validation"}


def test_a_finished_training_is_left_alone(trained: Path) -> None:
    before = hashes(trained)
    assert not train_models(parse_config(TrainConfig, small_training()), str(trained), print)
    assert hashes(trained) == before


def test_another_configuration_is_refused(trained: Path) -> None:
    with pytest.raises(RunMismatchError, match="seed: 0 -> 1"):
        train_models(parse_config(TrainConfig, small_training(seed=1)), str(trained), print)


def test_more_workers_than_the_cluster_has(ray_cluster: None, tmp_path: Path) -> None:
    raw = small_training(engine={"workers": 4})
    with pytest.raises(
        ClusterError, match=r"engine.workers = 4 with 1 CPU each want 4 CPU, but the cluster has 2"
    ):
        train_models(parse_config(TrainConfig, raw), str(tmp_path / "run"), print)


def test_a_diverging_loss_ends_the_run_with_stage_and_step(ray_cluster: None, tmp_path: Path) -> None:
    raw = small_training(steps=40)
    raw["stages"] = [raw["stages"][0] | {"learning_rate": 1e30, "clip_norm": 1e30, "warmup_steps": 0}]
    with pytest.raises(TrainingError, match=r"the loss of stage classifier is \w+ at step \d+"):
        train_models(parse_config(TrainConfig, raw), str(tmp_path / "run"), print)


def test_training_images_off_the_grid_are_named(tmp_path: Path) -> None:
    images = np.full((4, 8, 8), 0.5, dtype=np.float32)
    images[1, 2, 3] = np.nan
    np.savez(tmp_path / "nan.npz", images=images, labels=np.zeros(4, dtype=np.int64))
    raw = small_training(data={"name": "npz", "path": str(tmp_path / "nan.npz")})
    with pytest.raises(Exception, match="image 1") as caught:
        train_models(parse_config(TrainConfig, raw), str(tmp_path / "run"), print)
    assert type(caught.value).__name__ == "DataError"


@pytest.mark.parametrize("name", ["consistency", "finetune"])
def test_the_boundary_condition_is_exact_for_trained_weights(trained: Path, name: str) -> None:
    """f(x, sigma_min) = x to the last bit: as it is certified, and as it is trained on and validated."""
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(trained / "models" / name))))
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    certified = build_purifier(
        ConsistencyPurifier(kind="consistency", model=DenoiserModel(path="")), denoiser
    )
    assert isinstance(certified, PixelPurifier)
    constants = (
        denoiser.sigma_data,
        denoiser.num_steps,
        denoiser.sigma_min,
        denoiser.sigma_max,
        denoiser.rho,
    )
    for exact in (False, True):
        purify = trained_purifier(denoiser.network, Diffusion(*constants), exact)
        with torch.no_grad():
            for model in (certified.estimate, purify):
                assert torch.equal(model(x_BCHW, denoiser.sigma_min), x_BCHW)
                assert not torch.allclose(model(x_BCHW, 1.0), x_BCHW, atol=0.1)  # elsewhere it does something


def test_a_ddpm_and_a_classifier_behind_it(ray_cluster: None, tmp_path: Path) -> None:
    """The classifier stage purifies with the model as it was saved, and its card names it."""
    common = {"steps": 4, "batch_size": 16, "warmup_steps": 2}
    unet = {"block_out_channels": [8, 8], "norm_num_groups": 4}
    ddpm = {"stage": "ddpm", "max_sigma": 1.0, **unet, **common}
    behind = {
        "stage": "classifier",
        "widths": [8],
        "groups": 4,
        "noise_sigma": 0.5,
        "purifier": "ddpm",
        **common,
    }
    lines: list[dict[str, Any]] = []
    raw = small_training(stages=[ddpm, behind])
    assert train_models(parse_config(TrainConfig, raw), str(tmp_path / "run"), lines.append)
    done = {line["stage"]: line["metrics"] for line in lines if line.get("done")}
    assert set(done["ddpm"]) == {"l2@0.25", "l2@0.5", "l2@1"}
    assert set(done["classifier"]) == {"accuracy", "cross_entropy", "purified_accuracy@0.5"}
    models = tmp_path / "run" / "models"
    bundle = read_denoiser(DenoiserModel(path=str(models / "ddpm")))
    assert build_denoiser(bundle).parametrisation == "ddpm"
    assert json.loads((models / "classifier" / "card.json").read_text())["parents"] == {"ddpm": bundle.sha256}


class FatalOnce:
    """What workers run; the first process that is told to, dies of it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(self, job: dict[str, Any]) -> None:
        train_worker(job)

    def __reduce__(self) -> tuple[Any, ...]:
        return survivor, (self.marker,)


def survivor(marker: Path) -> FatalOnce:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return FatalOnce(marker)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("max_failures", [1, 0])
def test_a_worker_lost_while_the_workers_start(ray_cluster: None, tmp_path: Path, max_failures: int) -> None:
    """Ray Train gives up there, keeping both CPUs, and raycp starts again, as often as workers may fail."""
    import ray

    raw = small_training(steps=2)
    engine = {"workers": 2, "max_failures": max_failures}
    config = parse_config(TrainConfig, {**raw, "stages": raw["stages"][:1], "engine": engine})
    notes: list[str] = []
    out, fatal = tmp_path / "run", FatalOnce(tmp_path / "died")

    mine = ray.util.placement_group([{"CPU": 100}])  # never placed

    def train() -> bool:
        return train_models(config, str(out), lambda line: notes.append(line.get("note", "")), fatal)

    if max_failures == 0:
        with pytest.raises(TrainingError, match="died"):
            train()
        assert room_taken() == frozenset({mine.id.hex()})  # what others asked for in this job is theirs
    else:
        assert train()
        assert "a worker was lost while the workers were starting; starting them again" in notes
        assert (out / "models" / "classifier").is_dir()
    assert fatal.marker.exists()
    ray.util.remove_placement_group(mine)


@pytest.mark.slow
def test_workers_lost_at_the_start_again_and_again(ray_cluster: None, tmp_path: Path) -> None:
    """Three times in a row, as often as `max_failures` allows: Ray Train counts these losses apart."""
    raw = small_training(steps=2)
    engine = {"workers": 1, "max_failures": 3}
    config = parse_config(TrainConfig, {**raw, "stages": raw["stages"][:1], "engine": engine})
    killed: list[int] = []
    done = threading.Event()

    def kill_the_first_three() -> None:
        while not done.wait(0.02) and len(killed) < 3:
            for pid, title in descendants(os.getpid()).items():
                if title.startswith("ray::RayTrainWorker") and pid not in killed and len(killed) < 3:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill_the_first_three)
    killer.start()
    try:
        assert train_models(config, str(tmp_path / "run"), lambda line: None)
    finally:
        done.set()
        killer.join()
    assert len(killed) == 3

"""Fine-tuning in several ways from one consistency model, on ImageNet backbones and on models of other trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raycp.config import parse_config
from raycp.config.models import DenoiserModel
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from raycp.errors import ModelError, RunMismatchError, TrainingError
from raycp.models import read_denoiser, save_denoiser
from raycp.models.diffusers_denoiser import make_unet
from raycp.models.score_unet import ScoreUNet

COMMON = {"steps": 2, "batch_size": 4, "warmup_steps": 1}
SIDE = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images, and a SqueezeNet with random weights."""
    from torchvision.models import squeezenet1_1

    folder = tmp_path_factory.mktemp("colour")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=rng.integers(0, 3, 16))
    torch.manual_seed(0)
    state = squeezenet1_1(weights=None).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "squeeze.safetensors")
    return folder


def training(folder: Path, stages: list[dict[str, Any]], **sections: Any) -> TrainConfig:
    raw = {
        "data": {"name": "npz", "path": str(folder / "images.npz")},
        "stages": [COMMON | stage for stage in stages],
        "engine": {"workers": 1},
        **sections,
    }
    return parse_config(TrainConfig, raw)


def lpips(folder: Path, file: str = "squeeze.safetensors", **options: Any) -> dict[str, Any]:
    return {"net": "squeeze", "weights": str(folder / file), "resize": 32, **options}


@pytest.mark.ray
def test_one_consistency_model_is_tuned_in_several_ways(
    ray_cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = training(
        folder,
        [
            {"stage": "denoiser", "block_out_channels": [8, 8], "norm_num_groups": 4},
            {"stage": "consistency", "num_steps": 6, "sigma_max": 2.0, "loss": "l2"},
            {"stage": "finetune", "name": "finetune-lpips", "perceptual": lpips(folder), "flip": True},
            {"stage": "finetune", "name": "finetune-l1", "loss": "l1", "continuous": True},
        ],
    )
    assert train_models(first, str(tmp_path / "first"), lambda _: None)
    models = tmp_path / "first" / "models"
    found = {name: read_denoiser(DenoiserModel(path=str(models / name))) for name in
             ("consistency", "finetune-lpips", "finetune-l1")}  # fmt: skip
    assert len({bundle.sha256 for bundle in found.values()}) == 3
    assert all(bundle.recipe["schedule"]["num_steps"] == 6 for bundle in found.values())
    card = json.loads((models / "finetune-lpips" / "card.json").read_text())
    assert "backbone.finetune-lpips" in card["data"]
    assert card["stage"]["perceptual"]["net"] == "squeeze"

    # Another training goes on from the model, under its own name. The path is relative to where the command is given,
    # which is not where workers are.
    monkeypatch.chdir(tmp_path)
    second = training(
        folder,
        [{"stage": "finetune", "start": "parent", "loss": "l2"}],
        models={"parent": {"path": "first/models/consistency"}},
    )
    assert train_models(second, str(tmp_path / "second"), lambda _: None)
    card = json.loads((tmp_path / "second" / "models" / "finetune" / "card.json").read_text())
    assert card["parents"] == {"parent": found["consistency"].sha256}
    # The directory may move, but another model is another training.
    (models / "consistency").rename(tmp_path / "moved")
    moved = second.model_copy(update={"models": {"parent": second.models["parent"].model_copy(
        update={"path": str(tmp_path / "moved")})}})  # fmt: skip
    assert not train_models(moved, str(tmp_path / "second"), lambda _: None)
    other = second.model_copy(update={"models": {"parent": second.models["parent"].model_copy(
        update={"path": str(models / "finetune-l1")})}})  # fmt: skip
    with pytest.raises(RunMismatchError, match=r"data\.models\.parent"):
        train_models(other, str(tmp_path / "second"), lambda _: None)


@pytest.mark.ray
def test_a_calibrated_model_is_of_the_kind_that_it_starts_from(
    ray_cluster: None, folder: Path, tmp_path: Path
) -> None:
    shape = {"block_out_channels": [8, 8], "norm_num_groups": 4}
    config = training(
        folder,
        [
            {"stage": "classifier", "widths": [8], "groups": 4},
            {"stage": "denoiser", **shape},
            {"stage": "consistency", "num_steps": 6, "sigma_max": 2.0, "loss": "l2"},
            {"stage": "calibrate"},
            {"stage": "calibrate", "name": "again", "start": "consistency", "copies": 3, "dtype": "bfloat16"},
        ],
        validation={"name": "npz", "path": str(folder / "images.npz")},
    )
    lines: list[dict[str, Any]] = []
    assert train_models(config, str(tmp_path / "run"), lines.append)
    models = tmp_path / "run" / "models"
    for name, start, kind in (("calibrate", "denoiser", "edm"), ("again", "consistency", "consistency")):
        made, origin = (read_denoiser(DenoiserModel(path=str(models / n))) for n in (name, start))
        assert made.recipe["schedule"] == origin.recipe["schedule"]
        assert made.recipe["schedule"]["parametrisation"] == kind
        assert 0 < max(np.abs(made.state[key] - origin.state[key]).max() for key in origin.state) < 0.02
        card = json.loads((models / name / "card.json").read_text())
        assert {"l2@0.5", "lpips@0.5", "purified_accuracy@0.5"} <= card["metrics"].keys()
        assert "classifier" in card["parents"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"file": "nowhere.safetensors"}, ModelError, r"stages\.0\.perceptual\.weights: there is no file"),
        ({"net": "alex"}, TrainingError, r"stages\.0\.perceptual\.weights"),
        ({"resize": 5}, TrainingError, r"resize must be at least 17 for the backbone squeeze, got 5"),
    ],
)
def test_backbones_that_cannot_be_used_are_named_before_anything_starts(
    folder: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    stage = {"stage": "finetune", "start": "parent", "perceptual": lpips(folder, **options)}
    config = training(folder, [stage], models={"parent": {"path": str(folder)}}).model_copy(
        update={"models": {}}
    )
    with pytest.raises(error, match=message):
        train_models(config, str(tmp_path / "run"), print)
    assert not (tmp_path / "run" / "train.json").exists()


@pytest.mark.ray
def test_training_goes_on_from_published_networks(ray_cluster: None, folder: Path, tmp_path: Path) -> None:
    """Networks that diffusers does not describe in full keep their conditioning, and are read back as they were."""
    torch.manual_seed(0)
    shape: tuple[Any, ...] = (SIDE, 3, 8, [1, 2], 1, [10], True, True, 2, [1, 3, 3, 1])
    save_denoiser(tmp_path / "edm", ScoreUNet(*shape), "edm")
    save_denoiser(tmp_path / "cd", ScoreUNet(*shape), "consistency", 1e-3, num_train_timesteps=6)
    unet = {
        "sample_size": SIDE, "in_channels": 3, "out_channels": 3, "block_out_channels": [8, 16], "layers_per_block": 1,
        "norm_num_groups": 4, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_heads": 2,
    }  # fmt: skip
    save_denoiser(tmp_path / "adm", make_unet(unet), "edm", 1000.0)
    grid = {"num_steps": 6, "loss": "l2"}
    config = training(
        folder,
        [
            {"stage": "consistency", "name": "distilled", "teacher": "edm", **grid},
            {"stage": "consistency", "name": "from-adm", "teacher": "adm", **grid},
            {"stage": "consistency", "name": "trained", "start": "cd", "teacher": None, "method": "training", **grid},
            {"stage": "consistency", "name": "further", "start": "cd", "teacher": "edm", **grid},
            {"stage": "finetune", "start": "cd", "loss": "l2"},
        ],
        models={name: {"path": str(tmp_path / name)} for name in ("edm", "cd", "adm")},
    )  # fmt: skip
    assert train_models(config, str(tmp_path / "run"), lambda _: None)

    def read(path: Path) -> Any:
        return read_denoiser(DenoiserModel(path=str(path)))

    start, teacher = read(tmp_path / "cd"), read(tmp_path / "edm")
    for name in ("distilled", "trained", "further", "finetune"):
        made = read(tmp_path / "run" / "models" / name)
        assert made.recipe["class"] == "ScoreUNet" and made.recipe["network"] == start.recipe["network"]
        assert made.recipe["schedule"] == start.recipe["schedule"]  # conditioned on 250 ln(t) / 1000
        origin = teacher if name == "distilled" else start
        moved = {key: np.abs(made.state[key] - origin.state[key]).max() for key in origin.state}
        assert 0 < max(moved.values()) < 0.02  # two steps of Adam from there
    student, adm = read(tmp_path / "run" / "models" / "from-adm"), read(tmp_path / "adm")
    assert student.recipe["network"]["attention_heads"] == 2
    assert "conditioning_scale" not in student.recipe["schedule"]  # 250 ln(t) both
    assert np.abs(student.state["conv_in.weight"] - adm.state["conv_in.weight"]).max() < 0.02

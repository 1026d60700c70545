"""What a user of `raycp train` may get wrong, through the command: told before Ray starts, with nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_classifiers import CLASSES, SIDE, section

from raycp.cli.main import main
from raycp.models import ResidualClassifier, save_classifier, save_denoiser
from raycp.models.score_unet import ScoreUNet

Run = Callable[..., tuple[int, str]]
COMMON = {"steps": 2, "batch_size": 4}
FINETUNE = {"stage": "finetune", "start": "parent", "loss": "l2"}
DISTIL = {"stage": "consistency", "teacher": "parent", "loss": "l2", "sigma_max": 2.0}
CLASSIFIER = {"stage": "classifier", "start": "parent"}
VALIDATION = {"name": "digits", "split": "test", "select": {"count": 10}}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once where Ray would be started."""

    def started(*_: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raycp.distributed.train.connected", started)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `raycp train` in this process on a small configuration; returns the exit status and stderr."""

    def run(
        *stages: dict[str, Any], out: str = "", parent: Path | None = None, **sections: Any
    ) -> tuple[int, str]:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "split": "train", "select": {"count": 20}},
            "stages": [COMMON | stage for stage in stages],
            "models": {} if parent is None else {"parent": {"path": str(parent)}},
            **sections,
        }
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(raw))
        monkeypatch.setattr(sys, "argv", ["raycp", "train", str(path), "--out", out or str(tmp_path / "run")])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return run


def denoiser(folder: Path, kind: Any = "edm", channels: int = 1, size: int = 8) -> Path:
    from diffusers import UNet2DModel

    network_class: Any = UNet2DModel
    torch.manual_seed(0)
    network = network_class(
        sample_size=size, in_channels=channels, out_channels=channels, block_out_channels=(8,), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    grid = {"sigma_min": 0.1, "sigma_max": 1.0, "num_train_timesteps": 6} if kind == "consistency" else {}
    save_denoiser(folder, network, kind, **grid)
    return folder


def of_classes(folder: Path) -> Path:
    save_denoiser(folder, ScoreUNet(8, 1, 4, [1, 2], 1, [4], False, False, 1, [1, 1], 5), "edm")
    return folder


def classifier(
    folder: Path, classes: int = 10, size: int = 8, mean: float | None = 0.5, channels: int = 1
) -> Path:
    torch.manual_seed(0)
    network = ResidualClassifier(classes, channels, widths=(8,), blocks=1, groups=2)
    half = None if mean is None else [mean] * channels
    save_classifier(folder, network, image_size=(size, size), mean=half, std=half)
    return folder


def refused(result: tuple[int, str], tmp_path: Path, *words: str, status: int = 1) -> None:
    assert result[0] == status, result
    for word in words:
        assert word in result[1], (word, result[1])
    assert "Traceback" not in result[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stage", "make", "words"),
    [
        (DISTIL, lambda f: denoiser(f, size=16), ("1 channel(s), 16x16 pixels", "1 channel(s), 8x8 pixels")),
        (DISTIL, lambda f: denoiser(f, channels=3), ("3 channel(s), 8x8 pixels", "1 channel(s), 8x8 pixels")),
        (FINETUNE, lambda f: denoiser(f, "consistency", size=16), ("models.parent", "16x16")),
        (CLASSIFIER, lambda f: classifier(f, size=16), ("models.parent", "16x16")),
        (CLASSIFIER, lambda f: classifier(f, channels=3), ("3 channel(s)",)),
        (CLASSIFIER, lambda f: classifier(f, classes=7), ("start of classifier is models.parent", "7 classes", "10")),
        (
            {"stage": "consistency", "teacher": None, "method": "training", "perceptual": "parent", "sigma_max": 2.0},
            lambda f: classifier(f, mean=None),
            ("perceptual of consistency is models.parent", "kind directory with mean None and std None", "0.5"),
        ),
        (DISTIL, classifier, ("teacher of consistency is models.parent", "a classifier; it must be an EDM denoiser")),
        (DISTIL, lambda f: denoiser(f, "consistency"), ("a consistency model; it must be an EDM denoiser",)),
        (FINETUNE, denoiser, ("start of finetune", "an EDM denoiser; it must be a consistency model")),
        (FINETUNE, lambda f: denoiser(f, "ddpm"), ("a DDPM denoiser; it must be a consistency model",)),
        (CLASSIFIER, denoiser, ("start of classifier", "an EDM denoiser; it must be a classifier")),
        (
            {"stage": "classifier", "noise_sigma": 0.2, "purifier": "parent"}, classifier,
            ("purifier of classifier", "it must be an EDM denoiser or a consistency model or a DDPM denoiser"),
        ),
        (DISTIL, of_classes, ("models.parent.path: ", "one of 5 classes", "raycp weights convert --unconditional")),
        (DISTIL, lambda f: f, ("models.parent.path: there is no directory",)),
    ],
)  # fmt: skip
def test_parents_that_do_not_fit(
    train: Run, tmp_path: Path, stage: dict[str, Any], make: Callable[[Path], Path], words: tuple[str, ...]
) -> None:
    refused(train(stage, parent=make(tmp_path / "parent")), tmp_path, *words)


@pytest.mark.parametrize(
    ("stages", "make", "words"),
    [
        (
            [{"stage": "classifier"}, {"stage": "calibrate", "start": "parent"}], lambda f: denoiser(f, "ddpm"),
            ("start of calibrate", "a DDPM denoiser; it must be an EDM denoiser or a consistency model"),
        ),
        (
            [{"stage": "classifier"}, {"stage": "calibrate", "start": "parent"}],
            lambda f: denoiser(f, "consistency"), ("sigmas of calibrate has 1, 2 in [-1,1] units",),
        ),
        (
            [{"stage": "denoiser"}, {"stage": "calibrate", "classifier": "parent"}],
            lambda f: classifier(f, classes=7), ("classifier of calibrate is models.parent", "7 classes", "10"),
        ),
    ],
)  # fmt: skip
def test_parents_of_a_calibration_that_do_not_fit(
    train: Run, tmp_path: Path, stages: list[Any], make: Callable[[Path], Path], words: tuple[str, ...]
) -> None:
    refused(train(*stages, parent=make(tmp_path / "parent")), tmp_path, *words)


def test_a_parent_may_be_named_by_a_uri(train: Run, tmp_path: Path) -> None:
    parent = denoiser(tmp_path / "parent", size=16)
    refused(
        train(DISTIL, models={"parent": {"path": parent.as_uri()}}), tmp_path, "models.parent", "16x16 pixels"
    )
    missing = (tmp_path / "nowhere").as_uri()
    refused(train(DISTIL, models={"parent": {"path": missing}}), tmp_path, "models.parent.path: ", "nowhere")


def test_the_perceptual_classifier_may_have_other_classes_but_not_another_resolution(
    train: Run, tmp_path: Path
) -> None:
    stage = {
        "stage": "consistency",
        "teacher": None,
        "method": "training",
        "perceptual": "parent",
        "sigma_max": 2.0,
    }
    with pytest.raises(AssertionError, match="Ray was started"):
        train(stage, parent=classifier(tmp_path / "seven", classes=7))
    (tmp_path / "run" / "train.json").unlink()
    message = train(stage, parent=classifier(tmp_path / "large", size=16))
    assert message[0] == 1 and "16x16" in message[1]


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({**FINETUNE, "sigmas": [0.25, 0.6]}, "sigmas of finetune has 0.6, 1.2 in [-1,1] units"),
        (
            {"stage": "classifier", "noise_sigma": 0.04, "purifier": "parent"},
            "noise_sigma of classifier has 0.04, 0.08 in [-1,1] units",
        ),
    ],
)
def test_noise_levels_outside_the_grid_of_a_parent(
    train: Run, tmp_path: Path, stage: dict[str, Any], words: str
) -> None:
    result = train(stage, parent=denoiser(tmp_path / "parent", "consistency"))
    allowed = "outside 0.1 to 1, the noise that"
    refused(result, tmp_path, words, allowed, "allowed are 0.05 to 0.5")


def test_more_noise_than_a_published_ddpm_has(train: Run, tmp_path: Path) -> None:
    """Its largest is that of the last step: here of diffusers' default, 1,000 linear steps."""
    stage = {"stage": "classifier", "noise_sigma": 80.0, "purifier": "parent"}
    result = train(stage, parent=denoiser(tmp_path / "parent", "ddpm"))
    refused(
        result, tmp_path, "noise_sigma of classifier has 80, 160 in [-1,1] units", "allowed are", "to 78.7036"
    )


def test_validation_levels_outside_the_grid_of_a_parent(train: Run, tmp_path: Path) -> None:
    parent = denoiser(tmp_path / "parent", "consistency")
    stage = {**FINETUNE, "sigmas": [0.25]}
    levels = {"validation": VALIDATION, "validation_sigmas": [0.25, 1.0]}
    refused(train(stage, parent=parent, **levels), tmp_path, "validation_sigmas has 1, 2 in [-1,1] units")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(train: Run, tmp_path: Path, value: float) -> None:
    parent = denoiser(tmp_path / "parent")
    file = parent / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.bias"][1] = value
    save_file(tensors, file)
    result = train(DISTIL, parent=parent)
    refused(result, tmp_path, "models.parent.path: 1 of", "hold NaN or infinite weights, first conv_in.bias")


def test_validation_images_of_another_kind(train: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape, largest in (("large", (6, 16, 16), 9), ("more", (6, 8, 8), 11)):
        labels = np.arange(largest - 5, largest + 1)
        np.savez(tmp_path / name, images=rng.integers(0, 256, shape, dtype=np.uint8), labels=labels)
    stage = {"stage": "classifier"}
    result = train(stage, validation={"name": "npz", "path": str(tmp_path / "large.npz")})
    refused(result, tmp_path, "validation: the images are 1 channel(s), 16x16 pixels", "8x8")
    result = train(stage, validation={"name": "npz", "path": str(tmp_path / "more.npz")})
    refused(result, tmp_path, "validation: there is an image of class 11", "classes 0 to 9 only")


def test_images_that_a_new_network_cannot_take(train: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "ones.npz", images=np.zeros((6, 6, 6), np.uint8), labels=np.zeros(6, np.int64))
    data = {"name": "npz", "path": str(tmp_path / "ones.npz")}
    shape = {"block_out_channels": [8, 8, 8]}
    refused(
        train({"stage": "denoiser", **shape}, data=data),
        tmp_path,
        "block_out_channels of denoiser",
        "multiples of 4",
    )
    refused(train({"stage": "classifier"}, data=data), tmp_path, "at least 2 classes, got 1")


def test_a_batch_that_workers_do_not_share_evenly(train: Run, tmp_path: Path) -> None:
    result = train({"stage": "classifier", "batch_size": 10}, engine={"workers": 4})
    refused(
        result, tmp_path, "batch_size of classifier, 10, must be a multiple of engine.workers, 4", status=2
    )


def test_an_unwritable_run_directory(train: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = train({"stage": "classifier"}, out=str(tmp_path / "file" / "run"))
    refused(
        result, tmp_path, f"cannot lock {tmp_path / 'file' / 'run'}", "check the path and its permissions"
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_directory_of_another_configuration(train: Run, tmp_path: Path) -> None:
    stage = {"stage": "classifier"}
    with pytest.raises(AssertionError, match="Ray was started"):
        train(stage)
    recorded = (tmp_path / "run" / "train.json").read_bytes()
    status, message = train({**stage, "learning_rate": 0.5})
    assert status == 1 and "holds a training with another configuration" in message
    assert "learning_rate" in message and "Take another --out" in message
    assert (tmp_path / "run" / "train.json").read_bytes() == recorded
    with pytest.raises(AssertionError, match="Ray was started"):  # where it runs is no part of it
        train(stage, engine={"workers": 1})


def test_a_missing_or_broken_backbone(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(weights=None).state_dict()
    state["features.0.weight"].fill_(torch.nan)
    broken = str(tmp_path / "broken.pth")
    torch.save(state, broken)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=images, labels=np.arange(6))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "cache" / "hub"))
    stage = {"stage": "consistency", "teacher": None, "method": "training", "sigma_max": 2.0}
    for weights, words in (
        ("nowhere.pth", "stages.0.perceptual.weights: there is no file nowhere.pth"),
        (broken, f"stages.0.perceptual.weights: {broken}: features.0.weight holds NaN or infinite weights"),
        (None, "squeezenet1_1-b8a52dc0.pth"),
    ):
        perceptual = {"net": "squeeze", "weights": weights, "resize": None}
        result = train(
            {**stage, "perceptual": perceptual}, data={"name": "npz", "path": str(tmp_path / "colour.npz")}
        )
        refused(result, tmp_path, words)


def test_classifiers_of_other_kinds_that_do_not_fit(train: Run, tmp_path: Path) -> None:
    """Each named by its key, before anything starts; one that fits gets as far as Ray."""
    labels = np.arange(8) % CLASSES
    images = np.zeros((8, SIDE, SIDE, 3), np.uint8)
    np.savez(tmp_path / "images", images=images, labels=labels)
    np.savez(tmp_path / "more", images=images, labels=np.arange(8))
    data = {"name": "npz", "path": str(tmp_path / "images.npz")}
    vit, resnet = section("transformers", tmp_path), section("cifar_resnet", tmp_path)

    def message(
        model: dict[str, Any], *words: str, stage: dict[str, Any] = CLASSIFIER, **sections: Any
    ) -> None:
        result = train(stage, **{"models": {"parent": model}, "data": data} | sections)
        refused(result, tmp_path, *words)

    more = {"name": "npz", "path": str(tmp_path / "more.npz")}
    message(vit, "start of classifier is models.parent", "with 4 classes", "have 8", data=more)
    message(
        {**vit, "resize": {"size": 32}}, "models.parent", "does not take the training images (data)", "24"
    )
    message(resnet, "models.parent", "take", "1 channel(s)", data={"name": "digits"})
    message({**vit, "path": str(tmp_path / "gone")}, "models.parent: ", f"no directory {tmp_path / 'gone'}")
    message({**resnet, "weights": str(tmp_path / "gone.th")}, "models.parent: ", "gone.th")
    backbone = {**DISTIL, "teacher": None, "method": "training", "loss": "lpips", "perceptual": "parent"}
    message(
        vit, "perceptual of consistency is models.parent", "a classifier of kind transformers", stage=backbone
    )
    message(vit, "it must be an EDM denoiser", stage=DISTIL)
    several = {"kind": "python", "factory": "tiny_classifiers:with_auxiliary_output", "num_classes": CLASSES}
    message(several, "models.parent (of kind python), whose network returns a tuple in train mode")
    with pytest.raises(AssertionError, match="Ray was started"):
        train(CLASSIFIER, models={"parent": vit}, data=data)


def test_a_classifier_tuned_before_has_no_features_either(train: Run, tmp_path: Path) -> None:
    """The network of a stage that `perceptual` names is the one that the stage starts from."""
    np.savez(
        tmp_path / "images", images=np.zeros((8, SIDE, SIDE, 3), np.uint8), labels=np.arange(8) % CLASSES
    )
    stages = [
        {**CLASSIFIER, "name": "tuned"},
        {**DISTIL, "teacher": None, "method": "training", "loss": "lpips", "perceptual": "tuned"},
    ]
    data = {"name": "npz", "path": str(tmp_path / "images.npz")}
    result = train(*stages, data=data, models={"parent": section("cifar_resnet", tmp_path)})
    refused(result, tmp_path, "perceptual of consistency", "kind cifar_resnet")

"""What a user may get wrong, through the command itself: each with its message and its exit status."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from raycp.cli.main import main
from raycp.config.data import DigitsData
from raycp.data import load_images
from raycp.models import ResidualClassifier, save_classifier

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A classifier directory for grey 8x8 images and ten classes."""
    torch.manual_seed(0)
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    save_classifier(tmp_path / "classifier", network, image_size=(8, 8))
    return tmp_path / "classifier"


@pytest.fixture
def certify(
    tmp_path: Path, classifier: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `raycp certify` in this process on a small configuration; returns the exit status and stderr."""

    def run(*arguments: str, kind: str = "certify", **sections: Any) -> tuple[int, str]:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "select": {"count": 3}},
            "purifier": {"kind": "none"},
            "classifier": {"kind": "directory", "path": str(classifier)},
            "certify": {"num_estimation": 100, "num_selection": 10},
            "numerics": {"batch_size": 32},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw | sections))
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["raycp", kind, str(path), *out, *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("certify.alhpa=0.1", "certify.alhpa is not a known key; did you mean certify.alpha?"),
        ("certify.sigmas=[0.25, -1]", "certify.sigmas.1 must be greater than 0, got -1"),
        ("certify.sigmas=[0]", "certify.sigmas.0 must be greater than 0, got 0"),
        ("certify.sigmas=[]", "certify.sigmas"),
        ("certify.sigmas=[.5, .5]", "sigmas must not repeat a value"),
        ("certify.alpha=0", "certify.alpha must be greater than 0, got 0"),
        ("certify.alpha=1.0", "certify.alpha must be less than 1, got 1.0"),
        ("certify.alpha=often", "certify.alpha"),
        ("certify.num_selection=0", "certify.num_selection must be at least 1, got 0"),
        ("certify.num_estimation=-5", "certify.num_estimation must be at least 1, got -5"),
        ("certify.bound=best", "certify.bound must be one of 'one_sided' or 'two_class', got 'best'"),
        ("data.name=cifar11", "data.name must be one of"),
        ("certify.radii=[3.0]", "certify.radii contains 3, but certify.num_estimation = 100"),
        ("certify.num_estimation=5", "it must be at least 10"),
        ("certify", "--set takes dotted.key=value, got 'certify'"),
        ("engine.address=nowhere:port", "engine.address must be auto or host:port, got 'nowhere:port'"),
    ],
)
def test_configuration_values(certify: Run, override: str, message: str) -> None:
    status, text = certify("--set", override)
    assert status == (1 if "address" in override else 2), text
    assert message.lower() in text.lower()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bound=two_class"], "bound: two_class goes with rule: fixed alone"),
        (
            ["sequential.looks=[50, 20, 100]"],
            "certify.sequential.looks must increase and end at certify.num_estimation",
        ),
        (
            ["sequential.looks=[20, 50]"],
            "must increase and end at certify.num_estimation = 100, got [20, 50]",
        ),
        (["sequential.looks=[]"], "certify.sequential.looks"),
        (["sequential.growth=1"], "certify.sequential.growth must be greater than 1, got 1"),
        (["sequential.last_share=1.5"], "certify.sequential.last_share must be at most 1, got 1.5"),
        (["radii=[3.0]"], "certify.radii contains 3, but certify.num_estimation = 100"),
        (["num_estimation=5"], "It must be at least 10."),
        (["rule=e_process", "num_estimation=5"], "It must be at least 12."),
        (["rule=e_process", "sequential.looks=[100]"], "sequential.looks must be null with rule: e_process"),
        (["rule=sequential"], "certify.rule must be one of"),
        (["alpha=1e-10"], "alpha must be at least 1e-09 with rule: decide"),
    ],
)
def test_sequential_rules(certify: Run, overrides: list[str], message: str) -> None:
    arguments = [
        part for override in ["rule=decide", *overrides] for part in ("--set", f"certify.{override}")
    ]
    status, text = certify(*arguments)
    assert status == 2, text
    assert message in text


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget-samples", "0", "must be at least 1, got 0."),
        ("--budget-samples", "-3", "must be at least 1, got -3."),
        ("--budget-hours", "0", "must be above 0, got 0."),
        ("--budget-hours", "nan", "must be above 0, got nan."),
    ],
)
def test_budgets(certify: Run, option: str, value: str, message: str) -> None:
    status, text = certify(option, value)
    assert status == 2
    assert option in text and message in text


def test_default_radii_beyond_reach_are_dropped_with_a_line(certify: Run) -> None:
    status, text = certify("--dry-run", "--set", "certify.sigmas=[0.25]")
    assert status == 0
    assert "radii 0.5, 0.75, 1 are left out of the table: N = 100 cannot certify them" in text


def test_missing_configuration(certify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["raycp", "certify", str(tmp_path / "no.yaml"), "--out", "x"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_missing_weights(certify: Run, classifier: Path) -> None:
    (classifier / "model.safetensors").unlink()
    status, text = certify()
    assert status == 1
    assert f"{classifier}/model.safetensors" in text


def test_truncated_weights(certify: Run, classifier: Path) -> None:
    file = classifier / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    status, text = certify()
    assert status == 1
    assert str(file) in text


def test_weights_of_another_network(certify: Run, classifier: Path) -> None:
    description = json.loads((classifier / "config.json").read_text())
    description["architecture"]["widths"] = [16]
    (classifier / "config.json").write_text(json.dumps(description))
    status, text = certify()
    assert status == 1
    assert "of another shape" in text


def test_wrong_channels(certify: Run, tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=images, labels=np.zeros(4, dtype=np.int64))
    status, text = certify(data={"name": "npz", "path": str(tmp_path / "colour.npz")})
    assert status == 1
    assert "the images are 3x8x8" in text
    assert "takes 1" in text


def test_wrong_number_of_classes(certify: Run, tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", images=images, labels=np.array([0, 1, 12, 2]))
    status, text = certify(data={"name": "npz", "path": str(tmp_path / "many.npz")})
    assert status == 1
    assert "image 2 of" in text
    assert "has label 12, but the classifier has 10 classes" in text


class Exploit:
    """Would create a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (os.mkdir, (str(self.target),))


def test_weights_that_would_run_code(certify: Run, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    file = tmp_path / "weights.pt"
    torch.save({"state_dict": Exploit(target)}, file)
    status, text = certify(
        classifier={
            "kind": "timm",
            "name": "resnet18",
            "num_classes": 10,
            "in_channels": 1,
            "weights": str(file),
        }
    )
    assert status == 1
    assert str(file) in text
    assert "mkdir" in text
    assert not target.exists()


def test_cifar_pickle_that_would_run_code(certify: Run, tmp_path: Path) -> None:
    target = tmp_path / "owned"
    (tmp_path / "test_batch").write_bytes(
        pickle.dumps({b"data": Exploit(target), b"labels": [1]}, protocol=2)
    )
    status, text = certify(data={"name": "cifar10", "path": str(tmp_path)})
    assert status == 1
    assert "test_batch" in text
    assert "mkdir" in text
    assert not target.exists()


def test_corrupt_parquet(certify: Run, tmp_path: Path) -> None:
    file = tmp_path / "test.parquet"
    file.write_bytes(b"PAR1 and then something else")
    status, text = certify(data={"name": "parquet", "path": str(file)})
    assert status == 1
    assert str(file) in text


@pytest.mark.parametrize(
    ("value", "message"),
    [(1.5, "1.5"), (-0.25, "-0.25"), (float("nan"), "nan"), (0.5, "which is not on the grid k/255")],
)
def test_pixels_outside_the_range_or_the_grid(
    certify: Run, tmp_path: Path, value: float, message: str
) -> None:
    images = np.zeros((4, 8, 8), dtype=np.float32)
    images[2, 3, 5] = value
    np.savez(tmp_path / "odd.npz", images=images, labels=np.zeros(4, dtype=np.int64))
    status, text = certify(data={"name": "npz", "path": str(tmp_path / "odd.npz")})
    assert status == 1
    assert "image 2" in text
    assert message in text


def test_nan_in_the_weights(certify: Run, tmp_path: Path) -> None:
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    save_classifier(tmp_path / "nan", network, image_size=(8, 8))
    status, text = certify(classifier={"kind": "directory", "path": str(tmp_path / "nan")})
    assert status == 1
    assert "NaN or infinite logits" in text


def test_unreachable_address(certify: Run) -> None:
    status, text = certify("--address", "127.0.0.1:9")
    assert status == 1
    assert "cannot reach the Ray cluster at '127.0.0.1:9'" in text
    assert "resume with: raycp certify" in text


def test_a_folder_that_is_no_run(certify: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    status, text = certify("--out", str(tmp_path / "photos"))
    assert status == 1
    assert "is not empty and holds no config.json" in text


def test_an_image_selection_that_is_empty(certify: Run) -> None:
    status, text = certify(data={"name": "digits", "select": {"indices": [1, 5_000]}})
    assert status == 1
    assert "5000" in text
    assert "360" in text


def test_the_digits_are_what_they_seem() -> None:
    """The embedded data set: 360 held-out images of 1,797, quantised to round(255 k / 16)."""
    images = load_images(DigitsData(name="digits"))
    assert images.images.shape == (360, 1, 8, 8)
    assert set(np.unique(images.images)) <= {round(255 * k / 16) for k in range(17)}

"""A composition on the command line: its plan, and what a user may get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raycp.models import ResidualClassifier, save_classifier

Raycp = Callable[..., tuple[int, str, str]]
Certify = Callable[..., tuple[int, str, str]]


def save(path: Path, num_classes: int, in_channels: int = 1, broken: bool = False) -> dict[str, Any]:
    """A classifier directory for 8x8 images, as a section of a configuration."""
    torch.manual_seed(num_classes)
    network = ResidualClassifier(num_classes, in_channels=in_channels, widths=(8,), blocks=1, groups=2)
    if broken:
        next(network.parameters()).data.fill_(torch.nan)
    save_classifier(path, network, image_size=(8, 8))
    return {"kind": "directory", "path": str(path)}


@pytest.fixture
def certify(raycp: Raycp, tmp_path: Path) -> Certify:
    """`raycp certify --dry-run`, or another command, on a small configuration; status, stdout, stderr."""

    def run(
        *arguments: str, command: str = "certify", dry_run: bool = True, **sections: Any
    ) -> tuple[int, str, str]:
        raw = {
            "data": {"name": "digits", "select": {"count": 3}},
            "purifier": {"kind": "none"},
            "classifier": save(tmp_path / "classifier", 10),
            "composition": {"threshold": 0.5, "core": save(tmp_path / "core", 10)},
            "certify": {"sigmas": [0.25, 0.5], "num_estimation": 100, "num_selection": 10},
            "numerics": {"batch_size": 32},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw | sections))
        options = ["--out", tmp_path / "run", "--dry-run"] if dry_run else []
        return raycp(command, path, *options, *arguments)

    return run


@pytest.mark.parametrize("command", ["certify", "predict"])
def test_the_plan_tells_what_the_core_costs(certify: Certify, command: str) -> None:
    status, text, _ = certify("--set", "predict.num_samples=110", command=command)
    assert status == 0
    lines = {line[:12].strip(): line[13:] for line in text.splitlines()}
    assert lines["threshold"].startswith("0.5 log K")
    assert lines["core"].startswith("directory, ") and lines["sees itself"] == "the image as it is"
    assert "once per image and sigma: 6 times" in lines["core's cost"]
    assert lines["samples"] == "660"  # noisy ones: 3 images, 2 sigmas, 110


def test_a_run_without_composition_has_no_such_lines(certify: Certify) -> None:
    status, text, _ = certify(composition=None)
    assert status == 0 and "core" not in text and "threshold" not in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("composition.threshold=1.5", "composition.threshold must be at most 1, got 1.5."),
        ("composition.threshold=-0.1", "composition.threshold must be at least 0, got -0.1."),
        ("composition.threshold=high", "composition.threshold"),
        ("composition.treshold=0.5", "composition.treshold is not a known key; did you mean composition.threshold?"),
        ("composition.core=null", "composition.core"),
        ("composition.core.kind=resnet", "composition.core.kind must be one of"),
        ("certify.rule=decide", "certify.rule must be fixed with a composition, got decide"),
        ("certify.rule=e_process", "certify.rule must be fixed with a composition, got e_process"),
        ("certify.bound=two_class", "certify.bound must be one_sided with a composition, got two_class"),
        (
            "certify.num_estimation=10",
            "at certify.alpha = 0.001 (half of it for selector and classifier each): even 10 equal votes leave p_A "
            "below 1/2. It must be at least 11.",
        ),
        ("certify.radii=[3.0]", "certify.num_estimation = 100 at certify.alpha = 0.001 (half of it for selector and"),
    ],
)  # fmt: skip
def test_values(certify: Certify, override: str, message: str) -> None:
    status, _, text = certify("--set", override)
    assert status == 2, text
    assert message in text


def test_a_core_of_other_classes(certify: Certify, tmp_path: Path) -> None:
    core = save(tmp_path / "hundred", 100)
    status, _, text = certify(composition={"threshold": 0.5, "core": core})
    assert status == 1, text
    assert "composition.core has 100 classes and classifier 10" in text


def test_cores_that_do_not_fit(certify: Certify, tmp_path: Path) -> None:
    for core, message in (
        (
            save(tmp_path / "colour", 10, in_channels=3),
            "composition.core (in_channels, mean and std) takes 3",
        ),
        (save(tmp_path / "nan", 10, broken=True), "composition.core returns NaN or infinite logits"),
    ):
        status, _, text = certify(composition={"threshold": 0.5, "core": core})
        assert status == 1, text
        assert message in text


def test_a_core_that_is_not_there(certify: Certify) -> None:
    core = {"kind": "directory", "path": "runs/some/models/classifier"}
    status, _, text = certify(composition={"threshold": 0.5, "core": core})
    assert status == 1
    assert "composition.core.path: runs/some/models/classifier" in text
    assert "raycp train CONFIG --out runs/some" in text


def test_plan_refuses(certify: Certify, tmp_path: Path) -> None:
    log = tmp_path / "sigma0.50.tsv"
    log.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.5\t1\t0:00:01.0\n")
    status, _, text = certify("--like", str(log), "--sigma", "0.5", command="plan", dry_run=False)
    assert status == 2, text
    assert "not that of a composition, which has a fixed number of samples" in text

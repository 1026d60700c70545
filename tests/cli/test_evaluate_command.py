"""`raycp evaluate` and `raycp show` of evaluations: plans, messages, exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from raycp.cli.main import main
from raycp.models import ResidualClassifier, save_classifier
from raycp.runs.evaluation import write_evaluation
from raycp.storage import Storage

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def raycp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a small configuration in this process; exit status, stdout, stderr."""
    torch.manual_seed(0)
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    save_classifier(tmp_path / "classifier", network, image_size=(8, 8))

    def run(*arguments: str, **sections: Any) -> tuple[int, str, str]:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "select": {"count": 12}},
            "purifier": {"kind": "none"},
            "classifier": {"kind": "directory", "path": str(tmp_path / "classifier")},
            "certify": {"sigmas": [0.25]},
            "numerics": {"batch_size": 32},
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw | sections))
        words = [word.format(config=path, out=tmp_path / "run") for word in arguments]
        monkeypatch.setattr(sys, "argv", ["raycp", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


EVALUATE = ("evaluate", "{config}", "--out", "{out}")


def test_a_dry_run_says_what_will_be_measured(raycp: Run, tmp_path: Path) -> None:
    code, out, _ = raycp(*EVALUATE, "--dry-run", evaluate={"features": {"kind": "classifier"}, "draws": 5})
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["samples"] == "72: the clean images, and 5 of each at each sigma"
    assert rows["FID"].startswith("directory classifier, 8 features, ")
    assert rows["LPIPS"] == "none (evaluate.perceptual)"
    assert rows["transport"] == "optimal between 12 images (evaluate.transport_images)"
    assert not (tmp_path / "run").exists()


def test_a_fid_of_few_images_is_refused(raycp: Run) -> None:
    code, _, err = raycp(
        *EVALUATE,
        data={"name": "digits", "select": {"count": 8}},
        evaluate={"features": {"kind": "classifier"}},
    )
    assert code == 2
    assert (
        "a FID in 8 features needs more images than features, got 8 (data.select, or evaluate.select)" in err
    )
    assert "set evaluate.features to null" in err


def test_an_inception_file_that_is_none(raycp: Run, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(10, 2)}, tmp_path / "other.pth")
    features = {"kind": "inception", "weights": str(tmp_path / "other.pth")}
    code, _, err = raycp(*EVALUATE, evaluate={"features": features})
    assert code == 1
    assert "evaluate.features.weights: " in err
    assert "fc.weight is (10, 2) in the file and (1008, 2048) in the network" in err


def test_absent_files_of_the_metrics_matter_to_evaluate_alone(raycp: Run) -> None:
    evaluate = {
        "features": {"kind": "inception", "weights": "absent.pth"},
        "perceptual": {"net": "vgg", "weights": "no.pth"},
    }
    code, _, err = raycp(*EVALUATE, evaluate=evaluate)
    assert code == 1
    assert "absent.pth" in err
    code, _, _ = raycp("certify", "{config}", "--out", "{out}", "--dry-run", evaluate=evaluate)
    assert code == 0


def test_images_that_lpips_cannot_see(raycp: Run, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "squeeze.pth")
    perceptual = {"net": "squeeze", "weights": str(tmp_path / "squeeze.pth"), "resize": None}
    code, _, err = raycp(*EVALUATE, evaluate={"perceptual": perceptual})
    assert code == 1
    assert "8x8 pixels are too small for the backbone squeeze" in err


def test_networks_of_the_metrics_that_are_not_finite(raycp: Run, tmp_path: Path) -> None:
    """Named with the file and the tensor, where that is read for the metric alone."""
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(weights=None).state_dict()
    state["classifier.1.weight"].fill_(torch.nan)  # is not read
    state["features.0.bias"][3] = torch.inf
    file = tmp_path / "squeeze.pth"
    torch.save(state, file)
    code, _, err = raycp(*EVALUATE, evaluate={"perceptual": {"net": "squeeze", "weights": str(file)}})
    assert code == 1
    assert (
        f"evaluate.perceptual.weights: {file}: features.0.bias holds NaN or infinite weights. Wanted are torchvision's"
        in err
    )
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    save_classifier(tmp_path / "broken", network, image_size=(8, 8))
    features = {"kind": "classifier", "classifier": {"kind": "directory", "path": str(tmp_path / "broken")}}
    code, _, err = raycp(*EVALUATE, evaluate={"features": features})
    assert code == 1
    assert "evaluate.features: the network's features of the first image are NaN or infinite" in err


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"draws": 0}, "evaluate.draws must be at least 1, got 0"),
        ({"feature": None}, "evaluate.feature is not a known key; did you mean evaluate.features?"),
        (
            {"features": {"kind": "clip"}},
            "evaluate.features.kind must be one of 'inception', 'classifier', got 'clip'",
        ),
        ({"features": {"kind": "inception"}}, "evaluate.features.weights is required"),
        ({"transport_images": 100_000}, "evaluate.transport_images must be at most 5000, got 100000"),
    ],
)
def test_bad_values(raycp: Run, section: dict[str, Any], message: str) -> None:
    code, _, err = raycp(*EVALUATE, evaluate=section)
    assert code == 2
    assert message in err


def write(folder: Path, **content: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"fingerprint": "f", "config": {}, "data": {}} | content))
    return folder


def test_show_of_an_evaluation_without_result(raycp: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "begun", kind="evaluate")
    code, _, err = raycp("show", str(folder))
    assert code == 1
    assert "has no evaluation.parquet yet; run `raycp evaluate` with --out" in err
    (folder / "evaluation.parquet").write_bytes(b"nothing")
    code, _, err = raycp("show", str(folder))
    assert code == 1
    assert "evaluation.parquet is damaged" in err


def test_show_mixes_no_kinds(raycp: Run, tmp_path: Path) -> None:
    evaluation, run = write(tmp_path / "e", kind="evaluate"), write(tmp_path / "r", kind="certify")
    code, _, err = raycp("show", str(evaluation), str(run))
    assert code == 2
    assert f"{run} holds no evaluation, the others do" in err
    code, _, err = raycp("report", str(evaluation))
    assert code == 1
    assert "holds an evaluation, not a certification: `raycp show" in err


def result(folder: Path, l2: list[float]) -> Path:
    """A finished evaluation of four images at one sigma, without FID and LPIPS."""
    manifest = {
        "kind": "evaluate",
        "fingerprint": "f",
        "config": {
            "evaluate": {"draws": 1, "bootstrap": 100, "confidence": 0.9},
            "certify": {"sigmas": [0.25], "seed": 0, "noise": "sound"},
        },
        "data": {"sha256": "d", "image_index": [0, 1, 2, 3]},
        "weights": {"features": None, "perceptual": None},
        "networks": {"features": "", "perceptual": ""},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(manifest))
    nothing = [np.nan] * 8
    columns: dict[str, Any] = {
        "sigma": [0.0] * 4 + [0.25] * 4,
        "image_index": [0, 1, 2, 3] * 2,
        "label": [5] * 8,
        "correct": [1.0] * 8,
        "l2": [np.nan] * 4 + l2,
        "squared_l2": [np.nan] * 4 + [value**2 for value in l2],
        **dict.fromkeys(("lpips", "fid_term", "optimal_transport_term"), nothing),
        "numerics": ["cpu"] * 8,
    }
    write_evaluation(Storage(str(folder)), manifest, columns)
    return folder


def test_show_prints_evaluations_and_their_differences(raycp: Run, tmp_path: Path) -> None:
    a, b = result(tmp_path / "a", [1.0, 2.0, 3.0, 4.0]), result(tmp_path / "b", [1.5, 2.5, 3.5, 4.5])
    code, out, err = raycp("show", str(a), str(b))
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["evaluation", "sigma"], ["a", "clean"], ["a", "0.25"], ["b", "clean"], ["b", "0.25"],
    ]  # fmt: skip
    assert out.splitlines()[0].split()[2:] == ["accuracy", "transport", "squared_l2"]
    assert "90% bootstrap intervals over images, 100 samples, each by itself; 4 images, 1 draw of each" in err
    code, out, _ = raycp("show", "--paired", str(a), str(b))
    assert code == 0
    assert "+0.5 [+0.5, +0.5]" in out
    code, out, _ = raycp("show", "--format", "json", str(a))
    transport = next(row for row in json.loads(out) if row["metric"] == "transport")
    assert (transport["value"], transport["images"], transport["unit"]) == (2.5, 4, "pixel units")
    code, _, err = raycp("show", "--paired", str(a))
    assert code == 2
    code, _, err = raycp("show", "--paired", "--joint", str(a), str(b))
    assert code == 2
    assert "is for certified accuracies" in err

"""`raycp weights check`: every recorded output of every fixture, and what is not as it should be."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from raycp.models.cifar_resnet import CifarResNet

Run = Callable[..., tuple[int, str, str]]
FOLDERS = {
    "openai-consistency-pt": 4, "improved-diffusion-pt": 7, "jcm-flax-msgpack": 4, "edm": 11,
    "diffusers-consistency": 8, "diffusers-ddpm": 5, "hf-vit-classifier": 4, "cifar-resnet-th": 2,
}  # fmt: skip
"""Outputs that each records: all its tensors but the inputs."""


@pytest.fixture
def run(raycp: Run) -> Run:
    """`raycp weights check`: arguments to exit status, stdout and stderr."""
    return partial(raycp, "weights", "check")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fixture of a small residual network, as `cifar-resnet-th` is one."""
    folder = tmp_path / "small"
    folder.mkdir()
    torch.manual_seed(0)
    network = CifarResNet(4, 4, 1).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, folder / "net.th")
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = network((images / 255 - mean[:, None, None]) / std[:, None, None])
    tensors = {"images_uint8": images, "logits": logits, "predicted_class": logits.argmax(dim=1)}
    content = {
        "name": "small",
        "format": "torch.save of a training checkpoint",
        "source": {"repository": "https://github.com/akamaster/pytorch_resnet_cifar10"},
        "checkpoint": {
            "file": "net.th",
            "sha256": hashlib.sha256((folder / "net.th").read_bytes()).hexdigest(),
        },
        "precision": {"tolerance_max_abs": {"logits": "1e-4", "predicted_class": 0}},
        "io": {
            "file": "io.safetensors",
            "tensors": {name: described(tensor) for name, tensor in tensors.items()},
        },
    }
    save_file(tensors, folder / "io.safetensors")
    (folder / "fixture.json").write_text(json.dumps(content))
    return folder


def described(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def edit(folder: Path, key: str, value: Any) -> None:
    """Set an entry of fixture.json, by its dotted path; None takes it out."""
    content = json.loads((folder / "fixture.json").read_text())
    *parents, last = key.split(".")
    inner = content
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    if value is None:
        del inner[last]
    (folder / "fixture.json").write_text(json.dumps(content))


def record(folder: Path, **tensors: Tensor) -> None:
    """Put other tensors into the record."""
    save_file(load_file(folder / "io.safetensors") | tensors, folder / "io.safetensors")


def test_every_output_of_every_fixture(run: Run, shared_data: Path) -> None:
    folders = sorted(path.parent for path in (shared_data / "parity").glob("*/fixture.json"))
    assert {path.name for path in folders} == set(FOLDERS)
    status, out, _ = run(*folders, "--format", "json")
    rows = json.loads(out)
    assert [row for row in rows if row["verdict"] != "ok"] == [] and status == 0
    counted = {name: sum(row["fixture"].split("/")[0] == name for row in rows) for name in FOLDERS}
    assert counted == FOLDERS
    assert all(row["error"] <= 5e-4 for row in rows if row["output"] != "denoised_attention_fp16")
    exact = {row["output"] for row in rows if row["tolerance"] == "0"}
    assert exact == {"t", "predicted_class"}
    assert {row["fixture"].split("/")[1] for row in rows if "/" in row["fixture"]} == {
        "ddpmpp", "ncsnpp", "adm", "adm-multihead",
    }  # fmt: skip


def test_the_table(run: Run, folder: Path) -> None:
    status, out, err = run(folder)
    heading, logits, predicted, last = out.splitlines()
    assert status == 0
    assert heading == "fixture  output           largest abs. error  tolerance  verdict"
    assert logits.startswith("small    logits           ") and logits.endswith("  0.0001     ok")
    assert predicted.split() == ["small", "predicted_class", "0.0e+00", "0", "ok"]
    assert last == "all 2 outputs are within the tolerance"
    assert err == "small: inputs, compared with nothing: images_uint8\n"
    status, out, _ = run(folder, folder, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and [row["output"] for row in rows] == ["logits", "predicted_class"] * 2
    assert 0 <= float(rows[0]["error"]) < 1e-4


def test_an_output_outside_of_the_tolerance(run: Run, folder: Path) -> None:
    logits = load_file(folder / "io.safetensors")["logits"]
    for change, error in ((2e-4, "2.0e-04"), (float("nan"), "-"), (float("inf"), "-")):
        changed = logits.clone()
        changed[2, 3] += change
        record(folder, logits=changed)
        status, out, _ = run(folder)
        row = out.splitlines()[1].split()
        assert status == 1 and row[2:] == [error, "0.0001", "FAILED"]
        assert (error == "-") == ("small logits: the difference is NaN or infinite." in out)
        assert out.splitlines()[-1] == "outputs: 2, outside of the tolerance: 1, not compared: 0"
    record(folder, logits=logits[:, :3].contiguous())
    edit(folder, "io.tensors.logits.shape", [3, 3])
    status, out, _ = run(folder)
    assert status == 1 and "small logits: it is [3, 4] here and [3, 3] in the record.\n" in out


def test_nothing_recorded_is_passed_over(run: Run, folder: Path) -> None:
    record(folder, features=torch.ones(3, 2))
    status, out, _ = run(folder)
    assert status == 1 and "features         -                   -          not compared\n" in out
    assert "small features: raycp computes no output of this name for files of akamaster/" in out
    edit(folder, "precision.tolerance_max_abs.features", 0.5)
    assert run(folder)[0] == 1
    (folder / "io.safetensors").unlink()
    save_file({"logits": torch.ones(3, 4)}, folder / "io.safetensors")
    for name in ("images_uint8", "predicted_class"):
        edit(folder, f"io.tensors.{name}", None)
    edit(folder, "precision.tolerance_max_abs", {"logits": 1e-4})
    status, out, _ = run(folder)
    assert status == 1
    assert "small logits: no tensor images_uint8 is recorded, and its format needs it as an input.\n" in out


@pytest.mark.parametrize(
    ("tolerance", "reason"),
    [
        (None, "fixture.json gives no tolerance for it"),
        ("tiny", "the tolerance 'tiny' in fixture.json is not understood"),
        ("1e-4 / sqrt(abar_t), elementwise", "its tolerance needs alphas_cumprod and t, which"),
    ],
)
def test_an_output_without_a_tolerance_is_no_success(
    run: Run, folder: Path, tolerance: str | None, reason: str
) -> None:
    edit(folder, "precision.tolerance_max_abs.logits", tolerance)
    status, out, _ = run(folder)
    assert status == 1 and "outputs: 2, outside of the tolerance: 0, not compared: 1" in out
    assert f"small logits: {reason}" in out


def test_a_checkpoint_that_cannot_be_evaluated(run: Run, folder: Path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2)}, folder / "net.th")
    edit(folder, "checkpoint.sha256", hashlib.sha256((folder / "net.th").read_bytes()).hexdigest())
    status, out, _ = run(folder)
    assert status == 1 and "outside of the tolerance: 0, not compared: 2" in out
    assert out.count("net.th is a torch file of this network: unknown") == 2


def test_images_that_the_network_was_not_made_for(run: Run, folder: Path) -> None:
    images = torch.zeros(3, 5, 8, 8, dtype=torch.uint8)
    record(folder, images_uint8=images)
    edit(folder, "io.tensors.images_uint8", described(images))
    status, out, _ = run(folder)
    assert status == 1 and out.count("the network fails on the recorded inputs: RuntimeError: ") == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "checkpoint.sha256",
            "0" * 64,
            "is not the checkpoint that the outputs were recorded of: its SHA-256 is",
        ),
        ("checkpoint.sha256", None, "checkpoint must have one SHA-256, got []"),
        ("checkpoint.file", "absent.th", "and there is no such file"),
        ("checkpoint", None, "fixture.json has no checkpoint."),
        ("io.file", 3, "io.file must be of another type, got 3"),
        ("io.tensors.logits.shape", [3, 5], "does not hold what"),
        ("io.tensors.logits.dtype", "float64", "logits is float32 [3, 4]"),
        ("io.tensors.eps", {"shape": [1], "dtype": "float32"}, "eps is missing"),
        ("precision.tolerance_max_abs.eps", 1e-4, "has a tolerance for eps, of which nothing is recorded"),
        (
            "source.repository",
            "https://github.com/x/y",
            "of x/y (torch.save of a training checkpoint), which raycp has",
        ),
        ("format", "pickle", "which raycp has no reader for"),
    ],
)
def test_fixtures_that_are_refused(run: Run, folder: Path, key: str, value: Any, message: str) -> None:
    edit(folder, key, value)
    status, out, err = run(folder)
    assert (status, out) == (1, "") and message in err


def test_a_checkpoint_that_is_a_folder(run: Run, folder: Path) -> None:
    """Only its weights have a hash; the files beside them have a size."""
    (folder / "model").mkdir()
    save_file({"w": torch.ones(1)}, folder / "model" / "model.safetensors")
    (folder / "model" / "config.json").write_text("{}")
    weights = folder / "model" / "model.safetensors"
    entry = {
        "directory": "model",
        "files": {"config.json": 2, "model/model.safetensors": weights.stat().st_size},
        "sha256_weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    edit(folder, "checkpoint", entry)
    status, out, _ = run(folder)
    assert status == 1 and "not compared: 2" in out  # a folder is no file of a residual network
    (folder / "model" / "config.json").write_text("{ }")
    assert "config.json has 3 bytes, and" in run(folder)[2]
    (folder / "model" / "config.json").unlink()
    assert "config.json is missing, and" in run(folder)[2]
    weights.write_bytes(weights.read_bytes()[:-1] + b"1")
    assert "is not the checkpoint that the outputs were recorded of" in run(folder)[2]
    edit(folder, "checkpoint.files", {"config.json": 3})
    assert "checkpoint.files must name one safetensors file, got []" in run(folder)[2]


def test_folders_that_are_none(run: Run, folder: Path, tmp_path: Path) -> None:
    for name, damage, message in (
        ("bare", lambda path: (path / "fixture.json").unlink(), "there is no fixture.json in"),
        ("text", lambda path: (path / "fixture.json").write_text("{"), "cannot be read as JSON"),
        (
            "list",
            lambda path: (path / "fixture.json").write_text("[]"),
            "must hold a JSON object, got a list",
        ),
        (
            "cut",
            lambda path: (path / "io.safetensors").write_bytes(b"1234"),
            "damaged or not a safetensors file",
        ),
        ("gone", lambda path: (path / "io.safetensors").unlink(), "there is no file"),
        ("absent", shutil.rmtree, "there is no folder"),
    ):
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        damage(copy)
        status, out, err = run(folder, copy)
        assert (status, out) == (1, "") and message in err and str(copy) in err, name
    assert run()[0] == 2

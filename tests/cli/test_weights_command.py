"""`raycp weights`: what a file is, and a published network as a model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raycp.config.models import DenoiserModel
from raycp.models import build_denoiser, read_denoiser

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(raycp: Run) -> Run:
    """`raycp weights`: arguments to exit status, stdout and stderr."""
    return partial(raycp, "weights")


def rows(text: str) -> dict[str, str]:
    return {line[:10].strip(): line[11:] for line in text.splitlines()}


def test_inspect(run: Run, tmp_path: Path) -> None:
    state = {"module.conv1.weight": torch.ones(2, 3), "module.layer3.0.conv1.weight": torch.ones(4).half()}
    path = tmp_path / "net.th"
    torch.save({"best_prec1": 93.6, "state_dict": {**state, "module.linear.weight": torch.zeros(1)}}, path)
    status, out, _ = run("inspect", path)
    assert status == 0
    assert rows(out) == {
        "format": "torch file",
        "network": "residual network for CIFAR",
        "numbers": "11 in 3 tensors (2 float32, 1 float16)",
        "bytes": f"{path.stat().st_size:,}",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "state_key": "state_dict",
        "beside it": "best_prec1",
        "prefix": "module.",
    }
    save_file({"a": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    status, out, _ = run("inspect", "--tensors", tmp_path / "a.safetensors")
    assert status == 0 and rows(out)["format"] == "safetensors" and rows(out)["network"] == "unknown"
    assert out.endswith("a  float32 [2, 2]\n")


def test_safetensors_that_begin_like_a_flax_checkpoint(run: Run, tmp_path: Path) -> None:
    """The first byte is the lowest of the header's length."""
    path = tmp_path / "a.safetensors"
    for length in range(8, 400, 8):
        save_file({"params": torch.ones(1)}, path, metadata={"pad": "x" * length})
        if 0x81 <= path.read_bytes()[0] <= 0x8F:
            break
    else:
        raise AssertionError("no such header")
    status, out, _ = run("inspect", path)
    assert status == 0 and rows(out)["format"] == "safetensors"


def test_what_cannot_be_inspected(run: Run, tmp_path: Path) -> None:
    torch.save({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, tmp_path / "two.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    (tmp_path / "text.pt").write_text("not weights")
    for name, words in {
        "absent.pt": "there is no file",
        "two.pt": "holds several sets of tensors, a, b",
        "none.pt": "holds no tensors by name",
        "module.pt": "would call torch.nn.modules.linear.Linear",
        "text.pt": "is damaged or not a torch file",
        "": "is a folder",
    }.items():
        status, out, err = run("inspect", tmp_path / name)
        assert (status, out) == (1, "") and words in err, (name, err)


def test_a_published_file_becomes_a_model(run: Run, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "parity" / "improved-diffusion-pt" / "model.pt"
    arguments = ("convert", file, "--as", "ddpm", "--image-size", 16, "--out", tmp_path / "out")
    status, out, _ = run(*arguments)
    bundle = read_denoiser(DenoiserModel(path=str(tmp_path / "out")))
    assert status == 0 and rows(out)["written"] == f"{tmp_path / 'out'}; as a model {bundle.sha256}"
    assert build_denoiser(bundle).image_size == (16, 16)
    status, _, err = run(*arguments)
    assert status == 1 and "not empty; take another --out" in err


def test_inspect_names_the_licence_of_a_published_file(run: Run, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "parity" / "cifar-resnet-th" / "resnet56-4bfd9763.th"
    assert rows(run("inspect", file)[1])["licence"].startswith(
        "BSD-2-Clause, as resnet56-cifar10 is published (by its SHA-256): https://github.com/akamaster"
    )


def test_a_name_alone_is_said_to_be_one(run: Run, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "cd_imagenet64_l2.pt")
    found = rows(run("inspect", tmp_path / "cd_imagenet64_l2.pt")[1])["licence"]
    assert found.startswith("MIT, as cd-l2-imagenet64 is published (by its name alone): https://")
    torch.save({"w": torch.ones(1)}, tmp_path / "mine.pt")
    assert "licence" not in rows(run("inspect", tmp_path / "mine.pt")[1])

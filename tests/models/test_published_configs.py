"""Every experiment of the paper as a dry run, with random weights of the published sizes in the places it names.

    python -m pytest tests/models/test_published_configs.py -m slow -s

prints what each costs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from published_layouts import ncsnpp_state, write_flax_file
from test_published_sizes import filled, openai

from raycp.config.models import TransformersClassifier
from raycp.models import build_classifier, read_classifier, save_stored_classifier
from raycp.models.cifar_resnet import CifarResNet
from raycp.models.conversion import Conversion, convert_denoiser
from raycp.models.smoothing_resnet import SmoothingResNet
from raycp.models.wide_resnet import WideResNet

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EXPERIMENTS = [
    path
    for folder in ("cifar10", "imagenet64")
    for path in sorted((CONFIGS / folder).glob("*.yaml"))
    if not path.stem.startswith(("train", "compare"))
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with all files: random weights, and images without content."""
    place = tmp_path_factory.mktemp("published")
    models = place / "models"
    models.mkdir()

    def converted(file: Path, *outs: tuple[str, Conversion]) -> None:
        for out, conversion in outs:
            convert_denoiser(file, models / out, conversion)
        file.unlink()

    file = write_flax_file(place / "checkpoint_80", filled(ncsnpp_state()))
    converted(
        file, ("cd-lpips-cifar10", Conversion("consistency")), ("edm-openai-cifar10", Conversion("edm"))
    )
    for name, out, size in (
        ("cifar10_uncond_50M_500K.pt", "ddpm-cifar10", 32),
        ("imagenet64_uncond_100M_1500K.pt", "ddpm-vlb-imagenet64", 64),
    ):
        openai(place / name)
        converted(place / name, (out, Conversion("ddpm", size)))
    openai(place / "cd_imagenet64_lpips.pt")
    unconditional = Conversion("consistency", 64, unconditional=True)
    converted(
        place / "cd_imagenet64_lpips.pt",
        ("cd-lpips-imagenet64", Conversion("consistency", 64)),
        ("cd-lpips-imagenet64-unconditional", unconditional),
    )
    (models / "cd-lpips-finetuned-cifar10").symlink_to(models / "cd-lpips-cifar10")
    for tuned in ("lpips", "l1", "l2", "continuous"):
        link(place / f"runs/cifar10/finetune-{tuned}/models/finetune", models / "cd-lpips-cifar10")
    for stage in ("consistency", "finetune"):
        link(
            place / f"runs/imagenet64/unconditional/models/{stage}",
            models / "cd-lpips-imagenet64-unconditional",
        )
    vit(models / "vit-base-cifar10", 10)
    vit(models / "vit-base-imagenet", 1000)
    for tuned in ("cls-ft", "both-ft"):
        for sigma in ("025", "050", "100"):
            tuned_vit(place / f"runs/cifar10/{tuned}/models/{tuned}-{sigma}", models / "vit-base-cifar10")
    torch.save(CifarResNet(10, 16, 9).state_dict(), models / "resnet56-4bfd9763.th")
    torch.save(WideResNet(10, 28, 10).state_dict(), models / "wide-resnet-28x10.t7")
    for noise in ("0.25", "0.50", "1.00"):
        folder = models / "cohen-resnet110-cifar10" / f"noise_{noise}"
        folder.mkdir(parents=True)
        state = {
            f"1.{name}": tensor
            for name, tensor in SmoothingResNet(10, 16, 18, bottleneck=False).state_dict().items()
        }
        torch.save(
            {"epoch": 90, "arch": "cifar_resnet110", "state_dict": state}, folder / "checkpoint.pth.tar"
        )
    rng = np.random.default_rng(0)
    cifar = place / "data" / "cifar-10-batches-bin"
    cifar.mkdir(parents=True)
    rows = np.zeros((10_000, 3073), np.uint8)
    rows[:, 0] = rng.integers(0, 10, 10_000)
    (cifar / "test_batch.bin").write_bytes(rows.tobytes())
    imagenet = place / "data" / "imagenet64"
    imagenet.mkdir()
    labels = rng.integers(1, 1001, 50_000)
    np.savez_compressed(imagenet / "val_data.npz", data=np.zeros((50_000, 12_288), np.uint8), labels=labels)
    yield place


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def vit(folder: Path, classes: int) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(num_labels=classes)).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def tuned_vit(folder: Path, start: Path) -> None:
    """What a classifier stage leaves of a ViT that it did not move: the weights are a link."""
    config = TransformersClassifier(kind="transformers", path=str(start), truncate=True)
    bundle = read_classifier(config)
    save_stored_classifier(folder, build_classifier(bundle), bundle.recipe, image_size=(32, 32))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(start / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_dry_run(place: Path, path: Path) -> None:
    command = [sys.executable, "-m", "raycp.cli.main", "certify", str(path), "--dry-run", "--out", "runs/x"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"}
    )
    assert done.returncode == 0, done.stderr
    said = {line[:12].strip(): line[13:] for line in done.stdout.splitlines()}
    assert said["images"].startswith("500 of ")
    one = path.stem.startswith(("randomized-smoothing", "cls-ft", "both-ft"))
    assert said["samples"] == ("5,050,000" if one else "15,150,000")
    print(f"\n{path.parent.name}/{path.stem}: {said['purifier']}; {said['classifier']}; {said['cost']}")

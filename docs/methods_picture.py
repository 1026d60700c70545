"""docs/figures/methods.png: the same noisy images through every method, on the models of configs/cifar10-jpeg.

Run: python docs/methods_picture.py

Images are of the 200 that the fine-tunings are validated on; none of them is certified. A name below a picture is the
class that the classifier of clean images sees in it, green where that is the label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from pydantic import TypeAdapter
from torch import Tensor

from raycp.config.data import ParquetData
from raycp.config.models import DirectoryClassifier, NoPurifier, PurifierConfig
from raycp.data.load import load_images
from raycp.models import build_classifier, build_denoiser, read_classifier, read_denoiser
from raycp.purifiers import build_purifier
from raycp.report.grid import font
from raycp.sampling.base_classifier import RandomPurifier
from raycp.sampling.inner_noise import inner_noise_by_place

ROOT = Path(__file__).resolve().parents[1]
FIGURE = Path(__file__).parent / "figures" / "methods.png"
MODELS = ROOT / "configs" / "cifar10-jpeg" / "models"
CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIGMA = 0.25
SHOWN = range(6)
DENOISER: dict[str, Any] = {"path": str(MODELS / "denoiser")}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "one-step EDM": {"kind": "edm", "model": DENOISER},
    "PF-ODE": {
        "kind": "pf_ode",
        "model": DENOISER | {"sigma_min": 0.05, "sigma_max": 1.0},
        "num_steps": 8,
        "start": "exact",
    },
    "DensePure": {"kind": "densepure", "model": DENOISER, "num_votes": 2, "num_steps": 4, "variance": "small"},
    "DiffSmooth": {"kind": "diffsmooth", "model": DENOISER, "num_copies": 2, "local_sigma": 0.1},
    "consistency": {"kind": "consistency", "model": {"path": str(MODELS / "consistency")}},
    "tuned, LPIPS": {"kind": "consistency", "model": {"path": str(MODELS / "finetune-lpips")}},
    "tuned, l1": {"kind": "consistency", "model": {"path": str(MODELS / "finetune-l1")}},
    "tuned, l2": {"kind": "consistency", "model": {"path": str(MODELS / "finetune-l2")}},
}  # fmt: skip
SCALE, GAP, HEAD, FOOT = 3, 6, 40, 22
SIDE = 32 * SCALE


def purified(section: dict[str, Any], x_BCHW: Tensor) -> list[Tensor]:
    """The images that a method makes of these noisy ones, pixel units; several, if it draws several."""
    config: PurifierConfig = TypeAdapter(PurifierConfig).validate_python(section)
    denoiser = None if isinstance(config, NoPurifier) else build_denoiser(read_denoiser(config.model))
    purify = build_purifier(config, denoiser)
    if isinstance(purify, RandomPurifier):
        return list(purify.images(x_BCHW, SIGMA, inner_noise_by_place(x_BCHW)))
    return [purify(x_BCHW, SIGMA)]


def draw(columns: list[tuple[str, Tensor, list[int]]], labels: list[int]) -> Image.Image:
    """A column for each method: its name, pixel images [B, 3, 32, 32], and the class seen in each."""
    width, height = len(columns) * (SIDE + GAP) + GAP, HEAD + len(labels) * (SIDE + FOOT)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    for column, (name, images, seen) in enumerate(columns):
        left = GAP + column * (SIDE + GAP)
        pen.multiline_text(
            (left + SIDE // 2, HEAD // 2), name, fill="#1b1f24", font=font(), anchor="mm", align="center"
        )
        for row, image in enumerate((images.clamp(0, 1) * 255).round().byte().numpy()):
            top = HEAD + row * (SIDE + FOOT)
            tile = Image.fromarray(image.transpose(1, 2, 0))
            picture.paste(tile.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top))
            colour = "#1a7f37" if seen[row] == labels[row] else "#b42318"
            pen.text(
                (left + SIDE // 2, top + SIDE + FOOT // 2),
                CLASSES[seen[row]],
                fill=colour,
                font=font(),
                anchor="mm",
            )
    return picture


@torch.inference_mode()
def main() -> None:
    """Purify, classify, draw."""
    select = {"start": 1, "skip": 25}
    data = {"name": "parquet", "path": str(ROOT / "data" / "cifar10-jpeg"), "split": "test", "select": select}
    images = load_images(ParquetData.model_validate(data))
    x_BCHW = torch.from_numpy(images.images[list(SHOWN)]).float() / 255
    labels = [int(images.labels[index]) for index in SHOWN]
    noisy_BCHW = x_BCHW + SIGMA * torch.randn(x_BCHW.shape, generator=torch.Generator().manual_seed(0))
    classifier = DirectoryClassifier(kind="directory", path=str(MODELS / "classifier"))
    classify = build_classifier(read_classifier(classifier)).eval()
    shown = [("clean", x_BCHW)]
    for name, section in METHODS.items():
        made = purified(section, noisy_BCHW)
        names = [name] if len(made) == 1 else [f"{name}\ndraw {number}" for number, _ in enumerate(made, 1)]
        shown += zip(names, made, strict=True)
    columns = [(name, result, classify(result).argmax(dim=1).tolist()) for name, result in shown]
    for name, _, seen in columns:
        print(f"{name!r:30}", *(CLASSES[index] for index in seen))
    FIGURE.parent.mkdir(exist_ok=True)
    draw(columns, labels).save(FIGURE, optimize=True)


if __name__ == "__main__":
    main()

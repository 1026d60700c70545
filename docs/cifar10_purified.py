"""What the purifiers of configs/cifar10-jpeg make of held-out images: distances, accuracies, and a picture.

python docs/cifar10_purified.py none edm pf-ode consistency finetuned-lpips finetuned-l1 finetuned-l2

The 200 images are the validation images of the fine-tunings: none of them is certified. Two draws of noise for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor, nn

from raycp.config import RunConfig, load_config
from raycp.config.data import ParquetData
from raycp.data.load import load_images
from raycp.models import build_classifier, build_denoiser, read_classifier, read_denoiser
from raycp.purifiers import build_purifier
from raycp.report.grid import font
from raycp.training.perceptual import lpips_distance
from raycp.training.validation import HeldOut, Purify

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "cifar10-jpeg"
BACKBONE = ROOT / "models" / "squeezenet1_1-imagenet-features.safetensors"
FIGURE = Path(__file__).parent / "figures" / "cifar10-purified.png"
SIGMAS = (0.25, 0.5)
SHOWN, SCALE, GAP, NAMES, LINE = 8, 3, 4, 130, 24


def purifier_of(config: RunConfig) -> Purify:
    """The purifier as certifications use it, in model units."""
    model = getattr(config.purifier, "model", None)
    purify = build_purifier(config.purifier, None if model is None else build_denoiser(read_denoiser(model)))
    return lambda x_BCHW, sigma_model: 2 * purify((x_BCHW + 1) / 2, sigma_model / 2) - 1


class InModelUnits(nn.Module):
    """A classifier of pixel images, on images in [-1, 1]."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits: Tensor = self.classifier((x_BCHW + 1) / 2)
        return logits


def draw_rows(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Named rows of images, uint8 [B, 3, H, W]."""
    side = 32 * SCALE + GAP
    picture = Image.new("RGB", (NAMES + SHOWN * side + 2 * GAP, len(rows) * side + 2 * GAP), "white")
    pen = ImageDraw.Draw(picture)
    for row, (name, images) in enumerate(rows):
        top = GAP + row * side
        pen.text((GAP, top + side // 2), name, fill="#1b1f24", font=font(), anchor="lm")
        for column, image in enumerate(images):
            tile = Image.fromarray(image.transpose(1, 2, 0)).resize(
                (32 * SCALE, 32 * SCALE), Image.Resampling.NEAREST
            )
            picture.paste(tile, (NAMES + column * side, top))
    return picture


@torch.inference_mode()
def main(names: list[str]) -> None:
    """Print the table and write the picture."""
    data = ParquetData.model_validate(
        {"name": "parquet", "path": str(ROOT / "data" / "cifar10-jpeg"), "split": "test",
         "select": {"start": 1, "skip": 25}}
    )  # fmt: skip
    images = load_images(data)
    held_out = HeldOut(
        images.images, images.labels, SIGMAS, draws=2, seed=0, rank=0, world_size=1,
        device=torch.device("cpu"), add_up=lambda sums: sums,
    )  # fmt: skip
    lpips = lpips_distance("squeeze", load_file(BACKBONE), resize=64).eval()
    print(f"{'':16}" + "".join(f"  l2@{s:<5g} LPIPS@{s:<5g} accuracy@{s:<5g}" for s in SIGMAS))
    rows: list[tuple[str, np.ndarray]] = []
    for name in names:
        config = load_config(RunConfig, CONFIGS / f"{name}.yaml")
        judge = InModelUnits(build_classifier(read_classifier(config.classifier))).eval()
        purify = purifier_of(config)
        found = held_out.of_purifier(purify, judge, lpips)
        cells = [
            f"  {found[f'l2@{s:g}']:8.2f} {found[f'lpips@{s:g}']:11.3f} "
            f"{100 * found[f'purified_accuracy@{s:g}']:13.1f}%"
            for s in SIGMAS
        ]
        print(f"{name:16}" + "".join(cells), flush=True)
        shown = held_out.examples(purify, SHOWN)[-1]
        if not rows:
            rows = [("clean", shown[0]), (f"noisy, σ = {SIGMAS[-1]:g}", shown[1])]
        if name != "none":
            rows.append((name, shown[2]))
    FIGURE.parent.mkdir(exist_ok=True)
    draw_rows(rows).save(FIGURE, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])

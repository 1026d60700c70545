"""What the purifiers of configs/cifar10-jpeg make of single noisy images: distances, accuracies, and a picture.

python docs/cifar10_purified.py consistency edm pf-ode finetuned-lpips finetuned-l1 finetuned-l2
python docs/cifar10_purified.py consistency edm finetuned-lpips finetuned-l1 finetuned-l2 --start 0 --skip 2

One draw of noise for each test image, the same for all. The first form takes the 200 validation images of the
fine-tunings, of which none is certified, and draws the picture; the second one half of the test split. Accuracies are
compared with those of the first purifier, image by image.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

from raycp.config import RunConfig, load_config
from raycp.config.data import ParquetData
from raycp.data.load import load_images
from raycp.models import build_classifier, build_denoiser, read_classifier, read_denoiser
from raycp.purifiers import build_purifier
from raycp.report.grid import font
from raycp.statistics import paired_difference
from raycp.training.perceptual import PerceptualDistance, lpips_distance

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "cifar10-jpeg"
BACKBONE = ROOT / "models" / "squeezenet1_1-imagenet-features.safetensors"
FIGURE = Path(__file__).parent / "figures" / "cifar10-purified.png"
SIGMAS = (0.25, 0.5)
BATCH = 100
SHOWN, SCALE, GAP, NAMES = 8, 3, 4, 130


@dataclass(frozen=True)
class Outcome:
    """Of one purifier at one noise level."""

    l2: float
    """Mean distance to the clean image, pixel units."""
    lpips: float
    right_M: npt.NDArray[np.bool_]
    """Whether the classifier is right about each purified image."""
    shown_BCHW: Tensor
    """The first purified images, pixel units."""


def outcome(
    name: str, x_MCHW: Tensor, noisy_MCHW: Tensor, label_M: Tensor, sigma: float, lpips: PerceptualDistance
) -> Outcome:
    """Purify and classify each noisy image once."""
    config = load_config(RunConfig, CONFIGS / f"{name}.yaml")
    model = getattr(config.purifier, "model", None)
    purify = build_purifier(config.purifier, None if model is None else build_denoiser(read_denoiser(model)))
    classify = build_classifier(read_classifier(config.classifier)).eval()
    purified_MCHW = torch.cat([purify(x_BCHW, sigma) for x_BCHW in torch.split(noisy_MCHW, BATCH)])
    pairs = zip(torch.split(purified_MCHW, BATCH), torch.split(x_MCHW, BATCH), strict=True)
    lpips_M = torch.cat([lpips(2 * purified - 1, 2 * x_BCHW - 1) for purified, x_BCHW in pairs])
    class_M = torch.cat([classify(x_BCHW).argmax(dim=1) for x_BCHW in torch.split(purified_MCHW, BATCH)])
    return Outcome(
        l2=float((purified_MCHW - x_MCHW).flatten(1).norm(dim=1).mean()),
        lpips=float(lpips_M.mean()),
        right_M=(class_M == label_M).numpy(),
        shown_BCHW=purified_MCHW[:SHOWN],
    )


def draw_rows(rows: dict[str, Tensor]) -> Image.Image:
    """Named rows of pixel images [B, 3, H, W]."""
    side = 32 * SCALE + GAP
    picture = Image.new("RGB", (NAMES + SHOWN * side + 2 * GAP, len(rows) * side + 2 * GAP), "white")
    pen = ImageDraw.Draw(picture)
    for row, (name, images) in enumerate(rows.items()):
        top = GAP + row * side
        pen.text((GAP, top + side // 2), name, fill="#1b1f24", font=font(), anchor="lm")
        for column, image in enumerate((images.clamp(0, 1) * 255).round().byte().numpy()):
            tile = Image.fromarray(image.transpose(1, 2, 0))
            enlarged = tile.resize((32 * SCALE, 32 * SCALE), Image.Resampling.NEAREST)
            picture.paste(enlarged, (NAMES + column * side, top))
    return picture


def compared(base: str, name: str, sigma: float, first: Outcome, second: Outcome) -> str:
    """The difference of two accuracies on the same noisy images."""
    images = len(first.right_M)
    only_first = int((first.right_M & ~second.right_M).sum())
    only_second = int((second.right_M & ~first.right_M).sum())
    low, high = (100 * end for end in paired_difference(only_first, only_second, images))
    difference = 100 * (only_second - only_first) / images
    return f"{name} - {base}  sigma {sigma:g}  {difference:+.1f} ({low:+.1f} to {high:+.1f})"


@torch.inference_mode()
def main() -> None:
    """Print the tables; write the picture of the validation images."""
    parser = argparse.ArgumentParser(description="Compare purifiers on single noisy images.")
    parser.add_argument("names", nargs="+", help="configurations, without .yaml; the first is the base")
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--skip", type=int, default=25)
    options = parser.parse_args()
    data = {"name": "parquet", "path": str(ROOT / "data" / "cifar10-jpeg"), "split": "test"}
    select = {"start": options.start, "skip": options.skip}
    images = load_images(ParquetData.model_validate(data | {"select": select}))
    x_MCHW, label_M = torch.from_numpy(images.images).float() / 255, torch.from_numpy(images.labels)
    lpips = lpips_distance("squeeze", load_file(BACKBONE), resize=64).eval()
    print(f"{len(images)} images\nsigma  {'purifier':16}      l2  LPIPS  accuracy, %")
    differences = []
    rows: dict[str, Tensor] = {}
    for sigma in SIGMAS:
        noise = torch.randn(x_MCHW.shape, generator=torch.Generator().manual_seed(round(1e6 * sigma)))
        noisy_MCHW = x_MCHW + sigma * noise
        rows = {"clean": x_MCHW[:SHOWN], f"noisy, σ = {sigma:g}": noisy_MCHW[:SHOWN]}
        outcomes: dict[str, Outcome] = {}
        for name in options.names:
            found = outcomes[name] = outcome(name, x_MCHW, noisy_MCHW, label_M, sigma, lpips)
            rows[name] = found.shown_BCHW
            accuracy = 100 * found.right_M.mean()
            print(f"{sigma:<6g} {name:16} {found.l2:7.2f}  {found.lpips:.3f}  {accuracy:11.1f}", flush=True)
        base, *others = options.names
        differences += [compared(base, name, sigma, outcomes[base], outcomes[name]) for name in others]
    print("\naccuracy, difference (95% interval), on the same noisy images", *differences, sep="\n")
    if options.skip == parser.get_default("skip"):
        draw_rows(rows).save(FIGURE, optimize=True)


if __name__ == "__main__":
    main()

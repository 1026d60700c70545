"""Why a purifier that is right more often may be certified less: how its votes are spread, and its contrast.

    python docs/cifar10_votes.py edm consistency consistency-long finetuned-lpips finetuned-l2

The 200 validation images of the fine-tunings, of which none is certified, in many noisy copies each: the share of
copies that the classifier is right about. On the same images one affine colour map per channel is fitted that gives
purified images the mean and standard deviation of clean ones; accuracy with it is measured on every fourth test image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from cifar10_purified import BATCH, CONFIGS, ROOT, SIGMAS
from torch import Tensor

from raycp.config import RunConfig, load_config
from raycp.config.data import ParquetData
from raycp.data.load import load_images
from raycp.models import build_classifier, build_denoiser, read_classifier, read_denoiser
from raycp.purifiers import build_purifier

COPIES = 40
SHARES = (0.5, 0.69, 0.84)  # wanted by the radii 0, 0.25 and 0.5 at sigma 0.5


def pixels(start: int, skip: int) -> tuple[Tensor, Tensor]:
    """Test images in [0, 1] and their labels."""
    data = {"name": "parquet", "path": str(ROOT / "data" / "cifar10-jpeg"), "split": "test"}
    images = load_images(ParquetData.model_validate(data | {"select": {"start": start, "skip": skip}}))
    return torch.from_numpy(images.images).float() / 255, torch.from_numpy(images.labels)


def in_batches(function: Callable[[Tensor], Tensor], x_MCHW: Tensor) -> Tensor:
    """A function of a few images at a time."""
    return torch.cat([function(x_BCHW) for x_BCHW in torch.split(x_MCHW, BATCH)])


@torch.inference_mode()
def examine(name: str, sigma: float, fitted: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor]) -> None:
    """Print the votes, the contrast and the accuracies of one purifier."""
    config = load_config(RunConfig, CONFIGS / f"{name}.yaml")
    network = build_purifier(config.purifier, build_denoiser(read_denoiser(config.purifier.model)))
    classify = build_classifier(read_classifier(config.classifier)).eval()
    noise = torch.Generator().manual_seed(round(1e6 * sigma))

    def purified(x_MCHW: Tensor) -> Tensor:
        noisy = x_MCHW + sigma * torch.randn(x_MCHW.shape, generator=noise)
        return in_batches(lambda x_BCHW: network(x_BCHW, sigma), noisy)

    def right(x_MCHW: Tensor, label_M: Tensor) -> Tensor:
        return (in_batches(lambda x_BCHW: classify(x_BCHW).argmax(dim=1), x_MCHW) == label_M).float()

    clean, label_M = fitted
    draws = [purified(clean) for _ in range(COPIES)]
    share_M = torch.stack([right(draw, label_M) for draw in draws]).mean(dim=0)
    above = "  ".join(f"{100 * (share_M > share).float().mean():5.1f}" for share in SHARES)
    spread = float((share_M * (1 - share_M)).mean())
    mean, std = (getattr(draws[0], what)(dim=(0, 2, 3), keepdim=True) for what in ("mean", "std"))
    wanted_mean, wanted_std = (getattr(clean, what)(dim=(0, 2, 3), keepdim=True) for what in ("mean", "std"))
    x_MCHW, x_label_M = tested
    found = purified(x_MCHW)
    mapped = (found - mean) * (wanted_std / std) + wanted_mean
    accuracies = "  ".join(f"{100 * right(images, x_label_M).mean():6.1f}" for images in (found, mapped))
    contrast = float((std / wanted_std).mean())
    print(
        f"{sigma:<6g} {name:16} {100 * share_M.mean():6.1f}  {above}  {spread:9.3f}  {contrast:8.2f}  {accuracies}",
        flush=True,
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Look into the votes of purifiers.")
    parser.add_argument("names", nargs="+", help="configurations, without .yaml")
    parser.add_argument("--sigma", type=float, action="append")
    options = parser.parse_args()
    fitted, tested = pixels(1, 25), pixels(0, 4)
    print(
        "sigma  purifier          share   >50%   >69%   >84%   p(1 - p)  contrast  accuracy  with contrast set right"
    )
    for sigma in options.sigma or SIGMAS:
        for name in options.names:
            examine(name, sigma, fitted, tested)


if __name__ == "__main__":
    main()

"""Residual networks for CIFAR with projected shortcuts: ResNet-20 and 110 of the randomized-smoothing literature.

Source: He et al. 2016, arXiv 1512.03385, option B, with basic blocks or bottlenecks; names of
github.com/locuslab/smoothing, code/archs/cifar_resnet.py (Cohen et al. 2019), which Hadisalman/smoothing-adversarial,
jh-jeong/smoothing-consistency and jh-jeong/smoothmix have unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from raycp.errors import ModelError
from raycp.models.file_facts import file_facts
from raycp.models.weights import NORMALISATION, normalisation_prefix

_STAGES = 3
# NormalizeLayer of these repositories, for CIFAR-10 and ImageNet at 32x32.
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2023, 0.1994, 0.2010)


class SmoothingResNet(nn.Module):
    """Three stages of residual blocks, each after the first at half the resolution; depth 6 (9) blocks + 2.

    Args:
        num_classes: number of logits K.
        width: channels inside the blocks of the first stage; the next ones have twice and four times as many.
        blocks: of each stage.
        bottleneck: blocks of three convolutions, whose output has four times the channels.
    """

    def __init__(self, num_classes: int, width: int, blocks: int, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage in range(_STAGES):
            layers, inner = [], width * 2**stage
            for block in range(blocks):
                layers.append(_Block(channels, inner, 2 if stage and not block else 1, bottleneck))
                channels = 4 * inner if bottleneck else inner
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of normalised images [B,3,H,W]."""
        h_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        for stage in range(_STAGES):
            h_BCHW = getattr(self, f"layer{stage + 1}")(h_BCHW)
        logits_BK: Tensor = self.fc(h_BCHW.mean(dim=(2, 3)))
        return logits_BK


class _Block(nn.Module):
    def __init__(self, channels: int, inner: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        # Kernel and stride of each convolution.
        shape = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        wide = 4 * inner if bottleneck else inner
        self._convolutions = len(shape)
        width = channels
        for index, (kernel, step) in enumerate(shape, start=1):
            out = wide if index == len(shape) else inner
            self.add_module(f"conv{index}", nn.Conv2d(width, out, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{index}", nn.BatchNorm2d(out))
            width = out
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for index in range(1, self._convolutions + 1):
            h = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(h))
            if index < self._convolutions:
                h = F.relu(h)
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


@dataclass(frozen=True)
class SmoothingFile:
    """What a file says of its `SmoothingResNet`.

    Attributes:
        arguments: of its constructor.
        state: its tensors.
        mean: per channel, pixel units; the published one where the file has none.
        std: likewise.
    """

    arguments: dict[str, Any]
    state: Mapping[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_smoothing_resnet(path: str | Path) -> SmoothingFile:
    """Read a checkpoint, whose network may stand in a Sequential after its normalisation, and in DataParallel.

    Raises:
        ModelError: the file is missing, damaged, or of another network.
        UnsafeFileError: it would run code if it were unpickled.
    """
    facts = file_facts(path)
    prefix = facts.prefix
    state = {
        name.removeprefix(prefix): tensor for name, tensor in facts.state.items() if name.startswith(prefix)
    }
    first, last = state.get("layer1.0.conv1.weight"), state.get("fc.weight")
    if (
        first is None
        or last is None
        or first.dim() != 4
        or last.dim() != 2
        or "layer4.0.conv1.weight" in state
    ):
        hint = "; kind torchvision reads it" if "layer4.0.conv1.weight" in state else ""
        raise ModelError(
            f"{path} is a {facts.format} of this network: {facts.network}{hint}; kind smoothing_resnet takes a "
            "residual network for CIFAR of locuslab/smoothing."
        )
    arguments = {
        "num_classes": last.shape[0],
        "width": first.shape[0],
        "blocks": sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in state),
        "bottleneck": "layer1.0.conv3.weight" in state,
    }
    means, sds = (facts.state.get(f"{normalisation_prefix(prefix)}{name}") for name in NORMALISATION)
    if means is None:
        return SmoothingFile(arguments, state, _MEAN, _STD)
    mean = tuple(map(float, means.flatten()))
    # A layer that only centres, as Salman et al. have one, divides by nothing.
    std = (1.0,) * len(mean) if sds is None else tuple(map(float, sds.flatten()))
    if len(mean) != len(std) or min(std) <= 0:
        raise ModelError(
            f"{path} normalises with means {mean} and standard deviations {std}; give classifier.mean and std."
        )
    return SmoothingFile(arguments, state, mean, std)

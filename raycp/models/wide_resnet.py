"""Wide residual networks for CIFAR: Wide-ResNet-28-10 and its like.

Source: Zagoruyko and Komodakis 2016, arXiv 1605.07146; names, biases and the place of strides of
github.com/meliketoy/wide-resnet.pytorch, networks/wide_resnet.py. Dropout, which does nothing here, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from raycp.errors import ModelError
from raycp.models.file_facts import file_facts

_STAGES = 3
_STEM = 16


class WideResNet(nn.Module):
    """Three stages of (depth - 4)/6 pre-activation blocks, each stage after the first at half the resolution.

    Args:
        num_classes: number of logits K.
        depth: 6 blocks + 4.
        widen_factor: the stages have 16, 32 and 64 times as many channels.
    """

    def __init__(self, num_classes: int, depth: int, widen_factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _STEM, 3, padding=1)
        channels = _STEM
        for stage in range(_STAGES):
            layers, wide = [], _STEM * widen_factor * 2**stage
            for block in range((depth - 4) // 6):
                layers.append(_Block(channels, wide, stride=2 if stage and not block else 1))
                channels = wide
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.bn1 = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of normalised images [B,3,H,W]."""
        h_BCHW = self.conv1(x_BCHW)
        for stage in range(_STAGES):
            h_BCHW = getattr(self, f"layer{stage + 1}")(h_BCHW)
        logits_BK: Tensor = self.linear(F.relu(self.bn1(h_BCHW)).mean(dim=(2, 3)))
        return logits_BK


class _Block(nn.Module):
    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, wide, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, stride=stride, padding=1)
        projected = stride != 1 or channels != wide
        self.shortcut = nn.Sequential(*([nn.Conv2d(channels, wide, 1, stride=stride)] if projected else []))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        added: Tensor = h + self.shortcut(x)
        return added


def read_wide_resnet(path: str | Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The arguments of `WideResNet`, read off the tensors of a file, and the tensors.

    Raises:
        ModelError: the file is missing, damaged, or of another network.
        UnsafeFileError: it holds more than such a network.
    """
    facts = file_facts(path)
    state = {name.removeprefix("module."): tensor for name, tensor in facts.state.items()}
    first, last = state.get("layer1.0.conv1.weight"), state.get("linear.weight")
    if first is None or last is None or first.dim() != 4 or last.dim() != 2 or "conv1.bias" not in state:
        raise ModelError(
            f"{path} is a {facts.format} of this network: {facts.network}; kind wide_resnet takes a wide residual "
            "network for CIFAR of meliketoy/wide-resnet.pytorch."
        )
    blocks = sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in state)
    return {
        "num_classes": last.shape[0],
        "depth": 6 * blocks + 4,
        "widen_factor": first.shape[0] // _STEM,
    }, state

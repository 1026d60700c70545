"""Residual networks for CIFAR with shortcuts that have no weights: ResNet-20, 32, 44, 56, 110.

Source: He et al. 2016, arXiv 1512.03385, section 4.2, option A; names of github.com/akamaster/pytorch_resnet_cifar10.
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


class CifarResNet(nn.Module):
    """Three stages of `blocks` residual blocks, each after the first at half the resolution; depth 6 blocks + 2.

    Args:
        num_classes: number of logits K.
        width: channels of the first stage; the next ones have twice and four times as many.
        blocks: of each stage.
    """

    def __init__(self, num_classes: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage in range(_STAGES):
            layers, wide = [], width * 2**stage
            for block in range(blocks):
                layers.append(_Block(channels, wide, stride=2 if stage and not block else 1))
                channels = wide
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of normalised images [B,3,H,W]."""
        h_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        for stage in range(_STAGES):
            h_BCHW = getattr(self, f"layer{stage + 1}")(h_BCHW)
        logits_BK: Tensor = self.linear(h_BCHW.mean(dim=(2, 3)))
        return logits_BK


class _Block(nn.Module):
    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wide, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self._stride, self._added = stride, wide - channels

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        half = self._added // 2
        shortcut = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, half, self._added - half))
        return F.relu(h + shortcut)


def read_cifar_resnet(path: str | Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The arguments of `CifarResNet`, read off the tensors of a file, and the tensors.

    Raises:
        ModelError: the file is missing, damaged, or of another network.
        UnsafeFileError: it would run code if it were unpickled.
    """
    facts = file_facts(path)
    state = {name.removeprefix("module."): tensor for name, tensor in facts.state.items()}
    first, last = state.get("conv1.weight"), state.get("linear.weight")
    if first is None or last is None or first.dim() != 4 or last.dim() != 2:
        raise ModelError(
            f"{path} is a {facts.format} of this network: {facts.network}; kind cifar_resnet takes a residual network "
            "for CIFAR."
        )
    blocks = sum(name.startswith("layer1.") and name.endswith(".conv1.weight") for name in state)
    return {"num_classes": last.shape[0], "width": first.shape[0], "blocks": blocks}, state

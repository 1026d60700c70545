"""A user's own network, as raycp meets it: a module in the user's package and a function that makes it.

The residual network of He et al. 2016 for 32x32 images with parameter-free shortcuts (option A), in the parameter
names of the checkpoints that circulate for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

not_a_function = 3


class Block(nn.Module):
    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.added = planes - in_planes
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        half = self.added // 2
        return F.relu(h + F.pad(shortcut, (0, 0, 0, 0, half, self.added - half)))


class ResNet(nn.Module):
    def __init__(self, blocks_per_stage: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, planes in enumerate((16, 32, 64), start=1):
            first = Block(16 if stage == 1 else planes // 2, planes, 1 if stage == 1 else 2)
            rest = [Block(planes, planes, 1) for _ in range(blocks_per_stage - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        return self.linear(x.mean(dim=(2, 3)))


def resnet(depth: int = 56, num_classes: int = 10) -> nn.Module:
    return ResNet((depth - 2) // 6, num_classes)


def linear(in_features: int = 12, num_classes: int = 3) -> nn.Module:
    """Random weights, in training mode, in double precision: what a careless function returns."""
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(in_features, num_classes)).double()


def not_a_network() -> str:
    return "a network"


def tuple_of_logits() -> nn.Module:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (torch.zeros(len(x), 3),)

    return Wrapped()

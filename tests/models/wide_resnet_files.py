"""Files as meliketoy/wide-resnet.pytorch saves them: the whole network pickled, by classes that are not installed."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODULE = "networks.wide_resnet"

# A reference in other words than raycp's, whose source the old torch format wants in a file.
SOURCE = """
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu


class wide_basic(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, after, 3, 1, 1)
        self.dropout = nn.Dropout(0.3)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), nn.Conv2d(after, after, 3, stride, 1)
        self.shortcut = nn.Sequential()
        if before != after or stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride))

    def forward(self, x):
        y = self.conv1(relu(self.bn1(x)))
        y = self.conv2(relu(self.bn2(self.dropout(y))))
        return y + self.shortcut(x)


class Wide_ResNet(nn.Module):
    def __init__(self, depth, factor, classes):
        super().__init__()
        count, k = (depth - 4) // 6, factor
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1)
        self.layer1 = nn.Sequential(*[wide_basic(16 if i == 0 else 16 * k, 16 * k, 1) for i in range(count)])
        self.layer2 = nn.Sequential(*[wide_basic((32 if i else 16) * k, 32 * k, 1 if i else 2) for i in range(count)])
        self.layer3 = nn.Sequential(*[wide_basic((64 if i else 32) * k, 64 * k, 1 if i else 2) for i in range(count)])
        self.bn1 = nn.BatchNorm2d(64 * k, momentum=0.9)
        self.linear = nn.Linear(64 * k, classes)

    def forward(self, x):
        y = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.linear(avg_pool2d(relu(self.bn1(y)), 8).flatten(1))
"""


@contextmanager
def networks_package(folder: Path) -> Iterator[types.ModuleType]:
    """Import SOURCE as `networks.wide_resnet` for as long as it is needed."""
    package = folder / "networks"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "wide_resnet.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    try:
        __import__(MODULE)
        yield sys.modules[MODULE]
    finally:
        sys.path.remove(str(folder))
        for name in ("networks", MODULE):
            sys.modules.pop(name, None)


def random_network(module: types.ModuleType, depth: int = 10, factor: int = 2, classes: int = 7) -> nn.Module:
    """Seeded weights, with statistics that a forgotten buffer would show in."""
    torch.manual_seed(0)
    network: nn.Module = module.Wide_ResNet(depth, factor, classes).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return network


def save(path: Path, content: Any, zipped: bool) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

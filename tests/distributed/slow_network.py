"""A user's network for tests: linear, deterministic, and as slow as asked, so that there is time to kill things."""

from __future__ import annotations

import os
import time
from functools import cached_property
from pathlib import Path

import torch
from torch import nn


class SlowLinear(nn.Module):
    """Logits W x of an 8x8 grey image, W from a fixed seed, after `seconds` of sleep per batch."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(10, 64, generator=generator))
            self.linear.bias.zero_()
        self.seconds = seconds

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, 10]."""
        time.sleep(self.seconds)
        logits: torch.Tensor = self.linear(x_BCHW.flatten(1))
        return logits


class Failing(SlowLinear):
    """Raises on every image whose mean is above a threshold, or returns NaN there."""

    def __init__(self, nan: bool, threshold: float) -> None:
        super().__init__(0.0)
        self.nan = nan
        self.threshold = threshold

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, 10]."""
        logits = super().forward(x_BCHW)
        bad_B = x_BCHW.mean(dim=(1, 2, 3)) > self.threshold
        if self.nan:
            logits[bad_B] = float("nan")
        elif bad_B.any():
            raise RuntimeError("this network cannot stand bright images")
        return logits


def slow(seconds: float = 0.0) -> nn.Module:
    """A `SlowLinear`."""
    return SlowLinear(seconds)


def failing(nan: bool = False, threshold: float = 0.5) -> nn.Module:
    """A `Failing`."""
    return Failing(nan, threshold)


class Counting(SlowLinear):
    """Leaves a byte in a file of its process for every batch it begins: what was really drawn, killed or not."""

    def __init__(self, seconds: float, folder: str) -> None:
        super().__init__(seconds)
        self.folder = folder

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, 10]."""
        with (Path(self.folder) / f"{os.getpid()}-{self.started}").open("ab") as file:
            file.write(b".")
        return super().forward(x_BCHW)

    @cached_property
    def started(self) -> float:
        """Process ids come again."""
        return time.time()


def counting(seconds: float, folder: str) -> nn.Module:
    """A `Counting`."""
    return Counting(seconds, folder)

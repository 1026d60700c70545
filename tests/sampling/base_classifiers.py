"""Base classifiers for tests: one that is exact on every batch shape, a small real network, and faulty ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from raycp.sampling.base_classifier import BaseClassifier

CPU = torch.device("cpu")


def of(
    classify: Callable[[torch.Tensor], torch.Tensor],
    purify: Callable[[torch.Tensor, float], torch.Tensor] = lambda x, sigma: x,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> BaseClassifier:
    return BaseClassifier(purify, classify, CPU, dtype, channels_last)


def residue_logits(num_classes: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Class = sum of the 8-bit values modulo K, in integers: the same whatever the batch."""

    def classify(x_BCHW: torch.Tensor) -> torch.Tensor:
        value_B = (x_BCHW.double() * 255).round().long().flatten(1).sum(1)
        return nn.functional.one_hot(value_B % num_classes, num_classes).float()

    return classify


def small_network(channels: int, num_classes: int, channels_last: bool = False) -> nn.Module:
    """Convolutions, normalisation, attention-like matrix products; weights from a seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(num_classes),
        ).eval()
        network(torch.zeros(1, channels, 8, 8))
    network = network.requires_grad_(False)
    return network.to(memory_format=torch.channels_last) if channels_last else network


class BlurringPurifier(nn.Module):
    """A convolution on the noisy image, blended in by the noise level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            nn.init.normal_(self.conv.weight, std=0.2)
        self.requires_grad_(False)

    def forward(self, x_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
        return x_BCHW - sigma * torch.tanh(self.conv(x_BCHW))

"""A small residual network for images of 8 to 64 pixels: the classifier that raycp trains itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualClassifier(nn.Module):
    """Pre-activation residual network with group normalisation.

    One stage per width; every stage but the first halves the resolution. Group instead of batch normalisation: the
    network is the same function in training and evaluation, for any batch size, and an average of its weights over
    training needs no second pass for running statistics.

    Source: the blocks of He et al. 2016, arXiv 1603.05027, with Wu & He 2018, arXiv 1803.08494, for batch
    normalisation.

    Args:
        num_classes: number of logits K.
        in_channels: channels of the images.
        widths: channels of each stage, each a multiple of `groups`.
        blocks: residual blocks per stage.
        groups: groups of each normalisation.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256),
        blocks: int = 2,
        groups: int = 8,
    ) -> None:
        super().__init__()
        if not widths or blocks < 1 or any(width % groups for width in widths):
            raise ValueError(
                f"widths must be multiples of groups ({groups}) and blocks at least 1, got {list(widths)} and {blocks}."
            )
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.architecture = {"widths": list(widths), "blocks": blocks, "groups": groups}
        """What rebuilds the network, together with num_classes and in_channels; plain JSON values."""
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        channels, layers = widths[0], []
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(channels, width, stride, groups))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(groups, channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of normalised images [B,C,H,W]."""
        h_BCHW = self.blocks(self.stem(x_BCHW))
        h_BC = F.relu(self.norm(h_BCHW)).mean(dim=(2, 3))
        logits_BK: Tensor = self.head(h_BC)
        return logits_BK


class _Block(nn.Module):
    def __init__(self, in_channels: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        # Every block starts as its shortcut, which keeps deep stacks trainable at large learning rates.
        nn.init.zeros_(self.conv2.weight)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Conv2d(in_channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(h))))
        # As in pre-activation networks, a projection sees the activated input and an identity the raw one.
        return residual + (x if self.shortcut is None else self.shortcut(h))

"""A classifier network with everything between it and a pixel image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.config.models import Resize


class Classifier(nn.Module):
    """Pixels in [0, 1] to logits: truncation if wanted, resize, then `(x - mean)/std`, then the network.

    Values outside [0, 1], which noise and purification leave, are passed on: nothing is clipped.

    Args:
        network: [B,C,H,W] -> logits [B,K]; may be replaced by an equivalent one (compiled, another memory format).
        num_classes: K.
        in_channels: C; None when only the network knows.
        resize: how to resize; None keeps the size.
        mean: one value per channel, pixel units; None: no normalisation.
        std: one value per channel, pixel units; given exactly when `mean` is.
        truncate: cut pixels to whole 255ths, towards zero, before the resize (see `truncated`).
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        in_channels: int | None = None,
        resize: Resize | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        truncate: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.resize = resize
        self.truncate = truncate
        for name, values in (("mean", mean), ("std", std)):
            tensor = None if values is None else torch.tensor(values).view(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of images [B,C,H,W] in pixel units."""
        if self.truncate:
            x_BCHW = truncated(x_BCHW)
        if self.resize is not None:
            x_BCHW = resized(x_BCHW, self.resize)
        if self.mean is not None and self.std is not None:
            x_BCHW = (x_BCHW - self.mean) / self.std
        logits_BK: Tensor = self.network(x_BCHW)
        return logits_BK


def resized(x_BCHW: Tensor, resize: Resize) -> Tensor:
    """Resize images to [B,C,size,size] by `torch.nn.functional.interpolate`, pixel centres aligned.

    Antialiasing has no meaning for nearest neighbours and is left out there. Bicubic values may overshoot [0, 1].
    """
    size = (resize.size, resize.size)
    if resize.interpolation == "nearest":
        return F.interpolate(x_BCHW, size, mode="nearest-exact")
    return F.interpolate(
        x_BCHW, size, mode=resize.interpolation, align_corners=False, antialias=resize.antialias
    )


def truncated(x_BCHW: Tensor) -> Tensor:
    """Cut pixels to whole 255ths, towards zero; values outside [0, 1] stay there.

    The product with 255 is rounded, so that a few values that are 255ths already lose one (8 of the 6,000 about zero in
    float32). Li et al. (2024) do it with other roundings, on pixels in [-1, 1].

    Source: the code of Li et al. 2024, arXiv 2407.00623, before their ViT.
    """
    return (x_BCHW * 255).trunc() / 255

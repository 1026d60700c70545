"""The Inception network behind published FID figures, from the file that pytorch-fid and torch-fidelity read."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.errors import ModelError

SIZE = 299


class FidInception(nn.Module):
    """Inception v3 as TensorFlow released it on 2015-12-05, without what comes after its pooling.

    Differs from torchvision's Inception v3 in 1008 outputs, in average pools that leave padding out of the average,
    and in a maximum where the last block has an average. Images are resized as TensorFlow 1 does, without aligning
    pixel centres, and mapped by `(255 x - 128) / 128`.

    Source: Heusel et al. 2017, arXiv 1706.08500; the differences as in pytorch-fid (mseitzer/pytorch-fid) and
    torch-fidelity (toshas/torch-fidelity), whose weights files have one SHA-256, 6726825d.... Resizing follows
    torch-fidelity, that is, torchmetrics; pytorch-fid resizes with aligned pixel centres, and its figures differ.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import inception

        self.network = inception.Inception3(
            num_classes=1008,
            aux_logits=False,
            init_weights=False,
            inception_blocks=[
                inception.BasicConv2d,
                _with_pool(inception.InceptionA, _mean_of_3x3),
                inception.InceptionB,
                _with_pool(inception.InceptionC, _mean_of_3x3),
                inception.InceptionD,
                _last_blocks,
                inception.InceptionAux,
            ],
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B, 1008] of images [B, C, H, W] in [0, 1], C 1 or 3."""
        if x_BCHW.shape[1] not in (1, 3):
            raise ModelError(f"the Inception network sees images of 1 or 3 channels, got {x_BCHW.shape[1]}.")
        resized = resize_like_tensorflow_1(255 * x_BCHW.expand(-1, 3, -1, -1), SIZE)
        logits_BK: Tensor = self.network((resized - 128) / 128)
        return logits_BK


def resize_like_tensorflow_1(x_BCHW: Tensor, size: int) -> Tensor:
    """Bilinear, with the corner of a pixel as its place: output pixel i lies at input pixel `i * (old / new)`."""
    for dim in (2, 3):
        old = x_BCHW.shape[dim]
        place = torch.arange(size, dtype=torch.float32, device=x_BCHW.device) * (old / size)
        low = place.long()
        high = (low + 1).clamp(max=old - 1)
        weight = (place - low).view((-1, 1) if dim == 2 else (-1,))
        below = x_BCHW.index_select(dim, low)
        x_BCHW = below + (x_BCHW.index_select(dim, high) - below) * weight
    return x_BCHW


def _mean_of_3x3(x_BCHW: Tensor) -> Tensor:
    return F.avg_pool2d(x_BCHW, kernel_size=3, stride=1, padding=1, count_include_pad=False)


def _maximum_of_3x3(x_BCHW: Tensor) -> Tensor:
    return F.max_pool2d(x_BCHW, kernel_size=3, stride=1, padding=1)


def _with_pool(block: type[nn.Module], pool: Callable[[Tensor], Tensor]) -> type[nn.Module]:
    """A block of torchvision's whose pooling branch, the last of its outputs, pools in another way."""

    class Pooled(block):  # type: ignore[misc,valid-type]
        def _forward(self, x: Tensor) -> list[Tensor]:
            return [*super()._forward(x)[:-1], self.branch_pool(pool(x))]

    return Pooled


def _last_blocks(in_channels: int) -> nn.Module:
    """The last two blocks; the very last one takes the maximum."""
    from torchvision.models.inception import InceptionE

    return _with_pool(InceptionE, _maximum_of_3x3 if in_channels == 2048 else _mean_of_3x3)(in_channels)

"""Distances between images, per image: pixels, or the features of a classifier as LPIPS compares them.

Shapes: B images; features [B, C_l, H_l, W_l] of layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Features = Callable[[Tensor], Sequence[Tensor]]
Distance = Callable[[Tensor, Tensor], Tensor]

_EPS = 1e-8


def l1(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mean absolute difference, [B]."""
    return (x_BCHW - y_BCHW).abs().mean(dim=(1, 2, 3))


def l2(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mean squared difference, [B]."""
    return (x_BCHW - y_BCHW).square().mean(dim=(1, 2, 3))


def lpips_on(features: Features) -> Distance:
    """The LPIPS form of distance on any network's features, without learned weights.

    `sum_l mean_{h,w} |u_l(x) - u_l(y)|^2`, u_l the features of layer l scaled to unit norm over their channels. The
    scale is `1/sqrt(|f|^2 + eps)`, so the gradient is finite where a feature vanishes, and at identical images.

    Source: Zhang et al. 2018, arXiv 1801.03924, equation 1. Deviation: all channel weights are 1, and the network is
    a classifier of the domain, for images too small or too grey for ImageNet backbones.
    """

    def distance(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        total = x_BCHW.new_zeros(len(x_BCHW))
        for f, g in zip(features(x_BCHW), features(y_BCHW), strict=True):
            total = total + (_unit(f) - _unit(g)).square().sum(dim=1).mean(dim=(1, 2))
        return total

    return distance


def _unit(f_BCHW: Tensor) -> Tensor:
    return f_BCHW * torch.rsqrt(f_BCHW.square().sum(dim=1, keepdim=True) + _EPS)

"""A denoiser on a batch whose elements have their own noise levels and classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from raycp.config.models import DenoiserModel
from raycp.models import Denoiser, build_denoiser, read_denoiser


class Denoised(NamedTuple):
    """`D(x; sigma)` or `f(x, sigma)`, the network's output, both [B,C,H,W], and what it was told of the noise [B]."""

    image: Tensor
    output: Tensor
    conditioning: Tensor


class Call(NamedTuple):
    """A network's arguments, and its output."""

    arguments: tuple[Any, ...]
    output: Any


def read(folder: Path, class_label: Literal["none"] | int | None) -> Denoiser:
    """The denoiser in a model folder, with a class if it is class-conditional."""
    return build_denoiser(read_denoiser(DenoiserModel(path=str(folder), class_label=class_label)))


def denoised(
    denoiser: Denoiser, x_BCHW: Tensor, sigmas: Sequence[float], labels_B: Tensor | None = None
) -> Denoised:
    """Each image at its own noise level, model units, and with its own class.

    Args:
        denoiser: an edm or a consistency model.
        x_BCHW: noisy images.
        sigmas: B noise levels.
        labels_B: classes; None leaves the denoiser as it is.
    """
    images = []
    with calls_of(denoiser.network) as calls:
        for i, sigma in enumerate(sigmas):
            label = None if labels_B is None else labels_B[i : i + 1]
            images.append(denoiser(x_BCHW[i : i + 1], sigma, label))
    return Denoised(
        torch.cat(images),
        torch.cat([call.output[0] for call in calls]),
        torch.cat([call.arguments[1] for call in calls]),
    )


@contextmanager
def calls_of(network: nn.Module) -> Iterator[list[Call]]:
    """What a network is called with and returns while this lasts."""
    calls: list[Call] = []
    hook = network.register_forward_hook(lambda _, inputs, output: calls.append(Call(inputs, output)))
    try:
        yield calls
    finally:
        hook.remove()

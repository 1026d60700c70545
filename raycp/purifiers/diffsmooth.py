"""A denoised image in several local Gaussian copies, and the mean of the classifier's softmax over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from raycp.purifiers.combine import mean_softmax
from raycp.purifiers.pixels import PixelPurifier


class CopyNoise(Protocol):
    """Standard normal numbers by the number of a draw."""

    def __call__(self, draw: int) -> Tensor:
        """[B,C,H,W], of each sample its own."""
        ...

    def shared(self, draw: int) -> Tensor:
        """[1,C,H,W], of all samples the same."""
        ...


@dataclass(frozen=True)
class DiffSmooth:
    """`F(x) = mean_j softmax(f(D(x) + local_sigma n_j))`, j = 1 .. m, where D is one-step denoising.

    Nothing is clipped after the copies' noise.

    Source: Zhang et al. 2023, arXiv 2308.14333, as in the authors' code, where the n_j are one draw for all samples.
    """

    purify: PixelPurifier
    num_copies: int
    local_sigma: float
    """Pixel units."""
    fixed: bool
    """Whether all samples have the same m noises."""

    def images(self, x_BCHW: Tensor, sigma: float, noise: CopyNoise) -> Iterator[Tensor]:
        """The m copies, [B,C,H,W] each, pixel units; see `PixelPurifier` for the arguments and errors."""
        clean_BCHW = self.purify(x_BCHW, sigma)
        for copy in range(self.num_copies):
            n = noise.shared(copy) if self.fixed else noise(copy)
            yield clean_BCHW + self.local_sigma * n

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """See `mean_softmax`."""
        return mean_softmax(logits)

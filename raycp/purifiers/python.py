"""A user's own purifier, held to the contract of all purifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raycp.config.models import PythonPurifier
from raycp.errors import ModelError
from raycp.models.python_purifier import draws


@dataclass(frozen=True)
class Contract:
    """What is required of every image that a user's purifier returns.

    Attributes:
        factory: its name, for messages.
        clip: clip the result to [0, 1]; otherwise nothing is clipped, as for the other purifiers.
    """

    factory: str
    clip: bool

    def image(self, purified: Any, x_BCHW: Tensor) -> Tensor:
        """The image without gradient, float32 or what autocast made of it.

        Args:
            purified: what the user's code returned.
            x_BCHW: the noisy images.

        Raises:
            ModelError: it is no float tensor of the shape, and on the device, of the noisy images.
        """
        if not isinstance(purified, Tensor):
            raise self._error(f"must return a tensor of images, got a {type(purified).__name__}")
        if purified.shape != x_BCHW.shape:
            raise self._error(f"must keep the shape {list(x_BCHW.shape)}, got {list(purified.shape)}")
        if not purified.is_floating_point():
            raise self._error(f"must return floats in [0,1], got {purified.dtype}")
        if purified.device != x_BCHW.device:
            raise self._error(f"must leave images on {x_BCHW.device}, got them on {purified.device}")
        image = purified.detach()
        if image.dtype == torch.float64:
            image = image.float()
        return image.clamp(0, 1) if self.clip else image

    def logits(self, combined: Any, logits: Sequence[Tensor]) -> Tensor:
        """What `combine` returned; see `RandomPurifier`."""
        if not logits:
            raise self._error("must yield one image or more from images(x, sigma, noise), got none")
        if not isinstance(combined, Tensor) or combined.shape != logits[0].shape:
            got = list(combined.shape) if isinstance(combined, Tensor) else f"a {type(combined).__name__}"
            raise self._error(f"must combine logits to {list(logits[0].shape)}, got {got}")
        # A broken image is no vote, whatever was made of its logits.
        finite_B = torch.stack(tuple(logits)).isfinite().all(dim=2).all(dim=0)
        return torch.where(finite_B[:, None], combined.float(), torch.nan)

    def _error(self, text: str) -> ModelError:
        return ModelError(f"purifier.factory: the purifier of {self.factory} {text}.")


@dataclass(frozen=True)
class OwnPurifier:
    """A user's function of noisy images and sigma; see `Contract`."""

    function: Callable[[Tensor, float], Any]
    contract: Contract

    def __call__(self, x_BCHW: Tensor, sigma: float) -> Tensor:
        """Purified images [B,C,H,W], pixel units."""
        return self.contract.image(self.function(x_BCHW, float(sigma)), x_BCHW)


@dataclass(frozen=True)
class OwnRandomPurifier:
    """A user's `RandomPurifier`; see `Contract`."""

    own: Any
    contract: Contract

    def images(self, x_BCHW: Tensor, sigma: float, noise: Callable[[int], Tensor]) -> Iterator[Tensor]:
        """Its images, [B,C,H,W] each, pixel units."""
        empty = True
        for image in self.own.images(x_BCHW, float(sigma), noise):
            empty = False
            yield self.contract.image(image, x_BCHW)
        if empty:
            self.contract.logits(None, [])

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits [B,K] of the samples."""
        return self.contract.logits(self.own.combine(logits), logits)


def hold_to_contract(config: PythonPurifier, own: Any) -> OwnPurifier | OwnRandomPurifier:
    """The user's object as a purifier, or as one that draws."""
    contract = Contract(config.factory, config.clip)
    if draws(own):
        return OwnRandomPurifier(own, contract)
    return OwnPurifier(own, contract)


def network_of(own: Any) -> nn.Module | None:
    """Whose calls are counted as evaluations: its attribute `network`, else itself; None where neither is a module."""
    candidates = (getattr(own, "network", None), own)
    return next((item for item in candidates if isinstance(item, nn.Module)), None)

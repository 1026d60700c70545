"""Pixel units and model units: the only place that converts between them.

Images and `sigma` of smoothing are in pixel units, [0, 1]. Diffusion models live in [-1, 1], where the same noise has
the standard deviation `sigma_model = 2 sigma`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raycp.errors import ModelError

# (x_BCHW, sigma) -> purified [B,C,H,W], pixel units.
Purifier = Callable[[Tensor, float], Tensor]

# (x_BCHW, sigma_model, classes_B or None) -> estimate of the clean image [B,C,H,W], model units.
Estimator = Callable[[Tensor, float, Tensor | None], Tensor]


@dataclass(frozen=True)
class ModelUnits:
    """From pixel units into the units of a model, and back."""

    sigma_min: float
    """Smallest noise level the model knows, model units."""
    sigma_max: float
    """Largest noise level the model knows, model units."""

    def enter(self, x_BCHW: Tensor, sigma: float) -> tuple[Tensor, float]:
        """Images and noise level in model units.

        Raises:
            ModelError: `2 sigma` is outside the noise levels of the model.
        """
        sigma_model = 2 * sigma
        if not self.sigma_min <= sigma_model <= self.sigma_max:
            raise ModelError(
                f"sigma = {sigma} on images in [0,1] is {sigma_model} in the units of the purifier's model, whose "
                f"noise levels go from {self.sigma_min:g} to {self.sigma_max:g}; allowed are sigmas from "
                f"{self.sigma_min / 2:g} to {self.sigma_max / 2:g}."
            )
        return 2 * x_BCHW - 1, sigma_model

    def leave(self, x_BCHW: Tensor) -> Tensor:
        """Images in pixel units."""
        return (x_BCHW + 1) / 2


@dataclass(frozen=True)
class PixelPurifier:
    """A purifier that works in model units, called in pixel units."""

    estimate: Estimator
    units: ModelUnits
    clip: bool
    """Clip the result to the range of images; otherwise nothing is clipped, as in the published purifiers."""

    def __call__(self, x_BCHW: Tensor, sigma: float, labels_B: Tensor | None = None) -> Tensor:
        """Remove Gaussian noise of standard deviation `sigma`.

        Args:
            x_BCHW: noisy images, pixel units, not clipped.
            sigma: standard deviation of their noise, pixel units.
            labels_B: a class for each image, int64, for a class-conditional model; None: the model's own.

        Returns:
            [B,C,H,W], pixel units.

        Raises:
            ModelError: `2 sigma` is outside the noise levels of the model.
        """
        estimate_BCHW = self.estimate(*self.units.enter(x_BCHW, sigma), labels_B)
        if self.clip:
            estimate_BCHW = estimate_BCHW.clamp(-1, 1)
        return self.units.leave(estimate_BCHW)


@dataclass(frozen=True)
class PredictedClassPurifier:
    """A class-conditional model told the class that the classifier sees in what it purified without knowing it."""

    purify: PixelPurifier
    classify: Callable[[Tensor], Tensor]
    """Images [B,C,H,W], pixel units, to logits [B,K]."""

    def __call__(self, x_BCHW: Tensor, sigma: float) -> Tensor:
        """Purify twice; see `PixelPurifier`. NaN where a logit of the first time is not finite: it says no class."""
        logits_BK = self.classify(self.purify(x_BCHW, sigma))
        purified_BCHW = self.purify(x_BCHW, sigma, logits_BK.argmax(dim=1))
        predicted_B = logits_BK.isfinite().all(dim=1)
        return torch.where(predicted_B[:, None, None, None], purified_BCHW, torch.nan)


def unpurified(x_BCHW: Tensor, sigma: float) -> Tensor:
    """The noisy image itself: plain randomized smoothing."""
    return x_BCHW

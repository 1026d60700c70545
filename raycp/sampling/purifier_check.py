"""A few images through a user's purifier, before any work is spent on it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raycp.errors import ModelError
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.inner_noise import InnerNoise, inner_noise_by_place

_SAMPLES = 2
# Roundings may depend on the place in a batch: `Kernel.self_test` judges that at the run's own batch shape. What
# couples samples, such as batch statistics, changes more.
_TOLERANCE = 1e-3
# What Python and torch raise on an input that code was not made for.
_REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


def check_purifier(
    base: BaseClassifier, other: BaseClassifier, image_CHW: Tensor, sigmas: Sequence[float], factory: str
) -> None:
    """Hold the purifier of a base classifier to being one function of a noisy image, sigma and its inner noise.

    Args:
        base: the base classifier.
        other: the same, built anew.
        image_CHW: an image of the data set, float32 in [0, 1], on the CPU as both are.
        sigmas: noise levels of the run, pixel units.
        factory: the purifier's, for messages.

    Raises:
        ModelError: it fails; changes its input; returns what is no image, or not finite; returns other images the
            second time, or built anew; or what it makes of a sample depends on the others of its batch.
    """
    clean_BCHW = image_CHW.expand(_SAMPLES, *image_CHW.shape)
    normal_BCHW = torch.randn(clean_BCHW.shape, generator=torch.Generator().manual_seed(0))
    inner = inner_noise_by_place(clean_BCHW)
    for sigma in sigmas:
        x_BCHW = clean_BCHW + sigma * normal_BCHW
        kept = x_BCHW.clone()
        first = _purified(base, x_BCHW, sigma, inner, factory)
        if not torch.equal(x_BCHW, kept):
            raise _error(
                factory, sigma, "changes the images that it is given; let it work on a copy, x.clone()"
            )
        if not bool(first.isfinite().all()):
            raise _error(factory, sigma, "returns NaN or infinite pixels for the checked image")
        if not torch.equal(first, _purified(base, x_BCHW, sigma, inner, factory)):
            raise _error(
                factory,
                sigma,
                "returns other images the second time: it draws random numbers or keeps a state. Random numbers must "
                "come from `noise` of images(x, sigma, noise), so that a sample is drawn the same wherever it is drawn",
            )
        if not torch.equal(first, _purified(other, x_BCHW, sigma, inner, factory)):
            raise _error(
                factory,
                sigma,
                "returns other images when it is built anew, as on every replica: what is random in building it must "
                "come from torch's generator, which is seeded, or from a file",
            )
        swapped = _purified(base, x_BCHW.flip(0), sigma, inner.rows(np.array([1, 0])), factory)
        beside_zeros = torch.cat([x_BCHW[:1], torch.zeros_like(x_BCHW[1:])])
        alone = _purified(base, beside_zeros, sigma, inner.rows(np.array([0])).padded(_SAMPLES), factory)
        worst = max(_apart(swapped.flip(1), first), _apart(alone[:, :1], first[:, :1]))
        if worst > _TOLERANCE * max(1.0, float(first.abs().max())):
            raise _error(
                factory,
                sigma,
                f"makes something else of an image when others are beside it in the batch (by up to {worst:.2g}): "
                "batch normalisation in training mode, a mean or maximum over the batch, or random numbers by place. "
                "Return the network itself, which is then put into evaluation mode, and treat every image by itself",
            )


def _apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference; infinite where the numbers of images differ, or one is NaN."""
    if found.shape != expected.shape:
        return math.inf
    return float((found - expected).abs().max().nan_to_num(nan=math.inf, posinf=math.inf))


def _purified(base: BaseClassifier, x_BCHW: Tensor, sigma: float, noise: InnerNoise, factory: str) -> Tensor:
    """All images of all samples, [M, B, C, H, W]."""
    if base.channels_last:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            return torch.stack([image.float() for image in base.purified(x_BCHW, sigma, noise)])
    except _REFUSALS as err:
        shape = "x".join(map(str, x_BCHW.shape))
        raise ModelError(
            f"purifier.factory: the purifier of {factory} fails on {shape} images at sigma = {sigma}{_place(err)}: "
            f"{type(err).__name__}: {err}"
        ) from err


def _place(err: BaseException) -> str:
    """The last line outside torch and raycp that an error came through."""
    ours = (Path(torch.__file__).parent, Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(err.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in ours)
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _error(factory: str, sigma: float, text: str) -> ModelError:
    return ModelError(f"purifier.factory: at sigma = {sigma} the purifier of {factory} {text}.")

"""One image through the assembled base classifier, before any work is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raycp.errors import ModelError
from raycp.models.base_classifier import Classifier
from raycp.models.denoiser import Denoiser

# What torch modules raise on an input they were not made for.
_REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, LookupError)


def check_models(
    purify: Callable[[Tensor, float], Tensor],
    denoiser: Denoiser | None,
    classifier: Classifier,
    image_CHW: Tensor,
    sigmas: Sequence[float],
) -> None:
    """Purify and classify one image at every sigma.

    Args:
        purify: the purifier, pixel units.
        denoiser: the model inside it, if any.
        classifier: pixels to logits.
        image_CHW: an image of the data set, float in [0, 1], on the device of the models.
        sigmas: noise levels of the run, pixel units.

    Raises:
        ModelError: channels or size of the images do not fit a network, a sigma is outside the purifier's range, the
            number of logits is not the number of classes, or a logit is NaN or infinite.
    """
    shape = "x".join(map(str, image_CHW.shape))
    _require_channels(image_CHW.shape[0], shape, denoiser, classifier)
    if denoiser is not None and denoiser.class_predicted and denoiser.num_classes != classifier.num_classes:
        raise ModelError(
            f"purifier.model.class_label is predicted, but the purifier's network knows {denoiser.num_classes} classes "
            f"and the classifier {classifier.num_classes}; they must be the same ones."
        )
    for sigma in sigmas:
        with torch.no_grad():
            try:
                purified_BCHW = purify(image_CHW[None], sigma)
            except _REFUSALS as err:
                raise ModelError(
                    f"the purifier's network (purifier.model.path) fails on {shape} images: {err}"
                ) from err
            if purified_BCHW.shape != (1, *image_CHW.shape):
                raise ModelError(
                    f"the purifier (purifier.model.path) turns a {shape} image into one of "
                    f"{tuple(purified_BCHW.shape[1:])}; it must keep the shape."
                )
            try:
                logits_BK = classifier(purified_BCHW)
            except _REFUSALS as err:
                raise ModelError(
                    f"the classifier's network fails on {shape} images: {err} (classifier.resize changes the size it "
                    "sees)."
                ) from err
        _require_logits(logits_BK, classifier.num_classes, sigma)


def check_core(core: Classifier, image_CHW: Tensor) -> None:
    """Let the core of a composition classify one image.

    Args: see `check_models`.

    Raises:
        ModelError: as there, of `composition.core`.
    """
    shape = "x".join(map(str, image_CHW.shape))
    if core.in_channels is not None and core.in_channels != image_CHW.shape[0]:
        raise ModelError(
            f"the images are {shape}, {image_CHW.shape[0]} channel(s), but composition.core (in_channels, mean and "
            f"std) takes {core.in_channels}: choose the network or the data set so that they agree."
        )
    with torch.no_grad():
        try:
            logits_BK = core(image_CHW[None])
        except _REFUSALS as err:
            raise ModelError(
                f"the network of composition.core fails on {shape} images: {err} (composition.core.resize changes the "
                "size it sees)."
            ) from err
    if not isinstance(logits_BK, Tensor) or logits_BK.shape != (1, core.num_classes):
        got = list(logits_BK.shape) if isinstance(logits_BK, Tensor) else type(logits_BK).__name__
        raise ModelError(
            f"composition.core must return logits [1, {core.num_classes}] for one image "
            f"(composition.core.num_classes), got {got}."
        )
    if not bool(torch.isfinite(logits_BK).all()):
        raise ModelError(
            "composition.core returns NaN or infinite logits for the checked image; look for NaN in its weights."
        )


def _require_channels(channels: int, shape: str, denoiser: Denoiser | None, classifier: Classifier) -> None:
    networks = [("the classifier's network", "classifier.in_channels, mean and std", classifier.in_channels)]
    if denoiser is not None:
        networks.insert(0, ("the purifier's network", "purifier.model.path", denoiser.channels))
    for name, key, expected in networks:
        if expected is not None and expected != channels:
            raise ModelError(
                f"the images are {shape}, {channels} channel(s), but {name} ({key}) takes {expected}: choose the "
                "network or the data set so that they agree."
            )


def _require_logits(logits_BK: object, num_classes: int, sigma: float) -> None:
    if not isinstance(logits_BK, Tensor):
        raise ModelError(f"the classifier must return a tensor of logits, got a {type(logits_BK).__name__}.")
    if logits_BK.shape != (1, num_classes):
        raise ModelError(
            f"the classifier must return logits [1, {num_classes}] for one image (classifier.num_classes), "
            f"got {list(logits_BK.shape)}."
        )
    if not bool(torch.isfinite(logits_BK).all()):
        raise ModelError(
            f"the base classifier returns NaN or infinite logits for the checked image at sigma = {sigma}; look for "
            "NaN in the weights of purifier.model and classifier."
        )

"""The evaluation kernel: a packed task -> what each purified image is like, beside its clean one.

Shapes: n samples of a task, B the run's batch, V = C*H*W values per image, d features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raycp.errors import NumericsError
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import batches, inner_noise
from raycp.sampling.noise import Noise

CLEAN = 0.0
"""The noise level that stands for the clean image itself, neither noisy nor purified."""
_JUDGED_AT_ONCE = 16
"""Images that the networks of the metrics see at once: one shape, and little memory at 299 x 299 pixels."""
_TESTED = 24
"""Samples of the self-test: more than are judged at once."""


@dataclass(frozen=True)
class Measured:
    """Of n samples, in the order of their blocks.

    Attributes:
        finite: whether purified image, logits and metrics are all finite, bool [n].
        predicted: class, int64 [n].
        squared_l2: squared L2 distance to the clean image, pixel units, float64 [n].
        lpips: float64 [n]; None where it is not measured.
        features: float32 [n, d]; None where they are not wanted.
        purified: pixel units, not clipped, float32 [n, V]; None where they are not wanted.
    """

    finite: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.int64]
    squared_l2: npt.NDArray[np.float64]
    lpips: npt.NDArray[np.float64] | None
    features: npt.NDArray[np.float32] | None
    purified: npt.NDArray[np.float32] | None

    def rows(self, first: int, stop: int) -> Measured:
        """Samples `first .. stop - 1`."""
        return _per_column(lambda columns: columns[0][first:stop], [self])


def _per_column(make: Callable[[list[Any]], Any], parts: Sequence[Measured]) -> Measured:
    """`make` of each column of the parts; columns that are not measured stay None."""
    columns: dict[str, Any] = {}
    for field in fields(Measured):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else make(values)
    return Measured(**columns)


class Measurer:
    """Draws blocks, purifies them, and compares each sample with its clean image.

    Distances are between the purified image as the classifier sees it, not clipped, and the clean one; features are of
    images as a file would hold them, clipped and rounded to 8 bits.

    Args:
        base_classifier: purifier and classifier, run on batches of `batch_size` as in certification.
        noise: of the run.
        images: clean ones, [M, C, H, W], uint8 or float32 in [0, 1].
        batch_size: B.
        features: images [b, C, H, W] in [0, 1] to [b, d].
        lpips: pairs of images in model units to [b].
        keep: number of leading images whose purified pixels are wanted.
    """

    def __init__(
        self,
        base_classifier: BaseClassifier,
        noise: Noise,
        images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
        batch_size: int,
        features: Callable[[Tensor], Tensor] | None,
        lpips: Callable[[Tensor, Tensor], Tensor] | None,
        keep: int,
    ) -> None:
        self._base_classifier = base_classifier
        self._noise = noise
        self._images = images
        self._batch_size = batch_size
        self._features = features
        self._lpips = lpips
        self._keep = keep

    @torch.inference_mode()
    def run(self, sigma: float, blocks: Sequence[Block]) -> Measured:
        """Measure the samples of blocks; at sigma `CLEAN` the images themselves."""
        pixels = bool(self._keep) and sigma != CLEAN and any(block.image < self._keep for block in blocks)
        parts = [self._batch(sigma, batch, pixels) for batch in batches(blocks, self._batch_size)]
        return _per_column(np.concatenate, parts)

    def self_test(self, sigma: float) -> None:
        """Check that what is measured of a sample depends neither on its place in a batch nor on its batch mates.

        Raises:
            NumericsError: it does.
        """
        # A few samples, for the networks of the metrics are slow; `Kernel.self_test` looks at whole batches.
        n = min(self._batch_size, _TESTED)
        shift = n // 2 + 1
        whole = self.run(sigma, [Block(0, Phase.EVALUATION, 0, n)])
        moved = self.run(sigma, [Block(0, Phase.EVALUATION, shift, n)])
        for field in fields(Measured):
            ours, theirs = getattr(whole, field.name), getattr(moved, field.name)
            if ours is not None and not np.array_equal(ours[shift:], theirs[: n - shift], equal_nan=True):
                raise NumericsError(
                    f"{field.name} of a sample depends on its place in a batch of {self._batch_size} at sigma "
                    f"{sigma:g}, so an evaluation would not repeat itself. Try another numerics.batch_size, dtype "
                    "float32, or compile: false."
                )

    def _batch(self, sigma: float, batch: Sequence[Block], pixels: bool) -> Measured:
        clean = self._clean(batch)
        n = len(clean)
        purified, logits = self._purified(sigma, batch, clean)
        difference = (purified.double() - clean.double()).flatten(1)
        finite = purified.flatten(1).isfinite().all(dim=1) & logits.isfinite().all(dim=1)
        features, lpips = [], []
        for first in range(0, n, _JUDGED_AT_ONCE):
            part = slice(first, first + _JUDGED_AT_ONCE)
            length = len(clean[part])
            shown, reference = _filled(purified[part]), _filled(clean[part])
            if self._features is not None:
                features.append(self._features((shown.clamp(0, 1) * 255).round() / 255)[:length].float())
            if self._lpips is not None and sigma != CLEAN:
                lpips.append(self._lpips(2 * shown - 1, 2 * reference - 1)[:length].double())
        lpips_n = torch.cat(lpips) if lpips else None
        features_nd = torch.cat(features) if features else None
        if lpips_n is not None:
            finite &= lpips_n.isfinite()
        if features_nd is not None:
            finite &= features_nd.isfinite().all(dim=1)
        return Measured(
            finite=finite.cpu().numpy(),
            predicted=logits.argmax(dim=1).cpu().numpy(),
            squared_l2=difference.square().sum(dim=1).cpu().numpy(),
            lpips=None if lpips_n is None else lpips_n.cpu().numpy(),
            features=None if features_nd is None else features_nd.cpu().numpy(),
            purified=purified.flatten(1).float().cpu().numpy() if pixels else None,
        )

    def _clean(self, batch: Sequence[Block]) -> Tensor:
        rows = np.repeat([block.image for block in batch], [block.num_samples for block in batch])
        stored = torch.from_numpy(self._images[rows]).to(self._base_classifier.device)
        return stored.float().div_(255) if stored.dtype == torch.uint8 else stored

    def _purified(self, sigma: float, batch: Sequence[Block], clean: Tensor) -> tuple[Tensor, Tensor]:
        """Purified images and logits of the batch's samples."""
        n, missing = len(clean), self._batch_size - len(clean)
        x = clean if sigma == CLEAN else self._noise(sigma, batch)
        x = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        if sigma == CLEAN:
            return clean, self._base_classifier.classified(x)[:n]
        inner = inner_noise(self._base_classifier, self._noise, sigma, batch, self._batch_size)
        purified, logits = self._base_classifier.purify_and_classify(x, sigma, inner)
        return purified[:n], logits[:n]


def _filled(x: Tensor) -> Tensor:
    """Images brought to `_JUDGED_AT_ONCE`, so that the networks of the metrics see one shape."""
    return torch.cat([x, x.new_zeros(_JUDGED_AT_ONCE - len(x), *x.shape[1:])])

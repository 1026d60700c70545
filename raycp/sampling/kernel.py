"""The Monte Carlo kernel: a task of blocks in, counts out, in batches of one constant shape.

Shapes: B batch size, K classes, O outcomes, R blocks of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raycp.errors import NumericsError
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.composition import Composition, normalised_entropy
from raycp.sampling.inner_noise import InnerNoise
from raycp.sampling.noise import Noise


@dataclass(frozen=True)
class Examples:
    """One noisy sample of each of E images, for looking at.

    Attributes:
        noisy, purified: float32 [E, C, H, W], pixel units, not clipped.
        predicted: int64 [E], class of the purified sample.
    """

    noisy: npt.NDArray[np.float32]
    purified: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.int64]


class Kernel:
    """Draws blocks and counts outcomes: classes or, for a composition, choices of its selector and classes.

    Every batch has the shape [batch_size, C, H, W]: the last one of a task is padded and its padding not counted, so
    the base classifier is the same function for every sample. Counts stay on the device until the task ends.

    Args:
        base_classifier: what happens to a noisy image.
        noise: makes them.
        num_classes: K.
        batch_size: B.
        composition: with it, outcomes are those of `raycp.sampling.composition`, and the core answers blocks of its
            phase.
    """

    def __init__(
        self,
        base_classifier: BaseClassifier,
        noise: Noise,
        num_classes: int,
        batch_size: int,
        composition: Composition | None = None,
    ) -> None:
        self._base_classifier = base_classifier
        self._noise = noise
        self._num_classes = num_classes
        self._batch_size = batch_size
        self._device = base_classifier.device
        self._composition = composition

    def run(self, sigma: float, blocks: Sequence[Block]) -> npt.NDArray[np.int64]:
        """Counts of each block, over O outcomes: O = K classes; 2K for a composition.

        Args:
            sigma: noise level, pixel units.
            blocks: what to draw, of any images and phases; of phase CORE only for a composition.

        Returns:
            int64 [R, O + 1]; row r sums to `blocks[r].num_samples`. Column O counts samples whose logits are not all
            finite: the caller must treat a count there as an error, never as a vote.
        """
        noisy = [(row, block) for row, block in enumerate(blocks) if block.phase != Phase.CORE]
        rows_T = torch.from_numpy(
            np.repeat(np.array([row for row, _ in noisy], dtype=np.int64), [b.num_samples for _, b in noisy])
        )
        rows_T = rows_T.to(self._device)
        columns = self._num_outcomes + 1
        counts = torch.zeros(len(blocks) * columns, dtype=torch.int64, device=self._device)
        start = 0
        for batch in batches([block for _, block in noisy], self._batch_size):
            x_BCHW = self._padded(self._noise(sigma, batch))
            n = sum(block.num_samples for block in batch)
            logits_BK = self._base_classifier(x_BCHW, sigma, self._inner_noise(sigma, batch))
            assert logits_BK.shape == (self._batch_size, self._num_classes), logits_BK.shape
            slots = rows_T[start : start + n] * columns + self._outcomes(logits_BK)[:n]
            counts.scatter_add_(0, slots, torch.ones_like(slots))
            start += n
        for row, block in enumerate(blocks):
            if block.phase == Phase.CORE:
                counts[row * columns + self._core_outcome(block)] += 1
        return counts.view(len(blocks), columns).cpu().numpy()

    @property
    def _num_outcomes(self) -> int:
        return self._num_classes * (1 if self._composition is None else 2)

    def _outcomes(self, logits_BK: torch.Tensor) -> torch.Tensor:
        """The column of each sample: its outcome, or the last one where a logit is not finite."""
        composition = self._composition
        outcome_B = logits_BK.argmax(dim=1) if composition is None else composition.outcomes(logits_BK)
        return torch.where(logits_BK.isfinite().all(dim=1), outcome_B, self._num_outcomes)

    def _core_outcome(self, block: Block) -> int:
        """The column of the core's answer: its class, as an outcome of the row CORE."""
        assert self._composition is not None, "only a composition has a core"
        assert (block.first, block.num_samples) == (0, 1), block
        logits_1K = self._composition.core_logits(block.image)
        assert logits_1K.shape == (1, self._num_classes), logits_1K.shape
        return int(logits_1K.argmax()) if bool(logits_1K.isfinite().all()) else self._num_outcomes

    def examples(self, sigma: float, images: Sequence[int]) -> Examples:
        """The first estimation sample of each image, as the base classifier sees and purifies it."""
        noisy, purified, predicted = [], [], []
        blocks = [Block(image, Phase.ESTIMATION, 0, 1) for image in images]
        for batch in batches(blocks, self._batch_size):
            x = self._noise(sigma, batch)
            inner = self._inner_noise(sigma, batch)
            clean, logits = self._base_classifier.purify_and_classify(self._padded(x), sigma, inner)
            noisy.append(x.cpu().numpy())
            purified.append(clean[: len(batch)].cpu().numpy())
            predicted.append(logits[: len(batch)].argmax(dim=1).cpu().numpy())
        return Examples(np.concatenate(noisy), np.concatenate(purified), np.concatenate(predicted))

    def self_test(self, sigma: float, image: int = 0) -> None:
        """Check that a sample's logits depend neither on its place in a batch nor on its batch mates.

        Nor does the entropy that a selector sees. The inner noise of a base classifier that draws goes with its sample.

        Raises:
            NumericsError: permuting a batch, or replacing either half of it by padding, changed a bit of the logits.
        """
        B = self._batch_size
        block = [Block(image, Phase.SELECTION, 0, B)]
        x_BCHW, inner = self._noise(sigma, block), self._inner_noise(sigma, block)
        logits = self._seen(x_BCHW, sigma, inner)
        cycle = np.random.default_rng(0).permutation(B)
        order = torch.empty(B, dtype=torch.int64)
        order[cycle] = torch.from_numpy(np.roll(cycle, 1))  # one cycle: no sample stays in its place
        moved = None if inner is None else inner.rows(order.numpy())
        order = order.to(self._device)
        trials = [("the order of a batch", self._seen(x_BCHW[order], sigma, moved), logits[order])]
        # Each half by itself: a maximum over the batch, as in dynamic quantisation, lies in one of them.
        for half in (slice(0, (B + 1) // 2), slice((B + 1) // 2, B)):
            kept = None if inner is None else inner.rows(half).padded(B)
            alone = self._seen(self._padded(x_BCHW[half]), sigma, kept)
            trials.append(("padding a batch", alone[: len(x_BCHW[half])], logits[half]))
        for what, found, expected in trials:
            if not _same_bits(found, expected):
                raise NumericsError(
                    f"{what} changes the logits of a sample, so the base classifier is not one function of the image "
                    f"at batch size {B} on {self._device.type}. Try another numerics.batch_size, dtype float32, or "
                    "compile: false, and check that the networks are in evaluation mode."
                )

    def _seen(self, x_BCHW: torch.Tensor, sigma: float, inner: InnerNoise | None) -> torch.Tensor:
        """All that a sample's outcome is made from: its logits and, for a composition, their entropy."""
        logits_BK = self._base_classifier(x_BCHW, sigma, inner)
        if self._composition is None:
            return logits_BK
        return torch.cat([logits_BK.double(), normalised_entropy(logits_BK)[:, None]], dim=1)

    def _inner_noise(self, sigma: float, batch: Sequence[Block]) -> InnerNoise | None:
        return inner_noise(self._base_classifier, self._noise, sigma, batch, self._batch_size)

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        missing = self._batch_size - len(x)
        return x if missing == 0 else torch.cat([x, x.new_zeros(missing, *x.shape[1:])])


def inner_noise(
    base_classifier: BaseClassifier, noise: Noise, sigma: float, batch: Sequence[Block], batch_size: int
) -> InnerNoise | None:
    """What the base classifier draws for a batch, padded to `batch_size` rows; None for one that draws nothing."""
    return noise.inner(sigma, batch).padded(batch_size) if base_classifier.draws else None


def batches(blocks: Sequence[Block], batch_size: int) -> Iterator[list[Block]]:
    """Cut blocks, in order, into lists of `batch_size` samples; the last list may hold fewer."""
    batch: list[Block] = []
    room = batch_size
    for image, phase, first, count in blocks:
        while count:
            taken = min(count, room)
            batch.append(Block(image, phase, first, taken))
            first, count, room = first + taken, count - taken, room - taken
            if room == 0:
                yield batch
                batch, room = [], batch_size
    if batch:
        yield batch


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equality in which NaN equals NaN: what is not finite is reported by the counts, with its image."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())

"""Which images of an evaluation are to be measured at which noise level, and which are."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from raycp.certify.account import Account
from raycp.certify.units import Task
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.measure import CLEAN, Measured


@dataclass(frozen=True)
class MeasuredUnit:
    """All draws of one image at one noise level, or the clean image."""

    sigma: float
    image: int
    """Position of the image in the run."""
    measured: Measured
    numerics: str


class EvaluationPlan:
    """See `Plan`. A unit is drawn whole by one replica; `CLEAN`, one sample per image, comes first.

    Args:
        sigmas: noise levels.
        image_index: index of each image in its data set, for messages.
        draws: noisy samples of an image at each noise level.
        done: units that are measured already.
    """

    def __init__(
        self,
        sigmas: Sequence[float],
        image_index: Sequence[int],
        draws: int,
        done: Collection[tuple[float, int]],
    ) -> None:
        self._image_index = image_index
        self._draws = draws
        levels = [CLEAN, *sigmas]
        units = [(sigma, image) for sigma in levels for image in range(len(image_index))]
        self._todo = {
            sigma: deque(image for level, image in units if level == sigma and (level, image) not in done)
            for sigma in levels
        }
        self._open = set(units) - set(done)
        self._set_aside: dict[tuple[float, int], str] = {}
        self._remaining = sum(self._samples(sigma) for sigma, _ in self._open)
        self.num_units = len(units)
        self.account = Account()

    @property
    def finished(self) -> bool:
        """See `Plan`."""
        return not self._open

    @property
    def num_decided(self) -> int:
        """See `Plan`."""
        return self.num_units - len(self._open) - len(self._set_aside)

    @property
    def set_aside(self) -> dict[tuple[float, int], str]:
        """See `Plan`."""
        return dict(self._set_aside)

    def remaining_samples(self) -> int:
        """See `Plan`."""
        return self._remaining

    def available_samples(self) -> int:
        """See `Plan`."""
        return sum(len(images) * self._samples(sigma) for sigma, images in self._todo.items())

    def next_task(self, num_samples: int, numerics: str, live: Collection[str]) -> Task | None:
        """See `Plan`; whole units of one noise level, one at least."""
        for sigma, images in self._todo.items():
            blocks: list[Block] = []
            each = self._samples(sigma)
            while images and (not blocks or (len(blocks) + 1) * each <= num_samples):
                image = images.popleft()
                if (sigma, image) in self._open:
                    blocks.append(Block(image, Phase.EVALUATION, 0, each))
            if blocks:
                return Task(sigma, tuple(blocks), numerics)
        return None

    def wants(self, task: Task) -> bool:
        """See `Plan`."""
        return any((task.sigma, block.image) in self._open for block in task.blocks)

    def requeue(self, task: Task) -> None:
        """See `Plan`."""
        self._todo[task.sigma].extendleft(block.image for block in reversed(task.blocks))

    def record(
        self, task: Task, result: Measured, seconds: float, /
    ) -> tuple[list[MeasuredUnit], list[tuple[float, int]]]:
        """See `Plan`. Units with a value that is not finite are set aside, with a reason that names the image."""
        kept = []
        first = 0
        for block in task.blocks:
            measured = result.rows(first, first + block.num_samples)
            first += block.num_samples
            if (task.sigma, block.image) not in self._open:  # it came back from two replicas
                continue
            if not measured.finite.all():
                self._set(task.sigma, block.image, self._not_finite(task.sigma, block, measured))
                continue
            self._close(task.sigma, block.image)
            kept.append(MeasuredUnit(task.sigma, block.image, measured, task.numerics))
        return kept, [(unit.sigma, unit.image) for unit in kept]

    def give_up(self, task: Task, reason: str) -> None:
        """See `Plan`."""
        for block in task.blocks:
            if (task.sigma, block.image) in self._open:
                self._set(task.sigma, block.image, reason)

    def _samples(self, sigma: float) -> int:
        return 1 if sigma == CLEAN else self._draws

    def _close(self, sigma: float, image: int) -> None:
        self._open.remove((sigma, image))
        self._remaining -= self._samples(sigma)

    def _set(self, sigma: float, image: int, reason: str) -> None:
        self._close(sigma, image)
        self._set_aside[sigma, image] = reason

    def _not_finite(self, sigma: float, block: Block, measured: Measured) -> str:
        bad = int((~measured.finite).sum())
        where = "clean" if sigma == CLEAN else f"at sigma {sigma:g}"
        return (
            f"{bad} of {block.num_samples} samples of image {self._image_index[block.image]} {where} have NaN or "
            "infinite pixels, logits, features or LPIPS"
        )

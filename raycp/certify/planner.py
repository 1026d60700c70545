"""Which blocks to draw next, and when an image is decided.

Pure bookkeeping over (sigma, image) units: no clock, no cluster, no device. Results depend only on the counts of the
blocks, so the order of calls, repeated results, and the way blocks are cut leave no trace in the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raycp.certify.rules import Row, Rule
from raycp.certify.tally import Tally
from raycp.sampling.blocks import Block, Phase


@dataclass(frozen=True)
class Task:
    """Blocks of one noise level, drawn by one replica in one call.

    `numerics` is the class of the replica; all blocks of a (sigma, image) are drawn under one class.
    """

    sigma: float
    blocks: tuple[Block, ...]
    numerics: str

    @property
    def num_samples(self) -> int:
        """Samples of all blocks."""
        return sum(block.num_samples for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Counted:
    """A block with its counts: what the ledger keeps. `counts_K` has no bucket for invalid logits."""

    sigma: float
    block: Block
    counts_K: npt.NDArray[np.int64]
    numerics: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The row of a decided (sigma, image), with what it cost."""

    sigma: float
    image: int
    row: Row
    num_samples: int
    seconds: float
    numerics: str


@dataclass(slots=True)
class _Unit:
    """One (sigma, image) on its way to a row."""

    sigma: float
    image: int
    label: int
    numerics: str
    tallies: dict[Phase, Tally]
    planned: dict[Phase, int] = field(default_factory=dict)
    """Per phase, the number of leading samples that were asked for so far."""
    todo: deque[tuple[Phase, int, int]] = field(default_factory=deque)
    """Ranges (phase, first, stop) to hand out."""
    queued: bool = False
    seconds: float = 0.0


class Planner:
    """Hands out blocks and turns their counts into rows.

    Args:
        sigmas: noise levels, in the order of work.
        labels_M: label of each image, int [M].
        image_index_M: index of each image in its data set, for messages, int [M].
        rule: what an image needs and what follows from its counts.
        num_classes: K.
    """

    def __init__(
        self,
        sigmas: Sequence[float],
        labels_M: npt.NDArray[np.int64],
        image_index_M: npt.NDArray[np.int64],
        rule: Rule,
        num_classes: int,
    ) -> None:
        self._labels = labels_M
        self._image_index = image_index_M
        self._rule = rule
        self._num_classes = num_classes
        self._open: dict[tuple[float, int], _Unit] = {}
        self._unopened = {sigma: deque(range(len(labels_M))) for sigma in sigmas}
        self._queues: dict[float, dict[str, deque[_Unit]]] = {sigma: {} for sigma in sigmas}
        self._resting: dict[tuple[float, int, str], _Unit] = {}
        """Open units under numerics classes other than their own now: their samples are exact, but do not mix."""
        self._finished: set[tuple[float, int]] = set()
        self._set_aside: dict[tuple[float, int], str] = {}
        self.num_units = len(sigmas) * len(labels_M)
        self.num_ignored = 0
        """Samples that came back and were not needed: repeated, late, or of another numerics class."""

    @property
    def finished(self) -> bool:
        """Whether every unit is decided or set aside."""
        return len(self._finished) + len(self._set_aside) == self.num_units

    @property
    def num_decided(self) -> int:
        """Units that have their row."""
        return len(self._finished)

    @property
    def set_aside(self) -> dict[tuple[float, int], str]:
        """Units given up in this session, (sigma, image) -> reason."""
        return dict(self._set_aside)

    def remaining_samples(self) -> int:
        """Samples still to come, at most: the largest demand of every undecided unit less what it has."""
        undecided = self.num_units - len(self._finished) - len(self._set_aside)
        drawn = sum(tally.num_samples for unit in self._open.values() for tally in unit.tallies.values())
        return undecided * self._rule.largest_demand() - drawn

    def restore(self, counted: Sequence[Counted]) -> list[Outcome]:
        """Take in blocks of the ledger, all of one (sigma, image) and numerics class; its outcome if they decide it.

        Of several classes of one unit, the first that decides it counts; if none does, the first goes on, and the
        others only if its class is without replicas.
        """
        sigma, image, numerics = counted[0].sigma, counted[0].block.image, counted[0].numerics
        if (sigma, image) in self._finished:
            return []
        unit = self._new_unit(sigma, image, numerics)
        for item in counted:
            self._add(unit, item)
        undecided = self._rule.decide(unit.label, sigma, unit.tallies) is None
        if undecided and (sigma, image) in self._open:
            self._resting[sigma, image, numerics] = unit
            return []
        self._open[sigma, image] = unit
        return self._advance(unit)

    def next_task(self, num_samples: int, numerics: str, live: Collection[str]) -> Task | None:
        """The most useful blocks for a replica, of one noise level, `num_samples` in all or as many as there are.

        Args:
            num_samples: size of the task, at least 1.
            numerics: numerics class of the replica.
            live: classes that have replicas. Units begun under a class without any are begun anew under this one
                when nothing else is left to do: their samples so far are exact, but of another function.

        Returns:
            None if there is nothing to hand out now.
        """
        for sigma in self._unopened:
            blocks: list[Block] = []
            room = num_samples
            while room and (unit := self._next_unit(sigma, numerics, live)):
                room -= self._cut(unit, room, blocks)
            if blocks:
                return Task(sigma, tuple(blocks), numerics)
        return None

    def wants(self, task: Task) -> bool:
        """Whether any unit of a task is still open, so that drawing it has a use."""
        units = (self._open.get((task.sigma, block.image)) for block in task.blocks)
        return any(unit is not None and unit.numerics == task.numerics for unit in units)

    def requeue(self, task: Task) -> None:
        """Put the blocks of a task that did not come back first in line again."""
        for block in reversed(task.blocks):
            unit = self._open.get((task.sigma, block.image))
            if unit is None or unit.numerics != task.numerics:
                continue
            unit.todo.appendleft((block.phase, block.first, block.first + block.num_samples))
            self._enqueue(unit, first=True)

    def record(
        self, task: Task, counts_RK: npt.NDArray[np.int64], seconds: float
    ) -> tuple[list[Counted], list[Outcome]]:
        """Take in the counts of a task.

        Args:
            task: what was drawn.
            counts_RK: int64 [R, K + 1], the last column counting invalid logits.
            seconds: time on the device.

        Returns:
            The blocks that are new and must be kept, and the units they decide.

        Blocks with invalid logits are not taken in: their units are set aside with a reason that names the image
        and the block, because a sample that is dropped or counted as a vote would void the certificate.
        """
        per_sample = seconds / task.num_samples
        new: list[Counted] = []
        touched: dict[int, _Unit] = {}
        for block, counts in zip(task.blocks, counts_RK, strict=True):
            assert counts.sum() == block.num_samples, (block, counts)
            unit = self._open.get((task.sigma, block.image))
            if unit is not None and counts[-1]:
                self._give_up(unit, self._invalid(task.sigma, block, int(counts[-1])))
                continue
            item = Counted(task.sigma, block, counts[:-1], task.numerics, per_sample * block.num_samples)
            if unit is None or unit.numerics != task.numerics:
                self.num_ignored += block.num_samples
                continue
            if not self._add(unit, item):
                self.num_ignored += block.num_samples
                self._ask_again(unit, block)
                continue
            new.append(item)
            touched[block.image] = unit
        open_units = [unit for unit in touched.values() if self._is_open(unit)]
        return new, [outcome for unit in open_units for outcome in self._advance(unit)]

    def give_up(self, task: Task, reason: str) -> None:
        """Set aside the units of a task that failed for good; the others go on."""
        for block in task.blocks:
            unit = self._open.get((task.sigma, block.image))
            if unit is not None:
                self._give_up(unit, reason)

    def _give_up(self, unit: _Unit, reason: str) -> None:
        unit.todo.clear()
        del self._open[unit.sigma, unit.image]
        self._set_aside[unit.sigma, unit.image] = reason

    def _next_unit(self, sigma: float, numerics: str, live: Collection[str]) -> _Unit | None:
        """A unit with blocks to hand out: one begun, else a new one, else one whose numerics class is gone."""
        queues = self._queues[sigma]
        queue = queues.setdefault(numerics, deque())
        while True:
            while queue:
                unit = queue.popleft()
                unit.queued = False
                if self._is_open(unit):
                    return unit
            if self._unopened[sigma]:
                key = (sigma, self._unopened[sigma].popleft())
                if key not in self._open and key not in self._finished and key not in self._set_aside:
                    self._open[key] = self._new_unit(*key, numerics)
                    self._plan(self._open[key])
                continue
            gone = [name for name in queues if name not in live and name != numerics]
            if not gone:
                return None
            for unit in [unit for name in gone for unit in queues.pop(name)]:
                if self._is_open(unit):
                    self._switch(unit, numerics)

    def _switch(self, unit: _Unit, numerics: str) -> None:
        """Go on with a unit under another class: from its samples of that class, if there are any."""
        key = (unit.sigma, unit.image)
        self._resting[*key, unit.numerics] = unit
        other = self._resting.pop((*key, numerics), None) or self._new_unit(*key, numerics)
        other.planned.clear()
        other.todo.clear()
        other.queued = False
        self._open[key] = other
        self._plan(other)

    def _cut(self, unit: _Unit, room: int, blocks: list[Block]) -> int:
        """Move up to `room` samples from the unit's ranges to `blocks`; returns how many."""
        left = room
        while unit.todo and left:
            phase, first, stop = unit.todo.popleft()
            taken = min(left, stop - first)
            blocks.append(Block(unit.image, phase, first, taken))
            left -= taken
            if first + taken < stop:
                unit.todo.appendleft((phase, first + taken, stop))
        self._enqueue(unit, first=True)
        return room - left

    def _is_open(self, unit: _Unit) -> bool:
        return self._open.get((unit.sigma, unit.image)) is unit

    def _new_unit(self, sigma: float, image: int, numerics: str) -> _Unit:
        tallies = {phase: Tally(self._num_classes) for phase in Phase}
        return _Unit(sigma, image, int(self._labels[image]), numerics, tallies)

    def _ask_again(self, unit: _Unit, block: Block) -> None:
        """Plan what is missing of a block that came back too late: ranges that were cut in two ways may overlap."""
        for first, stop in unit.tallies[block.phase].missing(block.first + block.num_samples):
            if stop > block.first:
                unit.todo.append((block.phase, max(first, block.first), stop))
        self._enqueue(unit)

    def _add(self, unit: _Unit, item: Counted) -> bool:
        block = item.block
        if not unit.tallies[block.phase].add(block.first, block.num_samples, item.counts_K):
            return False
        unit.seconds += item.seconds
        return True

    def _advance(self, unit: _Unit) -> list[Outcome]:
        """After new counts: the unit's row if it is decided, otherwise plan what it needs next."""
        row = self._rule.decide(unit.label, unit.sigma, unit.tallies)
        if row is None:
            self._plan(unit)
            return []
        key = (unit.sigma, unit.image)
        unit.todo.clear()
        del self._open[key]
        self._finished.add(key)
        drawn = sum(tally.num_samples for tally in unit.tallies.values())
        return [Outcome(unit.sigma, unit.image, row, drawn, unit.seconds, unit.numerics)]

    def _plan(self, unit: _Unit) -> None:
        for phase, wanted in self._rule.wanted(unit.label, unit.tallies).items():
            planned = unit.planned.get(phase, 0)
            for first, stop in unit.tallies[phase].missing(wanted):
                if stop > planned:
                    unit.todo.append((phase, max(first, planned), stop))
            unit.planned[phase] = max(wanted, planned)
        self._enqueue(unit)

    def _enqueue(self, unit: _Unit, first: bool = False) -> None:
        if unit.queued or not unit.todo:
            return
        queue = self._queues[unit.sigma].setdefault(unit.numerics, deque())
        if first:
            queue.appendleft(unit)
        else:
            queue.append(unit)
        unit.queued = True

    def _invalid(self, sigma: float, block: Block, num_invalid: int) -> str:
        return (
            f"{num_invalid} of {block.num_samples} samples have NaN or infinite logits: image "
            f"{self._image_index[block.image]}, sigma {sigma}, {block.phase.name.lower()} samples "
            f"{block.first} to {block.first + block.num_samples - 1}"
        )

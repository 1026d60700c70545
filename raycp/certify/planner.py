"""Which blocks to draw next, and when an image is decided.

Pure bookkeeping over (sigma, image) units: no clock, no cluster, no device. Results depend only on the counts of the
blocks, so the order of calls, repeated results, and the way blocks are cut leave no trace in the rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from raycp.certify.account import Account
from raycp.certify.line import Line
from raycp.certify.rules import Rule
from raycp.certify.tally import Tally, cut_at
from raycp.certify.units import Counted, Outcome, Task, Unit, invalid_logits
from raycp.sampling.blocks import Block, Phase


class Planner:
    """Hands out blocks and turns their counts into rows.

    Args:
        sigmas: noise levels, in the order of work.
        labels_M: label of each image, int [M].
        image_index_M: index of each image in its data set, for messages, int [M].
        rule: what an image needs and what follows from its counts.
        num_classes: K; 2K outcomes for a composition.
        nearest_first: images nearest to a decision come first; otherwise those that were begun.
    """

    def __init__(
        self,
        sigmas: Sequence[float],
        labels_M: npt.NDArray[np.int64],
        image_index_M: npt.NDArray[np.int64],
        rule: Rule,
        num_classes: int,
        nearest_first: bool = False,
    ) -> None:
        self._labels = labels_M
        self._image_index = image_index_M
        self._rule = rule
        self._num_classes = num_classes
        self._open: dict[tuple[float, int], Unit] = {}
        self._unopened = {sigma: deque(range(len(labels_M))) for sigma in sigmas}
        self._nearest_first = nearest_first
        self._lines: dict[float, dict[str, Line]] = {sigma: {} for sigma in sigmas}
        self._resting: dict[tuple[float, int, str], Unit] = {}
        """Open units under numerics classes other than their own now: their samples are exact, but do not mix."""
        self._finished: set[tuple[float, int]] = set()
        self._set_aside: dict[tuple[float, int], str] = {}
        self.num_units = len(sigmas) * len(labels_M)
        self.account = Account()

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
        """Samples still to come, as the rule expects; exact under a fixed rule that skips nothing."""
        mean = self._rule.largest_demand()
        if self._finished and self._rule.least_demand() < mean:
            mean = -(-self.account.used // len(self._finished))
        return self._num_unopened() * mean + self.account.expected

    def available_samples(self) -> int:
        """Samples that could be handed out now."""
        return self._num_unopened() * self._rule.least_demand() + self.account.waiting

    def undecided(self) -> list[Outcome]:
        """What holds of the units that have no row yet."""
        rows = []
        for sigma in self._lines:
            for image, label in enumerate(self._labels):
                if (sigma, image) in self._finished:
                    continue
                unit = self._open.get((sigma, image)) or self._new_unit(sigma, image, "")
                row = self._rule.interim(int(label), sigma, unit.tallies)
                rows.append(Outcome(sigma, image, row, self._rule.used(row), unit.seconds, unit.numerics))
        return rows

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
        self.account.handed_out += unit.num_drawn
        undecided = self._rule.decide(unit.label, sigma, unit.tallies) is None
        if undecided and (sigma, image) in self._open:
            self._resting[sigma, image, numerics] = unit
            return []
        if (sigma, image) in self._open:
            self._close(self._open[sigma, image])
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
        best: list[Block] = []
        best_sigma = room = 0.0
        for sigma in self._sigmas_by_use(numerics):
            blocks: list[Block] = []
            left = num_samples
            while left and (unit := self._next_unit(sigma, numerics, live)):
                left -= self._cut(unit, left, blocks)
            if blocks and (not best or left < room):
                self._give_back(best_sigma, best, numerics)
                best, best_sigma, room = blocks, sigma, left
            else:
                self._give_back(sigma, blocks, numerics)
            if best and (room == 0 or self._nearest_first):
                break
        for sigma in [best_sigma] if best else self._lines:
            for unit in self._waiting(sigma, numerics):
                taken = sum(block.num_samples for block in best)
                if taken == num_samples or not self._plan_ahead(unit):
                    break
                self._cut(unit, num_samples - taken, best)
                best_sigma = sigma
            if best:
                break
        if not best:
            return None
        task = Task(best_sigma, tuple(best), numerics)
        self.account.handed_out += task.num_samples
        return task

    def wants(self, task: Task) -> bool:
        """Whether any unit of a task is still open, so that drawing it has a use."""
        units = (self._open.get((task.sigma, block.image)) for block in task.blocks)
        return any(unit is not None and unit.numerics == task.numerics for unit in units)

    def requeue(self, task: Task) -> None:
        """Put the blocks of a task that did not come back first in line again."""
        self.account.handed_out -= task.num_samples
        self._give_back(task.sigma, task.blocks, task.numerics)

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
        and the block, because a sample that is dropped or counted as a vote would void the certificate. Of samples
        drawn ahead that holds once the rule asks for them: whether they were drawn must leave no trace.
        """
        per_sample = seconds / task.num_samples
        new: list[Counted] = []
        touched: dict[int, Unit] = {}
        for block, counts in zip(task.blocks, counts_RK, strict=True):
            assert counts.sum() == block.num_samples, (block, counts)
            unit = self._open.get((task.sigma, block.image))
            if unit is not None and unit.numerics == task.numerics and counts[-1]:
                said = invalid_logits(task.sigma, block, int(counts[-1]), self._image_index[block.image])
                unit.invalid.append((block.phase, block.first, said))
                self._give_up_if_invalid(unit)
                continue
            item = Counted(task.sigma, block, counts[:-1], task.numerics, per_sample * block.num_samples)
            if unit is None or unit.numerics != task.numerics:
                self.account.ignored += block.num_samples
                continue
            if not self._add(unit, item):
                self.account.ignored += block.num_samples
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

    def _give_back(self, sigma: float, blocks: Sequence[Block], numerics: str) -> None:
        for block in reversed(blocks):
            unit = self._open.get((sigma, block.image))
            if unit is not None and unit.numerics == numerics:
                self._push(unit, block.phase, block.first, block.first + block.num_samples, True)
                self._enqueue(unit, first=True)

    def _give_up(self, unit: Unit, reason: str) -> None:
        self._close(unit)
        del self._open[unit.sigma, unit.image]
        self._set_aside[unit.sigma, unit.image] = reason

    def _give_up_if_invalid(self, unit: Unit) -> None:
        for phase, first, said in unit.invalid:
            if self._is_open(unit) and first < unit.wanted.get(phase, 0):
                self._give_up(unit, said)

    def _close(self, unit: Unit) -> None:
        """Take an open unit out of the sums."""
        self.account.ahead -= unit.num_ahead
        self.account.expected -= unit.remaining
        self.account.waiting -= unit.num_todo
        unit.todo.clear()

    def _num_unopened(self) -> int:
        return self.num_units - len(self._finished) - len(self._set_aside) - len(self._open)

    def _sigmas_by_use(self, numerics: str) -> list[float]:
        """Noise levels in the order in which to look for a task."""
        if not self._nearest_first:
            return list(self._lines)
        return sorted(self._lines, key=lambda sigma: self._distance(sigma, numerics))

    def _distance(self, sigma: float, numerics: str) -> float:
        """Samples until the first decision that is to be had at a noise level; new units count as near."""
        if self._new_first() and self._unopened[sigma]:
            return 0.0
        line = self._lines[sigma].get(numerics)
        return min(line.nearest() if line else float("inf"), self._rule.largest_demand())

    def _new_first(self) -> bool:
        """Whether new units go before those begun: where a rule may stop early, many are decided at the first look."""
        return self._nearest_first and self._rule.least_demand() < self._rule.largest_demand()

    def _next_unit(self, sigma: float, numerics: str, live: Collection[str]) -> Unit | None:
        """A unit with blocks to hand out: one begun, else a new one, else one whose numerics class is gone."""
        lines = self._lines[sigma]
        line = lines.setdefault(numerics, Line(self._nearest_first))
        while True:
            new_first = self._new_first() and bool(self._unopened[sigma]) and line.nearest() > 0
            while not new_first and (unit := line.pop()):
                if self._is_open(unit):
                    return unit
            if self._unopened[sigma]:
                key = (sigma, self._unopened[sigma].popleft())
                if key not in self._open and key not in self._finished and key not in self._set_aside:
                    self._open[key] = self._new_unit(*key, numerics)
                    self._plan(self._open[key])
                continue
            gone = [name for name in lines if name not in live and name != numerics]
            if not gone:
                return None
            for unit in [unit for name in gone for unit in lines.pop(name).everyone()]:
                if self._is_open(unit):
                    self._switch(unit, numerics)

    def _waiting(self, sigma: float, numerics: str) -> list[Unit]:
        """Units whose rule waits for samples under way, those that went far first: they are likely to go further."""
        if not self._rule.cuts[Phase.ESTIMATION] or not self.account.may_draw_ahead(0):
            return []
        units = [
            unit
            for unit in self._open.values()
            if unit.sigma == sigma and unit.numerics == numerics and not unit.todo and not unit.num_ahead
        ]
        return sorted(units, key=lambda unit: -unit.planned.get(Phase.ESTIMATION, 0))

    def _plan_ahead(self, unit: Unit) -> bool:
        """Plan a waiting unit's samples up to one more look; false where that would be too much in vain."""
        cuts, planned = self._rule.cuts[Phase.ESTIMATION], unit.planned.get(Phase.ESTIMATION, 0)
        at = bisect_right(cuts, planned)
        if planned == 0 or at == len(cuts) or not self.account.may_draw_ahead(cuts[at] - planned):
            return False
        unit.planned[Phase.ESTIMATION] = cuts[at]
        self.account.ahead += cuts[at] - planned
        self._push(unit, Phase.ESTIMATION, planned, cuts[at])
        return True

    def _switch(self, unit: Unit, numerics: str) -> None:
        """Go on with a unit under another class: from its samples of that class, if there are any."""
        key = (unit.sigma, unit.image)
        self._close(unit)
        self._resting[*key, unit.numerics] = unit
        other = self._resting.pop((*key, numerics), None) or self._new_unit(*key, numerics)
        other.planned.clear()
        other.wanted.clear()
        other.remaining = 0
        self._open[key] = other
        self._plan(other)

    def _cut(self, unit: Unit, room: int, blocks: list[Block]) -> int:
        """Move up to `room` samples from the unit's ranges to `blocks`; returns how many."""
        left = room
        while unit.todo and left:
            phase, first, stop = unit.todo.popleft()
            taken = min(left, stop - first)
            blocks.append(Block(unit.image, phase, first, taken))
            left -= taken
            self.account.waiting -= taken
            if first + taken < stop:
                unit.todo.appendleft((phase, first + taken, stop))
        self._enqueue(unit, first=True)
        return room - left

    def _is_open(self, unit: Unit) -> bool:
        return self._open.get((unit.sigma, unit.image)) is unit

    def _new_unit(self, sigma: float, image: int, numerics: str) -> Unit:
        tallies = {phase: Tally(self._num_classes, self._rule.cuts[phase]) for phase in Phase}
        return Unit(sigma, image, int(self._labels[image]), numerics, tallies)

    def _ask_again(self, unit: Unit, block: Block) -> None:
        """Plan what is missing of a block that came back too late: ranges that were cut in two ways may overlap."""
        for first, stop in unit.tallies[block.phase].missing(block.first + block.num_samples):
            if stop > block.first:
                self._push(unit, block.phase, max(first, block.first), stop)
        self._enqueue(unit)

    def _add(self, unit: Unit, item: Counted) -> bool:
        block = item.block
        if not unit.tallies[block.phase].add(block.first, block.num_samples, item.counts_K):
            return False
        unit.seconds += item.seconds
        return True

    def _advance(self, unit: Unit) -> list[Outcome]:
        """After new counts: the unit's row if it is decided, otherwise plan what it needs next."""
        row = self._rule.decide(unit.label, unit.sigma, unit.tallies)
        if row is None:
            self._plan(unit)
            return []
        key = (unit.sigma, unit.image)
        used = self._rule.used(row)
        handed_out = max(unit.num_drawn, sum(unit.planned.values()) - unit.num_todo)
        self.account.dropped += handed_out - used
        self.account.used += used
        self._close(unit)
        del self._open[key]
        self._finished.add(key)
        return [Outcome(unit.sigma, unit.image, row, used, unit.seconds, unit.numerics)]

    def _plan(self, unit: Unit) -> None:
        """Ask for what the rule wants next, as far as it is not planned already."""
        ahead = unit.num_ahead
        for phase, wanted in self._rule.wanted(unit.label, unit.tallies).items():
            planned = unit.planned.get(phase, 0)
            for first, stop in unit.tallies[phase].missing(wanted):
                if stop > planned:
                    self._push(unit, phase, max(first, planned), stop)
            unit.planned[phase] = max(wanted, planned)
            unit.wanted[phase] = wanted
        remaining = self._rule.remaining(unit.label, unit.sigma, unit.tallies)
        self.account.ahead += unit.num_ahead - ahead
        self.account.expected += remaining - unit.remaining
        unit.remaining = remaining
        self._enqueue(unit)
        self._give_up_if_invalid(unit)

    def _push(self, unit: Unit, phase: Phase, first: int, stop: int, first_in_line: bool = False) -> None:
        """Add a range to what a unit hands out, cut where the rule looks."""
        ranges = [(phase, a, b) for a, b in cut_at(self._rule.cuts[phase], first, stop)]
        if first_in_line:
            unit.todo.extendleft(reversed(ranges))
        else:
            unit.todo.extend(ranges)
        self.account.waiting += stop - first

    def _enqueue(self, unit: Unit, first: bool = False) -> None:
        if unit.todo:
            self._lines[unit.sigma].setdefault(unit.numerics, Line(self._nearest_first)).push(unit, first)

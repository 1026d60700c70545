"""Units that wait to be handed out."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count

from raycp.certify.units import Unit


class Line:
    """A queue in which a unit stands at most once.

    Args:
        nearest_first: serve the unit with the fewest samples to a decision, of which those without any sample count as
            nearest; otherwise the one that came first.
    """

    def __init__(self, nearest_first: bool) -> None:
        self._nearest_first = nearest_first
        self._queue: deque[Unit] = deque()
        self._heap: list[tuple[int, int, Unit]] = []
        self._serial = count()

    def push(self, unit: Unit, first: bool = False) -> None:
        """Add a unit that is not here yet: at the end or `first`; with `nearest_first` where it belongs."""
        if unit.queued:
            return
        unit.queued = True
        if self._nearest_first:
            distance = unit.remaining if unit.num_drawn else 0
            heappush(self._heap, (distance, next(self._serial), unit))
        elif first:
            self._queue.appendleft(unit)
        else:
            self._queue.append(unit)

    def pop(self) -> Unit | None:
        """Take out the next unit."""
        if self._heap:
            unit = heappop(self._heap)[2]
        elif self._queue:
            unit = self._queue.popleft()
        else:
            return None
        unit.queued = False
        return unit

    def nearest(self) -> float:
        """Samples to the decision of the next unit; infinity if there is none. Of use with `nearest_first`."""
        return self._heap[0][0] if self._heap else float("inf")

    def everyone(self) -> list[Unit]:
        """Take out all units."""
        units = []
        while unit := self.pop():
            units.append(unit)
        return units

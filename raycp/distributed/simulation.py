"""Replicas that exist only on paper: a transport with a virtual clock, to test and measure the dispatch loop."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raycp.certify.units import Task
from raycp.distributed.transport import Done, Event, Failed, Lost, Ready


@dataclass
class SimulatedReplica:
    """How one replica behaves."""

    start_seconds: float = 0.0
    """Until it is ready; infinity for one that never gets room."""
    samples_per_second: float = 1000.0
    lifetime: float = float("inf")
    """Seconds after its start at which it is lost."""
    numerics: str = "simulated"


@dataclass
class _State:
    kind: SimulatedReplica
    queue: deque[tuple[int, Task]] = field(default_factory=deque)
    begun: float = 0.0
    """When the first task of the queue was."""


class SimulatedTransport:
    """Runs tasks on a virtual clock: time passes only in `wait`.

    Args:
        replica: behaviour of the replica with a given number.
        draw: counts of a task, int64 [R, K + 1]; may raise, which the dispatcher sees as a failed task.
        duration: seconds of a task on a replica; None takes samples / samples_per_second.
        capacity: replicas that the cluster could hold at a given time.
    """

    def __init__(
        self,
        replica: Callable[[int], SimulatedReplica],
        draw: Callable[[Task], npt.NDArray[np.int64]],
        duration: Callable[[Task, SimulatedReplica], float] | None = None,
        capacity: Callable[[float], int] = lambda _: 10**9,
    ) -> None:
        self._make = replica
        self._draw = draw
        self._duration = duration or (lambda task, kind: task.num_samples / kind.samples_per_second)
        self._capacity = capacity
        self._clock = 0.0
        self._order = 0
        self._agenda: list[tuple[float, int, Callable[[], Event | None]]] = []
        self._states: dict[int, _State] = {}
        self.busy_seconds = 0.0
        """Device time of all finished tasks."""

    def start(self, replica: int) -> None:
        """See `Transport`."""
        kind = self._make(replica)
        self._states[replica] = _State(kind)
        if kind.start_seconds < float("inf"):
            self._later(kind.start_seconds, lambda: self._become_ready(replica))
        if kind.lifetime < float("inf"):
            self._later(kind.lifetime, lambda: self._die(replica))

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        """See `Transport`."""
        state = self._states[replica]
        state.queue.append((ticket, task))
        if len(state.queue) == 1:
            self._run_next(replica)

    def wait(self, timeout: float) -> list[Event]:
        """See `Transport`; moves the clock to the next event or by `timeout`.

        Events that are already past come at once: the caller was late.
        """
        called = latest = self._clock
        deadline = called + timeout
        events: list[Event] = []
        while self._agenda and self._agenda[0][0] <= (latest if events else deadline):
            self._clock, _, happen = heapq.heappop(self._agenda)
            event = happen()
            latest = max(called, self._clock)
            if event is not None:
                events.append(event)
        self._clock = latest if events else deadline
        return events

    def stop(self, replica: int) -> None:
        """See `Transport`."""
        self._states.pop(replica, None)

    def capacity(self) -> int:
        """See `Transport`."""
        return self._capacity(self._clock)

    def now(self) -> float:
        """The virtual clock."""
        return self._clock

    def busy_until_now(self) -> float:
        """`busy_seconds`, and the time that unfinished tasks have taken so far."""
        return self.busy_seconds + sum(
            self._clock - state.begun for state in self._states.values() if state.queue
        )

    def _later(self, seconds: float, happen: Callable[[], Event | None]) -> None:
        heapq.heappush(self._agenda, (self._clock + seconds, self._order, happen))
        self._order += 1

    def _become_ready(self, replica: int) -> Event | None:
        state = self._states.get(replica)
        return None if state is None else Ready(replica, state.kind.numerics, f"simulated {replica}")

    def _die(self, replica: int) -> Event | None:
        return None if self._states.pop(replica, None) is None else Lost(replica, "end of its lifetime")

    def _run_next(self, replica: int) -> None:
        state = self._states[replica]
        _, task = state.queue[0]
        state.begun = self._clock
        seconds = self._duration(task, state.kind)
        self._later(seconds, lambda: self._finish(replica, state, seconds))

    def _finish(self, replica: int, state: _State, seconds: float) -> Event | None:
        if self._states.get(replica) is not state:
            return None
        ticket, task = state.queue.popleft()
        if state.queue:
            self._run_next(replica)
        self.busy_seconds += seconds
        try:
            return Done(replica, ticket, self._draw(task), seconds)
        except RuntimeError as err:
            return Failed(replica, ticket, str(err))

"""A transport that watches: throughput of a dispatcher between its start and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raycp.certify.units import Task
from raycp.distributed.transport import Done, Event, Transport


@dataclass
class _Watched:
    """One replica: its first completion in the steady state, and what followed."""

    first: float
    last: float
    samples: int = 0
    tasks: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True)
class Steady:
    """What happened in the steady state."""

    samples_per_second: float
    """Each replica from its first completion to its last one, summed over replicas: no start, no tail."""
    seconds: float
    """Mean over the replicas of that stretch."""
    tasks: int
    samples: int
    busy_share: float
    """Share of the time that the replicas spent inside tasks."""


class SteadyState:
    """Passes everything on to another transport, and records what was completed once all replicas are at work.

    The steady state begins when every replica has completed a task of at least half the duration that tasks are
    steered to: before that, tasks grow.

    Args:
        inner: the transport that does the work.
        replicas: how many there will be.
        task_seconds: duration tasks are steered to.
        begun: called once, when the steady state begins.
    """

    def __init__(
        self, inner: Transport, replicas: int, task_seconds: float, begun: Callable[[], None] = lambda: None
    ) -> None:
        self._inner = inner
        self._task_seconds = task_seconds
        self._begun = begun
        self._sizes: dict[int, int] = {}
        """Samples of each task under way, by ticket."""
        self._warm: set[int] = set()
        self._replicas = replicas
        self._watched: dict[int, _Watched] = {}
        self.since: float | None = None
        """When the steady state began, by the inner transport's clock."""

    def lasted(self) -> float:
        """Seconds since the steady state began; 0 before."""
        return 0.0 if self.since is None else self.now() - self.since

    @property
    def complete(self) -> bool:
        """Whether every replica completed at least two tasks since then."""
        return sum(watched.tasks > 0 for watched in self._watched.values()) >= self._replicas

    def result(self) -> Steady:
        """The record, once it is `complete`."""
        assert self.complete
        watched = [w for w in self._watched.values() if w.tasks]
        spans = [w.last - w.first for w in watched]
        return Steady(
            samples_per_second=sum(w.samples / span for w, span in zip(watched, spans, strict=True)),
            seconds=sum(spans) / len(spans),
            tasks=sum(w.tasks for w in watched),
            samples=sum(w.samples for w in watched),
            busy_share=sum(w.busy_seconds for w in watched) / sum(spans),
        )

    def start(self, replica: int) -> None:
        """See `Transport`."""
        self._inner.start(replica)

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        """See `Transport`."""
        self._sizes[ticket] = task.num_samples
        self._inner.submit(replica, ticket, task)

    def wait(self, timeout: float) -> list[Event]:
        """See `Transport`."""
        events = self._inner.wait(timeout)
        now = self.now()
        for event in events:
            if isinstance(event, Done):
                self._record(event, now)
        return events

    def stop(self, replica: int) -> None:
        """See `Transport`."""
        self._inner.stop(replica)

    def capacity(self) -> int:
        """See `Transport`."""
        return self._inner.capacity()

    def now(self) -> float:
        """See `Transport`."""
        return self._inner.now()

    def _record(self, event: Done, now: float) -> None:
        samples = self._sizes.pop(event.ticket)
        if self.since is not None:
            watched = self._watched.get(event.replica)
            if watched is None:
                self._watched[event.replica] = _Watched(first=now, last=now)
            else:
                watched.last = now
                watched.samples += samples
                watched.tasks += 1
                watched.busy_seconds += event.seconds
        elif event.seconds >= self._task_seconds / 2:
            self._warm.add(event.replica)
            if len(self._warm) == self._replicas:
                self.since = now
                self._begun()

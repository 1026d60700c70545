"""How far a session is, how fast and how healthy, and what it may spend."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Budget:
    """What a session may spend; None for no limit."""

    samples: int | None = None
    """Samples handed out, all phases."""
    seconds: float | None = None
    """After that nothing is handed out; what is under way comes back first."""

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.samples is not None or self.seconds is not None


UNLIMITED = Budget()


@dataclass(frozen=True)
class Progress:
    """The state of a run, for people."""

    decided: int
    """(sigma, image) units that are durable."""
    total: int
    samples: int
    """Samples drawn in this session."""
    remaining_samples: int
    """Still to come, at most."""
    samples_per_second: float
    """Over the last half minute or so."""
    replicas: int
    pending: int
    """Replicas asked for that have no room yet or are starting."""
    lost: int
    requeued: int
    """Tasks that were given to another replica."""
    share_dropped: float
    """Of all samples handed out, those drawn ahead of a decision that did not need them."""
    set_aside: int
    seconds: float
    in_flight: int = 0
    """Tasks that replicas hold."""
    busy: float = 0.0
    """Share of the replicas' time on the device over the last half minute; what is left they waited for tasks."""
    dispatch_seconds: float = 0.0
    """From a result's arrival to the next task for that replica, mean over the last half minute."""
    replica_seconds: float = 0.0
    """Of all replicas together, in this session, from the moment each was ready: what the run costs."""


@dataclass(frozen=True)
class Rates:
    """See the fields of the same names of `Progress`."""

    samples_per_second: float = 0.0
    busy: float = 0.0
    dispatch_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Mark:
    now: float
    samples: int
    device_seconds: float
    replica_seconds: float
    dispatch_seconds: float
    dispatches: int


class Meter:
    """Adds up what the replicas of a session do.

    Args:
        now: the clock at its beginning.
    """

    def __init__(self, now: float) -> None:
        self.samples = 0
        self.replica_seconds = 0.0
        self._device_seconds = self._dispatch_seconds = 0.0
        self._dispatches = 0
        self._held_until = now
        self._marks = deque([self._mark(now)])

    def hold(self, now: float, replicas: int) -> None:
        """This many replicas were ready since the last call."""
        self.replica_seconds += replicas * (now - self._held_until)
        self._held_until = now

    def dispatched(self, seconds: float) -> None:
        """A task was sent; its replica had room for it for this long."""
        self._dispatch_seconds += seconds
        self._dispatches += 1

    def drew(self, samples: int, seconds: float) -> None:
        """A task came back that took this long on its device."""
        self.samples += samples
        self._device_seconds += seconds

    def rates(self, now: float) -> Rates:
        """Over the time since a call of half a minute ago or so."""
        mark = self._mark(now)
        self._marks.append(mark)
        while self._marks[0].now < now - _WINDOW_SECONDS and len(self._marks) > 2:
            self._marks.popleft()
        first = self._marks[0]
        if now <= first.now:
            return Rates()
        held = mark.replica_seconds - first.replica_seconds
        count = mark.dispatches - first.dispatches
        return Rates(
            samples_per_second=(mark.samples - first.samples) / (now - first.now),
            # Device time is known when a task has ended: a long one may belong to the time before.
            busy=min(1.0, (mark.device_seconds - first.device_seconds) / held) if held else 0.0,
            dispatch_seconds=(mark.dispatch_seconds - first.dispatch_seconds) / count if count else 0.0,
        )

    def _mark(self, now: float) -> _Mark:
        return _Mark(
            now,
            self.samples,
            self._device_seconds,
            self.replica_seconds,
            self._dispatch_seconds,
            self._dispatches,
        )

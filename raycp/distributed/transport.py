"""What the dispatcher needs from whatever runs replicas: Ray, or a simulation with a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from raycp.certify.units import Task

PAUSE = 4.0
"""Times as long as looking for answers takes, a driver leaves off looking: a fifth of its time at most goes there."""
LONGEST_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Ready:
    """A replica has its models and passed its self-test."""

    replica: int
    numerics: str
    place: str
    """Node and device, for people."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task came back."""

    replica: int
    ticket: int
    result: Any
    """What the replica made of the task's blocks: class counts, int64 [R, K + 1], the last column counting invalid
    logits; of an evaluation, `Measured`."""
    seconds: float
    """Time on the device."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A task raised an error; the replica lives."""

    replica: int
    ticket: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A replica is gone, with all tasks it held."""

    replica: int
    reason: str
    error: Exception | None = None
    """What its constructor raised, if it never became ready."""


Event = Ready | Done | Failed | Lost


class Transport(Protocol):
    """Starts and stops replicas, carries tasks there and results back. Replicas are numbered by the dispatcher."""

    def start(self, replica: int) -> None:
        """Ask for a replica; it becomes `Ready` when there is room for it, now or later."""
        ...

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        """Send a task; tickets are unique. Tasks of one replica run one after the other, in order."""
        ...

    def wait(self, timeout: float) -> list[Event]:
        """What happened; waits up to `timeout` seconds for the first event."""
        ...

    def stop(self, replica: int) -> None:
        """End a replica or withdraw the wish for it; no event of it follows. One that is lost already is left alone."""
        ...

    def capacity(self) -> int:
        """Replicas that the cluster could hold now, were it empty."""
        ...

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

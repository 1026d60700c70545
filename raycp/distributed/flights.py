"""What the dispatcher knows of a task on its way, and of a replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from raycp.certify.units import Task


@dataclass(slots=True)
class Flight:
    """A task on its way, or waiting to be tried again."""

    task: Task
    failures: int = 0
    losses: int = 0
    avoid: int | None = None


@dataclass(slots=True)
class ReplicaState:
    """A replica that is ready."""

    numerics: str
    flights: dict[int, Flight] = field(default_factory=dict)
    """By ticket, oldest first: the first one is running."""
    samples_per_second: float = 0.0
    last_size: int = 0
    busy_since: float = 0.0
    since: float = 0.0
    """When it was ready, and then when its last task came back."""

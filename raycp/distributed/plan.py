"""What the dispatcher asks for its work: a certification's planner, or an evaluation's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from raycp.certify.account import Account
from raycp.certify.units import Task


class Plan(Protocol):
    """(sigma, image) units, handed out as tasks; see `Planner`, whose members these are."""

    num_units: int
    account: Account

    @property
    def finished(self) -> bool:
        """Whether every unit is decided or set aside."""
        ...

    @property
    def num_decided(self) -> int:
        """Units that are done."""
        ...

    @property
    def set_aside(self) -> Mapping[tuple[float, int], str]:
        """Units given up, with the reason."""
        ...

    def remaining_samples(self) -> int:
        """Samples still to come."""
        ...

    def available_samples(self) -> int:
        """Samples that could be handed out now."""
        ...

    def next_task(self, num_samples: int, numerics: str, live: Collection[str]) -> Task | None:
        """The next blocks for a replica, about `num_samples` in all."""
        ...

    def wants(self, task: Task) -> bool:
        """Whether drawing a task has a use."""
        ...

    def requeue(self, task: Task) -> None:
        """A task did not come back."""
        ...

    def record(self, task: Task, result: Any, seconds: float, /) -> tuple[Sequence[Any], Sequence[Any]]:
        """Take in what came back; what must be kept, and the units that are done with it."""
        ...

    def give_up(self, task: Task, reason: str) -> None:
        """A task failed for good."""
        ...

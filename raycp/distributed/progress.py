"""How far a session is, and what it may spend."""

from __future__ import annotations

from dataclasses import dataclass


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

"""A training that stops after an agreed number of steps, until it is its turn again.

The worker's side is called by PyTorch after every step of the optimiser, so the training itself is the real one. Both
sides write into one folder: `RANK.stamps` has a line for each stop and each start of a worker, `go` the number of turns
that have been given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycp.errors import TrainingError

_POLL_SECONDS = 0.005
_CALLED_OFF = -1


@dataclass(frozen=True)
class Schedule:
    """When a training stops: after `warmup` steps, and after every turn. The last stop keeps its end out of the way.

    Attributes:
        folder: where its workers and the conductor meet.
        warmup: steps before the first turn, at least 1.
        per_turn: steps of a turn.
        rounds: turns.
    """

    folder: str
    warmup: int
    per_turn: int
    rounds: int

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.warmup + self.rounds * self.per_turn + 1

    def turn_after(self, step: int) -> int | None:
        """The turn, from 0, that begins when `step` steps are done; `rounds` after the last; None within one."""
        turn, rest = divmod(step - self.warmup, self.per_turn)
        return None if rest or turn < 0 else turn


@dataclass(frozen=True)
class Stamp:
    """A moment of one worker: seconds of the machine's clock, and of CPU time of its process so far."""

    wall: float
    cpu: float


class Turns:
    """The worker's side: counts steps, and waits where a turn begins.

    Args:
        schedule: of the training.
        rank: of the worker.
    """

    def __init__(self, schedule: Schedule, rank: int) -> None:
        self._schedule = schedule
        self._stamps = Path(schedule.folder) / f"{rank}.stamps"
        self._done = 0

    def step(self) -> None:
        """A step is done.

        Raises:
            TrainingError: the measurement was called off.
        """
        self._done += 1
        turn = self._schedule.turn_after(self._done)
        if turn is None:
            return
        self._stamp()
        while (given := _given(self._schedule.folder)) <= turn:
            if given == _CALLED_OFF:
                raise TrainingError("the measurement was called off.")
            time.sleep(_POLL_SECONDS)
        self._stamp()

    def _stamp(self) -> None:
        line = f"{time.monotonic()!r} {time.process_time()!r}\n"
        with self._stamps.open("a") as file:
            file.write(line)


def in_turns(schedule: Schedule) -> Callable[[dict[str, Any]], None]:
    """What every worker of a training runs instead of `train_worker`: the same, in turns."""

    def worker(job: dict[str, Any]) -> None:
        import torch.distributed
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from raycp.distributed.train_worker import train_worker

        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        turns = Turns(schedule, rank)
        hook = register_optimizer_step_post_hook(lambda *_: turns.step())
        try:
            train_worker(job)
        finally:
            hook.remove()

    return worker


def give(schedule: Schedule, turn: int) -> None:
    """Let turn number `turn` begin; the one after the last ends the training."""
    _write(schedule.folder, turn + 1)


def call_off(schedule: Schedule) -> None:
    """End the training at its next stop."""
    _write(schedule.folder, _CALLED_OFF)


def stamps(schedule: Schedule, rank: int) -> list[Stamp]:
    """What a worker has written: the end of its warm-up, then the begin and the end of each of its turns."""
    path = Path(schedule.folder) / f"{rank}.stamps"
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")  # what follows the last newline is not complete
    return [Stamp(*map(float, line.split())) for line in lines]


def _given(folder: str) -> int:
    path = Path(folder) / "go"
    return int(path.read_text()) if path.exists() else 0


def _write(folder: str, value: int) -> None:
    aside = Path(folder) / "go.tmp"
    aside.write_text(str(value))
    aside.replace(Path(folder) / "go")

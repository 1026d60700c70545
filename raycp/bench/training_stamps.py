"""When the workers of a training made their steps: a line of `RANK.stamps` for each of them.

It is written by PyTorch's hook behind every step of the optimiser, so the training itself is the real one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Stamp:
    """The end of a step of one worker: seconds of the machine's clock, and of CPU time of its process so far."""

    wall: float
    cpu: float


def stamped(folder: str) -> Callable[[dict[str, Any]], None]:
    """What every worker of a training runs instead of `train_worker`: the same, with stamps in `folder`."""

    def worker(job: dict[str, Any]) -> None:
        import torch.distributed
        from torch.optim.optimizer import register_optimizer_step_post_hook

        from raycp.distributed.train_worker import train_worker

        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        with (Path(folder) / f"{rank}.stamps").open("a", buffering=1) as file:

            def stamp(*_: Any) -> None:
                file.write(f"{time.monotonic()!r} {time.process_time()!r}\n")

            hook = register_optimizer_step_post_hook(stamp)
            try:
                train_worker(job)
            finally:
                hook.remove()

    return worker


def stamps(folder: str | Path, rank: int) -> list[Stamp]:
    """The steps that a worker has made so far."""
    path = Path(folder) / f"{rank}.stamps"
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")  # what follows the last newline is not complete
    return [Stamp(*map(float, line.split())) for line in lines]

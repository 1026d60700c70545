"""`raycp train` for chaos.py: steps of a set length, each counted in a file that outlives whoever made it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from raycp.config import load_config
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from raycp.distributed.train_worker import train_worker
from raycp.training.loop import StageTraining


def counting_worker(job: dict[str, Any], file: str, seconds: float) -> None:
    """`train_worker` whose steps take `seconds` longer; the first worker appends a byte to `file` for each."""
    import ray.train

    uncounted = StageTraining.run
    first = ray.train.get_context().get_world_rank() == 0

    def counted(training: StageTraining) -> Iterator[float]:
        for value in uncounted(training):
            time.sleep(seconds)
            if first:
                descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                os.write(descriptor, b".")
                os.close(descriptor)
            yield value

    StageTraining.run = counted  # type: ignore[method-assign]
    train_worker(job)


def main(config: str, out: str, file: str, seconds: str) -> None:
    """Train as the configuration says."""
    worker = partial(counting_worker, file=file, seconds=float(seconds))
    train_models(load_config(TrainConfig, Path(config)), out, print, worker)


if __name__ == "__main__":
    main(*sys.argv[1:])

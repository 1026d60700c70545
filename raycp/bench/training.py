"""The real training on Ray Train against a plain PyTorch loop of the same step, and two workers against one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from raycp.bench.plain_training import PlainProcess
from raycp.bench.processes import descendants
from raycp.bench.training_stamps import stamped, stamps
from raycp.bench.windows import Spread, ratios, spread
from raycp.config import Engine, parse_config
from raycp.config.stages import DenoiserStage
from raycp.config.train import TrainConfig
from raycp.distributed.cluster import connected
from raycp.distributed.train import train_models

Side = Literal["plain loop", "1 worker", "2 workers"]
SIDES: tuple[Side, ...] = ("plain loop", "1 worker", "2 workers")
_WORKERS: dict[Side, int] = {"1 worker": 1, "2 workers": 2}
_WARMUP_STEPS = 3
_FEWEST_STEPS = 5
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class TrainingSize:
    """What is trained: a denoiser, on random images.

    Attributes:
        channels: of the U-Net at each resolution.
        groups: of its normalisations.
        batch_size: images of a step, of all workers together.
        image_size: height and width, pixels; there are 3 channels.
        images: of the data set.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    groups: int = 8
    batch_size: int = 64
    image_size: int = 32
    images: int = 2_000

    def stage(self, steps: int) -> dict[str, Any]:
        """Its stage in a training's configuration."""
        return {
            "stage": "denoiser",
            "steps": steps,
            "batch_size": self.batch_size,
            "flip": True,
            "block_out_channels": self.channels,
            "norm_num_groups": self.groups,
        }


@dataclass(frozen=True)
class TrainingWindow:
    """One side's turn, in which no other side was at work; of a worker, without its start.

    Attributes:
        side: whose.
        steps: of the joint batch.
        seconds: wall clock, from the first worker's start to the last one's end.
        cpu_seconds: CPU time of the processes that train.
        ray_seconds: CPU time of Ray's own processes meanwhile; None where the system does not tell, and without Ray.
    """

    side: Side
    steps: int
    seconds: float
    cpu_seconds: float
    ray_seconds: float | None = None


@dataclass(frozen=True)
class TrainingMeasured:
    """All turns, in order of time."""

    size: TrainingSize
    parameters: int
    windows: list[TrainingWindow]

    def comparisons(self) -> dict[str, Spread]:
        """Ratios of steps per second, and of steps per second of the training processes' CPU time."""
        by_wall = [(window.side, window.steps / window.seconds) for window in self.windows]
        by_cpu = [(window.side, window.steps / window.cpu_seconds) for window in self.windows]
        result = {
            "1 worker / plain loop": spread(ratios(by_wall, "1 worker", "plain loop")),
            "1 worker / plain loop, by CPU time": spread(ratios(by_cpu, "1 worker", "plain loop")),
        }
        if any(window.side == "2 workers" for window in self.windows):
            result["2 workers / 1 worker"] = spread(ratios(by_wall, "2 workers", "1 worker"))
            # What two cores would give that never wait for each other: each worker has one.
            doubled = [(side, value * _WORKERS.get(side, 1)) for side, value in by_cpu]
            result["2 workers / 1 worker, by CPU time"] = spread(ratios(doubled, "2 workers", "1 worker"))
        return result

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        found = {name: asdict(value) for name, value in self.comparisons().items()}
        return asdict(self) | {"ratios": found}


def measure_training(
    seconds: float, rounds: int, note: Callable[[str], None], size: TrainingSize | None = None
) -> TrainingMeasured:
    """Measure steps in the steady state, one side after the other, so that nobody else's processes are alive.

    Args:
        seconds: of a turn of the plain loop; the other sides make as many steps.
        rounds: turns of each side; the plain loop has one more.
        note: told what begins.
        size: what is trained; None for a CIFAR-size U-Net.

    Raises:
        RaycpError: what Ray or the training has to object.
    """
    size = size or TrainingSize()
    shape = (size.images, 3, size.image_size, size.image_size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sides = [side for side, workers in _WORKERS.items() if workers <= (os.cpu_count() or 1)]
    engine = Engine(local_cpus=max(_WORKERS[side] for side in sides), dashboard=True)
    note("training: the plain loop")
    with TemporaryDirectory() as folder, PlainProcess(_stage(size), images) as plain:
        parameters, step_seconds = plain.prepare()
        per_turn = max(_FEWEST_STEPS, round(seconds / step_seconds))
        np.savez(f"{folder}/images.npz", images=images, labels=np.zeros(len(images), dtype=np.int64))
        windows = [_plain_window(plain, per_turn)]
        with connected(engine):
            for number in range(rounds):
                for side in sides:
                    note(f"training: round {number + 1} of {rounds}, {per_turn} steps of {side}")
                    place = Path(folder) / f"{number}-{_WORKERS[side]}"
                    windows.append(_trained_window(side, size, per_turn, place, without=[plain.pid]))
                note(f"training: round {number + 1} of {rounds}, {per_turn} steps of plain loop")
                windows.append(_plain_window(plain, per_turn))
    return TrainingMeasured(size, parameters, windows)


def _trained_window(
    side: Side, size: TrainingSize, per_turn: int, folder: Path, without: Sequence[int]
) -> TrainingWindow:
    """One whole training, whose first steps do not count."""
    folder.mkdir()
    steps, workers = _WARMUP_STEPS + per_turn, _WORKERS[side]
    raw = {
        "data": {"name": "npz", "path": str(folder.parent / "images.npz"), "layout": "CHW"},
        "stages": [size.stage(steps)],
        "engine": {"workers": workers, "checkpoint_steps": steps, "max_failures": 0},
    }
    config = parse_config(TrainConfig, raw)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_models, config, f"{folder}/run", lambda _: None, stamped(str(folder)))
        moments: list[tuple[float, float | None]] = []
        for count in (_WARMUP_STEPS, steps):
            while not training.done() and any(len(stamps(folder, rank)) < count for rank in range(workers)):
                time.sleep(_POLL_SECONDS)
            moments.append((time.monotonic(), _ray_seconds(without)))
        training.result()
    found = [stamps(folder, rank)[_WARMUP_STEPS - 1 :] for rank in range(workers)]
    seconds = max(made[-1].wall for made in found) - min(made[0].wall for made in found)
    (begin, before), (end, after) = moments
    share = None if before is None or after is None else (after - before) / (end - begin)
    return TrainingWindow(
        side,
        per_turn,
        seconds=seconds,
        cpu_seconds=sum(made[-1].cpu - made[0].cpu for made in found),
        ray_seconds=None if share is None else share * seconds,
    )


def _stage(size: TrainingSize) -> DenoiserStage:
    # The plain loop has no end; its learning rate falls as if it had one far away.
    return parse_config(DenoiserStage, {"name": "denoiser", **size.stage(10**6)})


def _plain_window(plain: PlainProcess, steps: int) -> TrainingWindow:
    seconds, cpu_seconds = plain.steps(steps)
    return TrainingWindow("plain loop", steps, seconds, cpu_seconds)


def _ray_seconds(without: Sequence[int]) -> float | None:
    """CPU time so far of all processes below this one but the workers of trainings."""
    processes = descendants(os.getpid(), without)
    if processes is None:
        return None
    return sum(process.cpu_seconds for process in processes if "RayTrainWorker" not in process.title)

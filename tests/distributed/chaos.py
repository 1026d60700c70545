"""Certify or train while everything dies: workers, nodes and the driver, at random, until the run is done.

    python tests/distributed/chaos.py certify --minutes 10
    python tests/distributed/chaos.py train --minutes 10

compares the outcome with that of an undisturbed run, bit for bit, and prints what was survived and what it cost. The
seed makes the order of the misfortunes repeatable, not their moments.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "cluster")]

from local import ENVIRONMENT, LocalCluster, token_file  # noqa: E402
from small_runs import certificates, small_config  # noqa: E402

from raycp.config import resolved  # noqa: E402
from raycp.models import read_model  # noqa: E402
from raycp.training.run_files import LOG, MODELS  # noqa: E402

BATCH_SECONDS = 0.02
BATCH = 64
REPLICAS = 2
UNITS = 12
STEP_SECONDS = 0.05
CHECKPOINT_STEPS = 10


@dataclass
class Survived:
    """What happened, and what it cost."""

    seconds: float = 0.0
    workers_killed: int = 0
    nodes_lost: int = 0
    nodes_joined: int = 0
    drivers_killed: int = 0
    repeats: int = 0
    """Tasks that were given to another replica, or restarts of a training from a checkpoint."""
    work_needed: int = 0
    """Samples, or steps."""
    work_done: int = 0

    @property
    def share_repeated(self) -> float:
        """Of the work; for samples, the padding of batches and the self-tests of new replicas included."""
        return self.work_done / self.work_needed - 1


class Driver:
    """A certification or a training as a process, started again when it was killed."""

    def __init__(self, folder: Path, command: list[str], config: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        self.run, self._log = folder / "run", folder / "log.txt"
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(config))
        places = {"CONFIG": str(file), "RUN": str(self.run)}
        self._command = [sys.executable, *(places.get(word, word) for word in command)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or resume."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """It dies at once, as when its machine does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        """Whether the run is done; a driver that gave up is an error."""
        assert self._process is not None
        status = self._process.poll()
        assert status in (None, 0), f"exit status {status}:\n{self._log.read_text()[-3000:]}"
        return status == 0

    def to_the_end(self) -> Path:
        """Run undisturbed; returns the run directory."""
        self.start()
        while not self.ended():
            time.sleep(0.5)
        return self.run

    def figures(self) -> dict[str, Any]:
        """What it last wrote of its state."""
        path = self.run / "status.json"
        return dict(json.loads(path.read_text()).get("figures", {})) if path.exists() else {}


def under_fire(
    driver: Driver, cluster: LocalCluster, minutes: float, pause: tuple[float, float], dice: random.Random
) -> Survived:
    """From start to end of a run: every few seconds something dies.

    Two drivers and five nodes, spread over the minutes that the run should take, and workers in between.
    """
    result, repeats = Survived(), 0
    drivers = [minutes * 60 / 3, minutes * 60 * 2 / 3]
    nodes = [minutes * 60 * k / 6 for k in range(1, 6)]
    driver.start()
    begin = time.monotonic()
    while not driver.ended():
        time.sleep(dice.uniform(*pause))
        now = time.monotonic() - begin
        repeats = max(repeats, driver.figures().get("requeued", 0))
        if drivers and now > drivers[0]:
            drivers.pop(0)
            driver.kill()
            result.drivers_killed += 1
            result.repeats, repeats = result.repeats + repeats, 0
            driver.start()
        elif nodes and now > nodes[0]:
            nodes.pop(0)
            cluster.leave(dice.randrange(len(cluster.nodes)))
            result.nodes_lost += 1
            cluster.join()
            result.nodes_joined += 1
        elif workers := cluster.workers():
            try:
                os.kill(dice.choice(workers), signal.SIGKILL)
            except ProcessLookupError:  # it had just ended
                continue
            result.workers_killed += 1
    result.seconds = time.monotonic() - begin
    result.repeats += max(repeats, driver.figures().get("requeued", 0))
    return result


def certify(folder: Path, minutes: float, seed: int = 0) -> Survived:
    """A certification of about this length.

    Raises:
        AssertionError: the table differs from the undisturbed one.
    """
    # REPLICAS for a third of the time, each a batch every BATCH_SECONDS; the rest is spent on starting them.
    per_unit = int(minutes * 60 * REPLICAS * BATCH / BATCH_SECONDS / UNITS * 0.35)
    command = ["-m", "raycp.cli.main", "certify", "CONFIG", "--out", "RUN"]
    work = folder / "work"
    work.mkdir()
    counting = {
        "kind": "python", "factory": "slow_network:counting", "num_classes": 10,
        "kwargs": {"seconds": BATCH_SECONDS, "folder": str(work)},
    }  # fmt: skip
    with LocalCluster(store=80 * 2**20, dashboard=False) as cluster:
        for _ in range(REPLICAS):
            cluster.join()
        engine = {
            "task_seconds": 0.1,
            "replicas": REPLICAS,
            "flush_seconds": 1.0,
            "address": cluster.address,
        }
        config = small_config(num_estimation=per_unit, classifier=counting, engine=engine)
        driver = Driver(folder / "fire", command, resolved(config))
        result = under_fire(driver, cluster, minutes, (4, 9), random.Random(seed))
    result.work_done = BATCH * sum(path.stat().st_size for path in work.iterdir())
    result.work_needed = UNITS * (per_unit + config.certify.num_selection)
    calm = small_config(num_estimation=per_unit, engine={"task_seconds": 5.0})
    expected = Driver(folder / "calm", command, resolved(calm)).to_the_end()
    assert certificates(driver.run).equals(certificates(expected)), "the tables differ"
    return result


def train(folder: Path, minutes: float, seed: int = 0) -> Survived:
    """A training of two workers, of about this length.

    Raises:
        AssertionError: the weights differ from the undisturbed ones.
    """

    # Half of the time goes into starting again.
    steps = max(1, int(minutes * 60 * 0.5 / STEP_SECONDS) // CHECKPOINT_STEPS) * CHECKPOINT_STEPS
    made = folder / "steps"

    def driver(name: str, seconds: float, **engine: Any) -> Driver:
        stage = {"stage": "denoiser", "steps": steps, "block_out_channels": [16, 16], "norm_num_groups": 4}
        common = {"workers": 2, "checkpoint_steps": CHECKPOINT_STEPS, "max_failures": 10_000}
        config = {
            "data": {"name": "digits"},
            "stages": [stage | {"batch_size": 32}],
            "engine": common | engine,
        }
        command = [str(HERE / "counted_training.py"), "CONFIG", "RUN", f"{made}-{name}", str(seconds)]
        return Driver(folder / name, command, config)

    with LocalCluster(store=80 * 2**20, dashboard=False) as cluster:
        for _ in range(3):
            cluster.join()
        fire = driver("fire", STEP_SECONDS, address=cluster.address)
        result = under_fire(fire, cluster, minutes, (15, 30), random.Random(seed))
    told = [json.loads(line) for line in (fire.run / LOG).read_text().splitlines()]
    result.repeats = sum("restored" in line for line in told)
    result.work_done = Path(f"{made}-fire").stat().st_size
    result.work_needed = steps
    expected = driver("calm", 0.0).to_the_end()
    ours, theirs = (read_model(str(run / MODELS / "denoiser")).sha256 for run in (fire.run, expected))
    assert ours == theirs, "the weights differ"
    return result


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Certify, or train, while everything dies.")
    parser.add_argument("what", choices=["certify", "train"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    survive = {"certify": certify, "train": train}[options.what]
    with token_file(), tempfile.TemporaryDirectory() as folder:
        result = survive(Path(folder), options.minutes, options.seed)
    print(json.dumps(asdict(result) | {"share_repeated": round(result.share_repeated, 4)}, indent=2))


if __name__ == "__main__":
    main()

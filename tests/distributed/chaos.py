"""Certify while everything dies: replicas, nodes and the driver, at random, until the run is done.

    python tests/distributed/chaos.py --minutes 10

compares the table with that of an undisturbed run, bit for bit, and prints what was survived and what it cost. The seed
makes the order of the misfortunes repeatable, not their moments.
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

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "cluster")]

from local import ENVIRONMENT, LocalCluster, token_file  # noqa: E402
from small_runs import certificates, small_config  # noqa: E402

from raycp.config import resolved  # noqa: E402

BATCH_SECONDS = 0.1
BATCH = 64
NODES = 2
UNITS = 12


@dataclass
class Survived:
    """What happened, and what it cost."""

    seconds: float = 0.0
    replicas_killed: int = 0
    nodes_lost: int = 0
    nodes_joined: int = 0
    drivers_killed: int = 0
    tasks_repeated: int = 0
    samples_needed: int = 0
    samples_drawn: int = 0

    @property
    def share_repeated(self) -> float:
        """Of the work, padding of batches included."""
        return self.samples_drawn / self.samples_needed - 1


class Driver:
    """`raycp certify` as a process, started again when it was killed."""

    def __init__(self, folder: Path, config: Path, address: str | None) -> None:
        self.run, self._log = folder / "run", folder / "log.txt"
        self._command = [
            sys.executable,
            "-m",
            "raycp.cli.main",
            "certify",
            str(config),
            "--out",
            str(self.run),
        ]
        if address is not None:
            self._command += ["--address", address]
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

    def status(self) -> dict[str, float]:
        """The figures it last wrote."""
        path = self.run / "status.json"
        return dict(json.loads(path.read_text())["figures"]) if path.exists() else {}


def survive(folder: Path, minutes: float, seed: int = 0) -> Survived:
    """One run under fire, of about this length; returns what it survived.

    Raises:
        AssertionError: the table differs from the undisturbed one.
    """
    dice, result = random.Random(seed), Survived()
    # Two replicas most of the time, each a batch every BATCH_SECONDS: N fills the time.
    per_unit = int(minutes * 60 * NODES * BATCH / BATCH_SECONDS / UNITS * 0.6)
    work = folder / "work"
    work.mkdir()
    config = small_config(
        num_estimation=per_unit,
        classifier={
            "kind": "python", "factory": "slow_network:counting", "num_classes": 10,
            "kwargs": {"seconds": BATCH_SECONDS, "folder": str(work)},
        },
        engine={"task_seconds": 1.0, "replicas": NODES, "flush_seconds": 1.0},
    )  # fmt: skip
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    with LocalCluster(store=80 * 2**20, dashboard=False) as cluster:
        for _ in range(NODES):
            cluster.join()
        driver = Driver(folder, file, cluster.address)
        driver.start()
        begin = time.monotonic()
        kills_of_drivers = [minutes * 60 / 3, minutes * 60 * 2 / 3]
        next_node = minutes * 60 / 6
        repeated = 0.0
        while not driver.ended():
            time.sleep(dice.uniform(2, 5))
            now = time.monotonic() - begin
            repeated = max(repeated, driver.status().get("requeued", 0))
            if kills_of_drivers and now > kills_of_drivers[0]:
                kills_of_drivers.pop(0)
                driver.kill()
                result.drivers_killed += 1
                result.tasks_repeated += int(repeated)
                repeated = 0.0
                driver.start()
            elif now > next_node:
                next_node += minutes * 60 / 6
                cluster.leave(dice.randrange(len(cluster.nodes)))
                cluster.join()
                result.nodes_lost += 1
                result.nodes_joined += 1
            elif workers := cluster.workers():
                try:
                    os.kill(dice.choice(workers), signal.SIGKILL)
                except ProcessLookupError:  # it had just ended
                    continue
                result.replicas_killed += 1
        result.seconds = time.monotonic() - begin
        result.tasks_repeated += int(max(repeated, driver.status().get("requeued", 0)))
    batches = sum(path.stat().st_size for path in work.iterdir())
    result.samples_drawn = batches * BATCH
    result.samples_needed = UNITS * (per_unit + config.certify.num_selection)
    calm = small_config(num_estimation=per_unit, engine={"task_seconds": 5.0})
    (folder / "calm").mkdir()
    file.write_text(yaml.safe_dump(resolved(calm)))
    undisturbed = Driver(folder / "calm", file, None)
    undisturbed.start()
    while not undisturbed.ended():
        time.sleep(0.5)
    assert certificates(driver.run).equals(certificates(undisturbed.run)), "the tables differ"
    return result


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Certify while everything dies.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", token_file())
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        result = survive(Path(folder), options.minutes, options.seed)
    print(json.dumps(asdict(result) | {"share_repeated": round(result.share_repeated, 4)}, indent=2))


if __name__ == "__main__":
    main()

"""`kill -9` of a worker, of the driver, and a node that leaves: the training ends with the weights it would have had.

On the CPU and with the same number of workers that is bit for bit: optimiser, averages and place in the data are in the
checkpoint. Only processes below the cluster that a test has started itself are killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from local import descendants

import raycp.training.loop
from raycp.config import parse_config
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from raycp.distributed.train_worker import train_worker
from raycp.models import read_model
from raycp.report.training_record import read_training
from raycp.training.run_files import LOG, MODELS

pytestmark = pytest.mark.ray

EVERY, STEPS = 20, 160
SECONDS = 300  # for what takes a few on an idle machine


def training() -> dict[str, Any]:
    """A stage that is soon done, and one that is interrupted: it has an optimiser, an average and a target network."""
    common = {"batch_size": 16, "optimizer": "radam"}
    return {
        "data": {"name": "digits", "split": "train", "select": {"count": 64}},
        "stages": [
            {"stage": "denoiser", "steps": 4, "block_out_channels": [8, 8], "norm_num_groups": 4, **common},
            {
                "stage": "consistency",
                "steps": STEPS,
                "num_steps": 8,
                "sigma_max": 2.0,
                "loss": "l2",
                **common,
            },
        ],
        "engine": {"workers": 2, "checkpoint_steps": EVERY, "log_steps": EVERY // 4},
    }


def hashes(run: Path) -> dict[str, str]:
    return {folder.name: read_model(str(folder)).sha256 for folder in (run / MODELS).iterdir()}


def curve(run: Path) -> dict[int, float]:
    """The loss of the interrupted stage, by step."""
    return read_training(str(run)).stages[1].loss


def restored(run: Path) -> list[int]:
    """The steps from which the interrupted stage has gone on."""
    return [line["step"] for line in log_of(run) if line.get("restored")]


def log_of(run: Path) -> list[dict[str, Any]]:
    path = run / LOG
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def has_checkpoint(run: Path) -> bool:
    """Ray Train has registered one: it is what a restart goes on from."""
    return "checkpoint_" in (
        snapshot.read_text()
        if (snapshot := run / "ray" / "checkpoint_manager_snapshot.json").is_file()
        else ""
    )


def wait_for(condition: Callable[[], Any]) -> Any:
    for _ in range(SECONDS * 20):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_undisturbed(run: Path, expected: Path) -> None:
    """It has gone on from a checkpoint, and nothing shows it: neither the weights nor the curve."""
    steps = restored(run)
    assert steps and all(0 < step < STEPS and step % EVERY == 0 for step in steps), steps
    assert hashes(run) == hashes(expected)
    assert curve(run) == curve(expected)


@pytest.fixture(scope="module")
def undisturbed(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train_models(parse_config(TrainConfig, training()), str(out), lambda _: None)
    assert restored(out) == [] and list(curve(out)) == list(range(EVERY // 4, STEPS + 1, EVERY // 4))
    return out


def test_a_killed_worker(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def kill() -> None:
        wait_for(lambda: has_checkpoint(run))
        workers = [pid for pid, title in descendants(os.getpid()).items() if "RayTrainWorker" in title]
        os.kill(max(workers), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert train_models(parse_config(TrainConfig, training()), str(run), lambda _: None)
    killer.join()
    assert_undisturbed(run, undisturbed)


def test_a_killed_driver(undisturbed: Path, tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(training()))
    command = [sys.executable, "-m", "raycp.cli.main", "train", str(file), "--out", str(run)]
    users = {
        name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"
    }  # so Ray gets a token
    first = subprocess.Popen(command, env=users, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: has_checkpoint(run) or first.poll() is not None)
    below = descendants(first.pid)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert not (run / MODELS / "consistency").is_dir()
    try:
        wait_for(lambda: not any(map(is_running, below)))  # nothing that could still write into the run
    finally:
        for pid in filter(is_running, below):
            os.kill(pid, signal.SIGKILL)
    again = subprocess.run(command, env=users, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert_undisturbed(run, undisturbed)


NODES = r"""
import sys
from concurrent.futures import ThreadPoolExecutor
import ray
from ray.cluster_utils import Cluster
from raycp.config import parse_config
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from pathlib import Path
from test_ray_train_faults import descendants, has_checkpoint, training, wait_for

run = Path(sys.argv[1])
store = 80 * 2**20
cluster = Cluster()
head = cluster.add_node(num_cpus=0, node_ip_address="127.0.0.31", object_store_memory=store, include_dashboard=False)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
nodes = [
    cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number}", object_store_memory=store)
    for number in (32, 33, 34)
]

def holds(node, title):
    (raylet,) = node.all_processes["raylet"]
    return any(title in found for found in descendants(raylet.process.pid).values())

def leave():
    wait_for(lambda: has_checkpoint(run))
    # What workers tell must not be on a node that may leave, whichever one leaves today.
    assert holds(head, "Mailbox") and not any(holds(node, "Mailbox") for node in nodes)
    cluster.remove_node(next(node for node in nodes if holds(node, "RayTrainWorker")), allow_graceful=False)

with ThreadPoolExecutor(1) as pool:
    left = pool.submit(leave)
    assert train_models(parse_config(TrainConfig, training()), str(run), lambda _: None)
    left.result()
ray.shutdown()
cluster.shutdown()
"""


def on_nodes(script: str, run: Path, **extra: str) -> None:
    """Run a script that has a cluster to itself."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", script, str(run)],
        env=environment | extra, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_node_that_leaves(undisturbed: Path, tmp_path: Path) -> None:
    """Three nodes of one CPU each for two workers: one that has a worker is gone at once."""
    run = tmp_path / "run"
    on_nodes(NODES, run)
    assert_undisturbed(run, undisturbed)


ELASTIC = r"""
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
import ray
import ray.train
from ray.cluster_utils import Cluster
from raycp.config import parse_config
from raycp.config.train import TrainConfig
from raycp.distributed.train import train_models
from pathlib import Path
from test_ray_train_faults import elastic_training, has_checkpoint, patient_worker, wait_for, workers_seen

run = Path(sys.argv[1])
ray.train.ScalingConfig = functools.partial(ray.train.ScalingConfig, elastic_resize_monitor_interval_s=2.0)
store = 80 * 2**20
cluster = Cluster()
cluster.add_node(num_cpus=0, node_ip_address="127.0.0.31", object_store_memory=store, include_dashboard=False)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
nodes = [
    cluster.add_node(num_cpus=1, node_ip_address=f"127.0.0.{number}", object_store_memory=store) for number in (32, 33)
]

def train():
    return train_models(parse_config(TrainConfig, elastic_training()), str(run), lambda _: None, patient_worker)

with ThreadPoolExecutor(1) as pool:
    trained = pool.submit(train)  # only the main thread may start nodes
    wait_for(lambda: has_checkpoint(run))
    cluster.remove_node(nodes[1], allow_graceful=False)
    wait_for(lambda: workers_seen(run) == [1])
    cluster.add_node(num_cpus=1, node_ip_address="127.0.0.34", object_store_memory=store)
    wait_for(lambda: workers_seen(run) == [1, 2])
    (run / "grown").touch()
    assert trained.result()
ray.shutdown()
cluster.shutdown()
"""


def elastic_training() -> dict[str, Any]:
    raw = training()
    return {**raw, "engine": {**raw["engine"], "min_workers": 1}}


def workers_seen(run: Path) -> list[int]:
    """The numbers of workers with which the interrupted stage has gone on."""
    return [
        line["workers"] for line in log_of(run) if line.get("restored") and line["stage"] == "consistency"
    ]


def patient_worker(job: dict[str, Any]) -> None:
    """`train_worker`, that waits at one half of the steps until the group has grown again."""
    exact = raycp.training.loop.schedule

    def waiting(step: int, steps: int, warmup_steps: int) -> float:
        if steps == STEPS and step == STEPS // 2:
            wait_for((Path(job["out"]) / "grown").exists)
        return exact(step, steps, warmup_steps)

    raycp.training.loop.schedule = waiting
    train_worker(job)


@pytest.mark.slow
def test_an_elastic_group_shrinks_and_grows(undisturbed: Path, tmp_path: Path) -> None:
    """Two nodes for one or two workers: one leaves at work, another one comes; the curve moves by rounding only."""
    run = tmp_path / "run"
    on_nodes(ELASTIC, run, RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="10")
    assert workers_seen(run) == [1, 2]
    ours, theirs = curve(run), curve(undisturbed)
    assert list(ours) == list(theirs)
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=1e-3)

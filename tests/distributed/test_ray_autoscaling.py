"""Ray's autoscaler, with its fake provider: nodes are processes, and come from zero when work asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from autoscaling import AutoscalingCluster
from local import ENVIRONMENT
from small_runs import small_config
from test_ray_train_faults import training

from raycp.config import resolved
from raycp.runs.status import read_status
from raycp.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECONDS = 300


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("0123456789abcdef" * 4)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"RAY_AUTH_TOKEN_PATH": str(token)}).items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield dict(os.environ)


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[AutoscalingCluster]:
    with AutoscalingCluster() as cluster:
        yield cluster


def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "it did not happen"
        time.sleep(0.2)


def test_replicas_follow_nodes_that_come_for_them_and_leave_when_the_work_is_done(
    cluster: AutoscalingCluster, environment: dict[str, str], tmp_path: Path
) -> None:
    engine = {"replicas": 2, "task_seconds": 1.0, "flush_seconds": 0.5, "address": cluster.address}
    file, run = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(resolved(small_config(0.1, 3_000, engine=engine))))
    wait_for(lambda: cluster.num_nodes() == 0)
    command = [sys.executable, "-m", "raycp.cli.main", "certify", str(file), "--out", str(run)]
    most = {"nodes": 0, "replicas": 0}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # one at least every few seconds
            most["nodes"] = max(most["nodes"], cluster.num_nodes())
            if "2 replicas," in line:
                most["replicas"] = 2
        assert process.wait(timeout=SECONDS) == 0
    assert most == {"nodes": 2, "replicas": 2}
    assert read_status(Storage(str(run))) is not None
    wait_for(lambda: cluster.num_nodes() == 0)


def test_a_training_waits_for_the_nodes_that_it_wants(
    cluster: AutoscalingCluster, environment: dict[str, str], tmp_path: Path
) -> None:
    config = training()
    config["stages"] = config["stages"][:1]
    config["engine"] |= {"address": cluster.address, "start_timeout": 200.0}
    file, run = tmp_path / "train.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(config))
    wait_for(lambda: cluster.num_nodes() == 0)
    command = [sys.executable, "-m", "raycp.cli.main", "train", str(file), "--out", str(run)]

    def ended(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    at_once = ended("--set", "engine.start_timeout=0")
    assert at_once.returncode != 0
    assert "engine.workers = 2 with 1 CPU each want 2 CPU, but the cluster has 0" in at_once.stderr
    too_many = ended("--set", "engine.workers=16", "--set", "engine.start_timeout=3")
    assert too_many.returncode != 0
    assert "after engine.start_timeout = 3 s. Lower engine.workers" in too_many.stderr
    wait_for(lambda: cluster.num_nodes() == 0)  # some came for the sixteen
    waited = ended()
    assert waited.returncode == 0, waited.stderr[-2000:]
    assert "waiting for nodes, up to engine.start_timeout = 200 s" in waited.stderr

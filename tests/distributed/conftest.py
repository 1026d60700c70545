"""One small Ray cluster for all tests of this folder that need one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
# Notice a lost node in about a second instead of fourteen.
os.environ.setdefault("RAY_health_check_period_ms", "500")
os.environ.setdefault("RAY_health_check_timeout_ms", "2000")
os.environ.setdefault("RAY_health_check_failure_threshold", "3")
os.environ.setdefault("RAY_health_check_initial_delay_ms", "500")
os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = [str(HERE), str(HERE.parent), str(ROOT / "cluster"), str(ROOT / "docs" / "bring-your-own")]
sys.path[:0] = MODULES
os.environ["PYTHONPATH"] = os.pathsep.join([*MODULES, os.environ.get("PYTHONPATH", "")])  # for the workers


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster of two CPUs, started once."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def expected_run(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of `small_config`, with one replica."""
    from small_runs import Recorder, small_config

    from raycp.distributed.job import prepare_job
    from raycp.distributed.session import run_job

    out = tmp_path_factory.mktemp("expected")
    config = small_config(engine={"replicas": 1})
    assert run_job(prepare_job("certify", config), str(out), Recorder())
    return out

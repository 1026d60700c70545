"""What Prometheus gets to see of a certification, and what `raycp status` does."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import pytest
from small_runs import Recorder, small_config

from raycp.distributed.job import prepare_job
from raycp.distributed.session import run_job
from raycp.runs.status import read_status
from raycp.storage import Storage

pytestmark = pytest.mark.ray

SECONDS = 30.0


def exported(run: str) -> dict[str, dict[str, float]]:
    """All samples of a run that the node exports: by name, then by the tags that raycp sets."""
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        match = re.fullmatch(r"ray_(raycp_\w+)\{(.*)\} (\S+)", line)
        if match and f'run="{run}"' in match[2]:
            tags = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            ours = ",".join(f"{key}={tags[key]}" for key in ("sigma", "eps", "replica", "le") if key in tags)
            found.setdefault(match[1], {})[ours] = float(match[3])
    return found


def test_figures_of_a_run_are_exported(ray_cluster: None, tmp_path: Path) -> None:
    out = tmp_path / "measured"
    assert run_job(prepare_job("certify", small_config()), str(out), Recorder())
    samples, deadline = 2 * 6 * 3_050, time.monotonic() + SECONDS
    found = exported("measured")
    while found.get("raycp_samples_drawn_total", {}).get("") != samples and time.monotonic() < deadline:
        time.sleep(0.5)
        found = exported("measured")
    assert found["raycp_samples_drawn_total"] == {"": samples}
    assert found["raycp_units"] == found["raycp_units_decided"] == {"": 12}
    assert found["raycp_samples_remaining"] == {"": 0}
    assert found["raycp_images_decided"] == {"sigma=0.25": 6, "sigma=0.5": 6}
    assert 0 < found["raycp_busy_ratio"][""] <= 1
    assert found["raycp_replica_seconds_total"][""] > 0
    accuracy = found["raycp_certified_accuracy_ratio"]
    assert set(accuracy) >= {"sigma=0.25,eps=0", "sigma=0.5,eps=0.25"}
    status = read_status(Storage(str(out)))
    assert status is not None
    assert (status.command, status.state) == ("certify", "complete")

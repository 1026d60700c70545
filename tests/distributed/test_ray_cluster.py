"""Several real raylets on one machine: nodes that join are used, nodes that leave cost only time.

Runs in a process of its own, because a process can be driver of one cluster only; one loopback address per node.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import certificates

pytestmark = pytest.mark.ray

SCRIPT = r"""
import json, sys
import ray
from ray.cluster_utils import Cluster
from raycp.distributed.job import prepare_job
from raycp.distributed.session import run_job
from small_runs import Recorder, small_config

out = sys.argv[1]
store = 80 * 2**20
cluster = Cluster()
cluster.add_node(num_cpus=0, node_ip_address="127.0.0.11", object_store_memory=store, include_dashboard=False)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
first = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.12", object_store_memory=store)
second = third = None
config = small_config(seconds_per_batch=0.08, engine={"task_seconds": 0.3, "replicas": 2})

class Watch(Recorder):
    def progress(self, progress, accuracies):
        global second, third
        super().progress(progress, accuracies)
        step = len(events)
        if step == 0 and progress.replicas == 1 and progress.samples > 2000:
            events.append(("one replica, one waiting", progress.replicas, progress.pending))
            second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.13", object_store_memory=store)
        elif step == 1 and progress.replicas == 2:
            events.append(("joined", progress.replicas, progress.pending))
        elif step == 2 and progress.replicas == 2 and progress.samples > 10000:
            events.append(("removing the first node", progress.replicas, progress.pending))
            cluster.remove_node(first, allow_graceful=False)
        elif step == 3 and progress.lost >= 1:
            events.append(("lost", progress.replicas, progress.pending))

events = []
watch = Watch()
complete = run_job(prepare_job("certify", config), out, watch)
last = watch.states[-1]
with open(sys.argv[2], "w") as file:
    json.dump({"complete": complete, "events": events, "lost": last.lost, "requeued": last.requeued}, file)
ray.shutdown()
cluster.shutdown()
"""


def test_nodes_join_and_leave(expected_run: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), str(tmp_path / "said.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["complete"]
    assert [event[0] for event in said["events"]] == [
        "one replica, one waiting",
        "joined",
        "removing the first node",
        "lost",
    ]
    assert said["events"][0][1:] == [1, 1]
    assert said["requeued"] >= 1
    assert certificates(tmp_path / "run").equals(certificates(expected_run))

"""A Ray cluster of several nodes on this machine, for trying out what nodes that come and go do to a run.

    python cluster/local.py --nodes 3

prints what another terminal needs, and then takes `join`, `leave` and `kill` from its own: a node more, a node less
without warning, and a replica or training worker that dies. It ends with Ctrl-D or Ctrl-C. Each node is a raylet with a
loopback address of its own; nothing listens beyond this machine but what Ray opens itself, which asks for a token.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    "RAY_AUTH_MODE": "token",
    # A node that is gone is noticed in seconds; too nervous for busy machines of a real cluster.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
STORE_BYTES = 200 * 2**20
WORKERS = ("ray::certify.draw", "ray::RayTrainWorker")
"""As Ray names processes by what they do; a replica that starts or waits has another title."""


class LocalCluster:
    """A head without work, and nodes that join and leave.

    Args:
        cpus: of each node.
        store: bytes of each node's object store.
        dashboard: start the dashboard, on 127.0.0.1.
    """

    def __init__(self, cpus: int = 1, store: int = STORE_BYTES, dashboard: bool = True) -> None:
        from ray.cluster_utils import Cluster

        self._cpus, self._store = cpus, store
        self._cluster = Cluster()
        self._head = self._cluster.add_node(
            num_cpus=0, node_ip_address="127.0.0.11", object_store_memory=store, include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
        )  # fmt: skip
        self.nodes: list[Any] = []
        self._joined = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """For --address."""
        return str(self._cluster.address)

    @property
    def dashboard(self) -> str:
        """Of the dashboard, for a browser and for jobs."""
        return f"http://{self._head.webui_url}"

    def join(self) -> None:
        """Another node."""
        self._joined += 1
        self.nodes.append(
            self._cluster.add_node(
                num_cpus=self._cpus,
                node_ip_address=f"127.0.0.{11 + self._joined % 200}",
                object_store_memory=self._store,
            )
        )

    def leave(self, position: int = 0) -> None:
        """A node is gone at once, as when its machine is taken away; the oldest one by default."""
        self._cluster.remove_node(self.nodes.pop(position), allow_graceful=False)

    def workers(self) -> list[int]:
        """Process ids of the replicas and training workers that are at work."""
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.nodes]
        return sorted(
            pid
            for raylet in raylets
            for pid, title in descendants(raylet).items()
            if title.startswith(WORKERS)
        )


def descendants(root: int) -> dict[int, str]:
    """Process ids and titles of all processes below one."""
    listed = subprocess.run(
        ["ps", "-eww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    found: dict[int, str] = {}
    parents = {root}
    while parents:
        below = {int(row[0]): row[2] for row in rows if len(row) == 3 and int(row[1]) in parents}
        found |= below
        parents = set(below)
    return found


@contextmanager
def token_file() -> Iterator[str]:
    """The file of the cluster's token: the user's, or a new one for the block that only this user can read."""
    if given := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        yield given
        return
    handle, path = tempfile.mkstemp(prefix="raycp-token-")
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = path
    try:
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A Ray cluster of several nodes on this machine.")
    parser.add_argument("--nodes", type=int, default=2, help="nodes beside the head (2)")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of each node (1)")
    options = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Nodes find a user's `python:` factory in the folder that the cluster was started in.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    with token_file() as path, LocalCluster(options.cpus) as cluster:
        for _ in range(options.nodes):
            cluster.join()
        print(
            f"{options.nodes} nodes, dashboard {cluster.dashboard}. In another terminal:\n"
            f"  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={path}\n"
            f"  raycp certify CONFIG --out RUN --address {cluster.address} --replicas {options.nodes}\n"
            "Here: join, leave, kill; Ctrl-D ends the cluster.",
            flush=True,
        )
        for line in sys.stdin:
            order = line.strip()
            if order == "join":
                cluster.join()
            elif order == "leave" and cluster.nodes:
                cluster.leave()
            elif order == "kill" and (workers := cluster.workers()):
                os.kill(workers[0], signal.SIGKILL)
            elif order:
                print("join, leave (with a node), kill (with a worker) or Ctrl-D", flush=True)
            print(f"{len(cluster.nodes)} nodes, {len(cluster.workers())} workers", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(1)

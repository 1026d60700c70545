"""`raycp doctor`: asks every node of a cluster for its report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from raycp.config import Engine
from raycp.distributed.cluster import connected
from raycp.distributed.dashboard import wants_token
from raycp.distributed.diagnosis import Finding, Node, diagnose
from raycp.distributed.node_report import NodeReport, examine
from raycp.errors import ClusterError

_ANSWER_SECONDS = 90.0


def examine_cluster(address: str | None, out: str | None, paths: Sequence[str]) -> list[Finding]:
    """Examine this machine and all nodes of a cluster.

    Args:
        address: of the cluster; None starts one here, to examine this machine alone.
        out: run directory that every node should be able to write; None for no such check.
        paths: files and folders to compare between nodes.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    with connected(Engine(address=address), "raycp doctor"):
        import ray  # not before: it reads its token then

        alive = [node for node in ray.nodes() if node["Alive"]]
        calls = {}
        for node in alive:
            remote = ray.remote(examine).options(
                num_cpus=0, label_selector={"ray.io/node-id": node["NodeID"]}, name="doctor.examine"
            )
            calls[remote.remote(out, tuple(paths))] = (node, time.time())
        reports: dict[Any, tuple[NodeReport, float]] = {}
        waiting, deadline = list(calls), time.monotonic() + _ANSWER_SECONDS
        while waiting and (left := deadline - time.monotonic()) > 0:
            done, waiting = ray.wait(waiting, timeout=left)
            for ref in done:
                received = time.time()
                reports[ref] = (ray.get(ref), received)
        nodes = []
        for ref, (node, sent) in calls.items():
            report, received = reports.get(ref, (None, sent + _ANSWER_SECONDS))
            nodes.append(
                Node(node["NodeManagerAddress"], node["Resources"].get("GPU", 0.0), report, sent, received)
            )
        dashboards = {} if address is None else _dashboards()
    return diagnose(examine(None, ()), nodes, dashboards, out)


def _dashboards() -> dict[str, bool]:
    """The cluster's dashboard, where it answers, and whether it does so without a token."""
    import ray

    place = ray._private.worker.get_dashboard_url()
    if not place:
        return {}
    url = f"http://{place}"
    try:
        return {url: not wants_token(url)}
    except ClusterError:  # it listens on its own node alone, as it should
        return {}

"""What the reports of the nodes mean: what is well, what to look at, what to mend, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raycp.distributed.node_report import PACKAGES, NodeReport

Level = Literal["ok", "warning", "problem"]

_LEAST_SHARED_MEMORY = 512 * 2**20
_LEAST_OPEN_FILES = 4096
_MOST_SKEW = 5.0


@dataclass(frozen=True)
class Finding:
    """One result of the examination."""

    level: Level
    text: str


@dataclass(frozen=True)
class Node:
    """A node as the cluster knows it, and its report.

    Attributes:
        address: of the node.
        gpus: that the cluster counts on it.
        report: None if the node did not answer.
        sent, received: driver's clock when the node was asked, and when its answer was there.
    """

    address: str
    gpus: float
    report: NodeReport | None
    sent: float
    received: float

    @property
    def skew(self) -> float:
        """Seconds that the node's clock is ahead of (below 0: behind) the driver's, at least."""
        if self.report is None:
            return 0.0
        early, late = self.report.clock - self.received, self.report.clock - self.sent
        return early if early > 0 else min(late, 0.0)


def diagnose(
    driver: NodeReport, nodes: Sequence[Node], dashboards: Mapping[str, bool], out: str | None = None
) -> list[Finding]:
    """All findings, the gravest first.

    Args:
        driver: this machine.
        nodes: of the cluster.
        dashboards: addresses that answer, and whether they did so without a token.
        out: the run directory that the nodes tried to write.
    """
    order = {"problem": 0, "warning": 1, "ok": 2}
    return sorted(_findings(driver, nodes, dashboards, out), key=lambda finding: order[finding.level])


def _findings(
    driver: NodeReport, nodes: Sequence[Node], dashboards: Mapping[str, bool], out: str | None
) -> Iterator[Finding]:
    for node in nodes:
        if node.report is None:
            yield Finding(
                "problem",
                f"node {node.address} did not answer within {node.received - node.sent:.0f} s: look at its load and "
                "its raylet, or take it out of the cluster",
            )
    known = [(node, node.report) for node in nodes if node.report is not None]
    yield from _versions(driver, known)
    yield from _devices(known)
    yield from _limits(known)
    yield from _storage(known, out)
    yield from _clocks(known)
    yield from _files(known)
    yield from _security(known, dashboards)


Known = Sequence[tuple[Node, NodeReport]]


def _versions(driver: NodeReport, known: Known) -> Iterator[Finding]:
    wanted = {"python": driver.python} | driver.versions
    different = False
    for node, report in known:
        found = {"python": report.python} | report.versions
        for name, here in wanted.items():
            if found[name] == here:
                continue
            different = True
            level: Level = "problem" if name in ("ray", "raycp", "python") else "warning"
            why = (
                "driver and nodes must agree"
                if level == "problem"
                else "counts of networks differ between versions, and what one node drew another cannot go on with"
            )
            there = found[name] or "not installed"
            yield Finding(
                level, f"node {node.address}: {name} is {there}, here {here or 'not installed'}; {why}"
            )
    if not different:
        versions = ", ".join(f"{name} {driver.versions[name]}" for name in PACKAGES if driver.versions[name])
        yield Finding("ok", f"Python {driver.python}, {versions} here and on {_count(known)}")


def _devices(known: Known) -> Iterator[Finding]:
    for node, report in known:
        if node.gpus > 0 and not report.gpus:
            yield Finding(
                "problem",
                f"node {node.address}: the cluster counts {node.gpus:g} GPU, but torch sees none; install a CUDA build "
                "of torch there, or start its container with its GPUs",
            )
    kinds = sorted({_device(report) for _, report in known})
    if len(kinds) > 1:
        yield Finding(
            "warning",
            f"{len(kinds)} kinds of device: {'; '.join(kinds)}. Counts of networks are bit-identical within one kind "
            "only: all samples of one (sigma, image) are drawn on one, and a second run may hand them to another",
        )
    elif kinds:
        yield Finding("ok", f"one kind of device: {kinds[0]}")


def _device(report: NodeReport) -> str:
    return " + ".join(sorted(set(report.gpus))) or report.processor


def _limits(known: Known) -> Iterator[Finding]:
    well = True
    for node, report in known:
        if report.shared_memory is not None and report.shared_memory < _LEAST_SHARED_MEMORY:
            well = False
            yield Finding(
                "warning",
                f"node {node.address}: /dev/shm has {report.shared_memory / 2**20:.0f} MiB; images and weights are "
                "held there, and slow disks take what does not fit. Start its container with --shm-size=8g, or mount "
                "memory there",
            )
        if report.open_files < _LEAST_OPEN_FILES:
            well = False
            yield Finding(
                "warning",
                f"node {node.address}: a process may open {report.open_files} files; with hundreds of replicas that "
                "is too few. `ulimit -n 65536` before `ray start`",
            )
    if known and well:
        yield Finding("ok", f"shared memory and open files on {_count(known)}")


def _storage(known: Known, out: str | None) -> Iterator[Finding]:
    bad = [(node, report) for node, report in known if report.storage_problem is not None]
    for node, report in bad:
        yield Finding("problem", f"node {node.address}: {report.storage_problem}")
    if known and out is not None and not bad:
        yield Finding("ok", f"{out} can be written and read from {_count(known)}")


def _clocks(known: Known) -> Iterator[Finding]:
    skewed = [node for node, _ in known if abs(node.skew) > _MOST_SKEW]
    for node in skewed:
        direction = "ahead of" if node.skew > 0 else "behind"
        yield Finding(
            "warning",
            f"node {node.address}: its clock is {abs(node.skew):.0f} s or more {direction} this one; object stores "
            "refuse signatures of a wrong time. Start a time service there",
        )
    if known and not skewed:
        yield Finding("ok", f"clocks of {_count(known)} agree with this one within {_MOST_SKEW:g} s")


def _files(known: Known) -> Iterator[Finding]:
    for path in known[0][1].files if known else ():
        found = {node.address: report.files[path] for node, report in known}
        absent = [address for address, digest in found.items() if digest is None]
        kinds = {digest for digest in found.values() if digest is not None}
        if not kinds:
            yield Finding("problem", f"{path} is on no node; copy it, or correct the configuration")
        elif len(kinds) > 1:
            parts = ", ".join(f"{address} {digest[:8]}" for address, digest in found.items() if digest)
            yield Finding("problem", f"{path} differs between nodes ({parts}); copy one of them to all")
        elif absent:
            yield Finding(
                "warning",
                f"{path} is not on {', '.join(absent)}; only the machine that gives the command needs it, unless "
                "training images are streamed",
            )
        else:
            yield Finding("ok", f"{path} is the same on {_count(known)} ({kinds.pop()[:8]})")


def _security(known: Known, dashboards: Mapping[str, bool]) -> Iterator[Finding]:
    for address, is_open in dashboards.items():
        if is_open:
            yield Finding(
                "problem",
                f"the dashboard at {address} answers without a token: who reaches it can run any program on the "
                "cluster. Start Ray with RAY_AUTH_MODE=token on all nodes, and --dashboard-host=127.0.0.1",
            )
        else:
            yield Finding("ok", f"the dashboard at {address} asks for a token")
    without = [node.address for node, report in known if report.auth_mode != "token"]
    if without and len(known) > 1:
        yield Finding(
            "warning",
            f"RAY_AUTH_MODE is not token on {', '.join(without)}: who reaches a node's ports can run programs there. "
            "Set it, and one RAY_AUTH_TOKEN, on every node; what is unset changes its meaning between Ray versions",
        )


def _count(known: Known) -> str:
    return "1 node" if len(known) == 1 else f"{len(known)} nodes"

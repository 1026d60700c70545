"""Processes: CPU time and memory, from Linux's /proc (elsewhere None), and their priority."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_PROC = Path("/proc")
_SAMPLING_SECONDS = 0.02
_RAY_NICENESS, _RAY_DEFAULT_NICENESS = "RAY_worker_niceness", 15


@dataclass(frozen=True)
class Process:
    """One running process."""

    pid: int
    parent: int
    title: str
    cpu_seconds: float
    """User and system time so far, finished threads included."""


def descendants(root: int, without: Collection[int] = ()) -> list[Process] | None:
    """Processes below `root`; those in `without` are left out with all below them. None where there is no /proc."""
    if not _PROC.joinpath("self", "stat").exists():
        return None
    found = [process for entry in _PROC.iterdir() if entry.name.isdigit() and (process := _read(entry))]
    children: dict[int, list[Process]] = {}
    for process in found:
        children.setdefault(process.parent, []).append(process)
    result, open_ = [], [root]
    while open_:
        for process in children.get(open_.pop(), []):
            if process.pid not in without:
                result.append(process)
                open_.append(process.pid)
    return result


@dataclass(frozen=True)
class Memory:
    """Memory of this process that is in RAM, bytes."""

    private: int
    """Heap and stacks: what nobody else has a part in."""
    libraries: int
    """Pages of files, most of them code that all processes with the same libraries share."""
    shared: int
    """Shared memory, such as an object store's."""

    @property
    def total(self) -> int:
        """The resident set size."""
        return self.private + self.libraries + self.shared


def memory_now() -> Memory | None:
    """What this process holds; None where there is no /proc."""
    status = _PROC / "self" / "status"
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    private, libraries, shared = (
        int(fields[f"Rss{kind}"].split()[0]) * 1024 for kind in ("Anon", "File", "Shmem")
    )
    return Memory(private, libraries, shared)


class MemoryPeak:
    """Watches this process within a `with` block and keeps the moment at which it held most.

    It samples, because the kernel's own high-water mark (ru_maxrss) starts at the parent's in a new process, and says
    nothing about kinds of memory.
    """

    def __init__(self) -> None:
        self.memory = memory_now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryPeak:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.memory is not None and not self._over.wait(_SAMPLING_SECONDS):
            now = memory_now()
            if now is not None and now.total > self.memory.total:
                self.memory = now


def lower_priority() -> None:
    """Give this process the priority of Ray's workers, so that other people's work slows both down alike."""
    os.nice(int(os.environ.get(_RAY_NICENESS, _RAY_DEFAULT_NICENESS)))


def _read(entry: Path) -> Process | None:
    try:
        stat = (entry / "stat").read_text()
        title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it ended meanwhile, or is none of ours
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    ticks = int(fields[11]) + int(fields[12])
    return Process(int(entry.name), int(fields[1]), title, ticks / os.sysconf("SC_CLK_TCK"))

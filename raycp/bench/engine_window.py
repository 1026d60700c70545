"""The whole engine through Ray: a session of its own, measured in its steady state."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from raycp.bench.processes import descendants
from raycp.bench.steady_state import SteadyState
from raycp.bench.windows import Window
from raycp.certify.units import Counted, Outcome
from raycp.distributed.cluster import connected
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.job import Job
from raycp.distributed.progress import Progress
from raycp.runs.ledger import Ledger
from raycp.storage import Storage

_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's daemons that have a title like its workers."""


class LedgerSink:
    """Makes blocks durable as a real run does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write(self, counted: Sequence[Counted], outcomes: Sequence[Outcome]) -> None:
        """See `Sink`."""
        if counted:
            self._ledger.append(counted)


@dataclass(frozen=True)
class _Mark:
    """CPU seconds so far at one moment."""

    wall: float
    driver: float
    """Before looking at the others."""
    driver_after: float
    others: dict[str, float]
    """`draw` and `ray`; empty where there is no /proc."""


def measure_engine(job: Job, seconds: float, without: Collection[int] = ()) -> Window:
    """Start Ray, draw until the steady state has lasted `seconds`, and end Ray.

    Args:
        job: see `prepare_endless_job`; its batch size must be fixed.
        seconds: of the steady state.
        without: processes below this one that do not belong to the engine.
    """
    engine, batch_size = job.config.engine, job.config.numerics.batch_size
    assert engine.replicas is not None
    assert batch_size != "auto"
    with connected(engine), TemporaryDirectory() as folder:
        from raycp.distributed.ray_transport import RayTransport

        marks: list[_Mark] = []
        steady = SteadyState(
            RayTransport(job.spec, engine, batch_size, "bench"),
            engine.replicas,
            engine.task_seconds,
            begun=lambda: marks.append(_mark(without)),
        )
        last: list[Progress] = []
        dispatcher = Dispatcher(
            job.planner(),
            steady,
            engine,
            batch_size,
            LedgerSink(Ledger(Storage(folder), "bench", job.images.indices, job.num_classes)),
            report=lambda progress: last.__setitem__(slice(None), [progress]),
        )

        def over() -> bool:
            if steady.lasted() < seconds or not steady.complete:
                return False
            marks.append(_mark(without))
            return True

        dispatcher.run(stopped=over)
        result = steady.result()
    begin, end = marks
    wall = end.wall - begin.wall
    spent = {who: end.others[who] - begin.others[who] for who in begin.others}
    spent["driver"] = end.driver - begin.driver_after
    return Window(
        "engine",
        samples_per_second=result.samples_per_second,
        seconds=result.seconds,
        cpu_ms={who: 1e3 * used / (wall * result.samples_per_second) for who, used in spent.items()},
        figures={
            "tasks": result.tasks,
            "samples_per_task": result.samples / result.tasks,
            "busy_share": result.busy_share,
            "driver_cores": spent["driver"] / wall,
            **({"ray_cores": spent["ray"] / wall} if "ray" in spent else {}),
            "requeued": last[0].requeued,
        },
    )


def _mark(without: Collection[int]) -> _Mark:
    wall, driver = time.perf_counter(), time.process_time()
    processes = descendants(os.getpid(), without)
    others = {}
    if processes is not None:
        workers = [p for p in processes if p.title.startswith("ray::") and not p.title.startswith(_AGENTS)]
        others["draw"] = sum(process.cpu_seconds for process in workers)
        others["ray"] = sum(process.cpu_seconds for process in processes) - others["draw"]
    return _Mark(wall, driver, time.process_time(), others)

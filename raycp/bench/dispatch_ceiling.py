"""How many tasks a driver can hand out through Ray, and what each costs it, when the model is nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from raycp.bench.engine_window import LedgerSink
from raycp.bench.steady_state import SteadyState
from raycp.bench.virtual_cluster import CallCosts
from raycp.bench.workload import null_config, prepare_endless_job
from raycp.certify.units import Task
from raycp.config import Engine
from raycp.distributed.cluster import connected
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.job import Job
from raycp.errors import ClusterError
from raycp.runs.ledger import Ledger
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage

DEPTHS = (2, 8)
"""Tasks in flight per replica."""
CALLS = (1_000, 2_000)
"""Calls under way: one for each replica at work."""
_REPLICAS = 2
_SHORTEST_TASK = 1e-6
"""Seconds to steer tasks to, so that each stays at one batch."""
_LONG_TASK = 1_000_000
"""Samples of a task that does not end during the measurement."""


@dataclass(frozen=True)
class Dispatched:
    """Tasks of one sample, with this many in flight per replica."""

    depth: int
    tasks_per_second: float
    driver_ms_per_task: float
    """CPU time of the driver: planner, dispatcher, ledger and Ray's part in its process."""
    replica_share: float
    """Share of the time that the replicas were inside a task: near 1, they and not the driver are the limit."""


@dataclass(frozen=True)
class Looked:
    """The driver looks for answers among this many calls, of which none has one."""

    calls: int
    ms: float
    driver_ms: float
    """CPU time of the driver."""


def call_costs(dispatched: Sequence[Dispatched], looked: Sequence[Looked]) -> CallCosts:
    """What the driver pays Ray; the planner's own part is in it, which is counted twice then."""
    most = max(looked, key=lambda look: look.calls)
    return CallCosts(dispatched[0].driver_ms_per_task / 1e3, most.driver_ms / most.calls / 1e3)


def measure_dispatch(seconds: float) -> tuple[list[Dispatched], list[Looked]]:
    """Null tasks through Ray at several depths, then looking for answers among many calls; `seconds` for each."""
    with TemporaryDirectory() as folder:
        job = prepare_endless_job(null_config(Path(folder)), None)
        engine = Engine(replicas=_REPLICAS, local_cpus=_REPLICAS, task_seconds=_SHORTEST_TASK)
        with connected(engine):
            dispatched = [_dispatch(job, engine, depth, seconds, folder) for depth in DEPTHS]
            return dispatched, [_look(job, engine, calls, seconds) for calls in CALLS]


def _dispatch(job: Job, engine: Engine, depth: int, seconds: float, folder: str) -> Dispatched:
    from raycp.distributed.ray_transport import RayTransport

    engine = engine.model_copy(update={"tasks_in_flight": depth})
    marks: list[float] = []
    steady = SteadyState(
        RayTransport(job.spec, engine, 1, "bench"),
        _REPLICAS,
        engine.task_seconds,
        begun=lambda: marks.append(time.process_time()),
    )
    sink = LedgerSink(Ledger(Storage(f"{folder}/{depth}"), "bench", job.images.indices, job.num_classes))

    def over() -> bool:
        if steady.lasted() < seconds or not steady.complete:
            return False
        marks.append(time.process_time())
        return True

    Dispatcher(job.planner(), steady, engine, 1, sink, report=lambda _: None).run(stopped=over)
    result = steady.result()
    return Dispatched(
        depth,
        tasks_per_second=result.tasks / result.seconds,
        driver_ms_per_task=1e3 * (marks[1] - marks[0]) / result.tasks,
        replica_share=result.busy_share,
    )


def _look(job: Job, engine: Engine, calls: int, seconds: float) -> Looked:
    """Among calls of one replica, which is busy with the first."""
    from raycp.distributed.ray_transport import answered, calls_without_answer

    long = Task(job.config.certify.sigmas[0], (Block(0, Phase.ESTIMATION, 0, _LONG_TASK),), "")
    with calls_without_answer(job.spec, engine, [long] * calls) as refs:
        looks, start, cpu_start = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            if answered(refs):
                raise ClusterError("a null replica ended during the measurement")
            looks += 1
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return Looked(calls, 1e3 * wall / looks, 1e3 * cpu / looks)

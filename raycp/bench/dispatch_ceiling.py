"""How many tasks a driver can hand out through Ray, and what each costs it, when the model is nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from raycp.bench.engine_window import LedgerSink
from raycp.bench.steady_state import SteadyState
from raycp.bench.workload import null_config, prepare_endless_job
from raycp.certify.units import Task
from raycp.config import Engine
from raycp.distributed.cluster import connected
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.job import Job
from raycp.distributed.transport import Done, Event, Lost, Ready, Transport
from raycp.errors import ClusterError
from raycp.runs.ledger import Ledger
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage

DEPTHS = (2, 8)
"""Tasks in flight per replica."""
PENDING = (0, 1_000, 2_000)
"""Calls under way while the next answer is waited for."""
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
class Waited:
    """One small task sent and waited for while other calls are under way."""

    pending: int
    ms_per_round: float
    driver_ms_per_round: float
    """CPU time of the driver."""


def measure_dispatch(seconds: float) -> tuple[list[Dispatched], list[Waited]]:
    """Null tasks through Ray at several depths, then the cost of `ray.wait` over many calls; `seconds` for each."""
    with TemporaryDirectory() as folder:
        job = prepare_endless_job(null_config(Path(folder)), None)
        engine = Engine(replicas=_REPLICAS, local_cpus=_REPLICAS, task_seconds=_SHORTEST_TASK)
        with connected(engine):
            dispatched = [_dispatch(job, engine, depth, seconds, folder) for depth in DEPTHS]
            return dispatched, _wait(job, engine, PENDING, seconds)


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


def _wait(job: Job, engine: Engine, counts: Sequence[int], seconds: float) -> list[Waited]:
    """Replica 1 holds `pending` calls and answers none of them; replica 0 answers one small task after the other."""
    from raycp.distributed.ray_transport import RayTransport

    transport = RayTransport(job.spec, engine, 1, "bench")
    sigma = job.config.certify.sigmas[0]
    for replica in range(_REPLICAS):
        transport.start(replica)
    ready = 0
    while ready < _REPLICAS:
        ready += sum(isinstance(event, Ready) for event in _next_events(transport))
    tickets, result = 0, []
    for position, pending in enumerate(counts):
        for _ in range(pending - (counts[position - 1] if position else 0)):
            transport.submit(1, tickets, Task(sigma, (Block(0, Phase.ESTIMATION, 0, _LONG_TASK),), ""))
            tickets += 1
        rounds, start, cpu_start = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            transport.submit(0, tickets, Task(sigma, (Block(0, Phase.ESTIMATION, 0, 1),), ""))
            _await(transport, tickets)
            tickets += 1
            rounds += 1
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        result.append(Waited(pending, 1e3 * wall / rounds, 1e3 * cpu / rounds))
    for replica in range(_REPLICAS):
        transport.stop(replica)
    return result


def _await(transport: Transport, ticket: int) -> None:
    while not any(isinstance(event, Done) and event.ticket == ticket for event in _next_events(transport)):
        continue


def _next_events(transport: Transport) -> list[Event]:
    events = transport.wait(1.0)
    for event in events:
        if isinstance(event, Lost):
            raise ClusterError(f"a null replica was lost during the measurement: {event.reason}")
    return events

"""The real planner, dispatcher and ledger over many replicas that exist only on paper."""

from __future__ import annotations

import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from raycp.bench.engine_window import LedgerSink
from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule
from raycp.certify.units import Task
from raycp.config import CertifyProtocol, Engine
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.distributed.transport import Event
from raycp.runs.ledger import Ledger
from raycp.storage import Storage

BATCH_SIZE = 256
NUM_CLASSES = 10
_NUM_IMAGES = 50_000
_NUMERICS = "a numerics class with a name as long as those of real devices".ljust(128, ".")
_WARM_UP_SECONDS = 60.0
_TAIL_INDEX = 2.0
_LONGEST = 15.0
"""In mean durations: below the dispatcher's limit for a replica that hangs."""


@dataclass(frozen=True)
class Driven:
    """The driver's load in the steady state of a virtual cluster."""

    replicas: int
    task_seconds: float
    seconds: float
    """Virtual."""
    tasks_per_second: float
    waits_per_second: float
    driver_cores: float
    """CPU seconds of the driver per virtual second, the simulation's own part included."""
    utilisation: float
    """Share of the replicas' time that was spent inside tasks."""


class HeavyTail:
    """Durations: what the samples would take at constant speed, times a Pareto variable of mean about 1.

    Its tail index of 2 means an infinite variance; the longest are cut at 15 times the mean.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._ready: list[float] = []

    def __call__(self, task: Task, replica: SimulatedReplica) -> float:
        """Seconds of a task on a replica."""
        if not self._ready:
            factors = (1 + self._generator.pareto(_TAIL_INDEX, 4096)) * (_TAIL_INDEX - 1) / _TAIL_INDEX
            self._ready = np.minimum(factors, _LONGEST).tolist()
        return self._ready.pop() * task.num_samples / replica.samples_per_second


class VirtualCluster(SimulatedTransport):
    """Replicas of one speed, ready after a second, that take heavy-tailed times; it counts what is asked of it."""

    def __init__(self, samples_per_second: float) -> None:
        super().__init__(
            lambda _: SimulatedReplica(1.0, samples_per_second, numerics=_NUMERICS),
            nine_of_ten,
            HeavyTail(seed=0),
        )
        self.num_waits = self.num_tasks = 0

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        """See `Transport`."""
        self.num_tasks += 1
        super().submit(replica, ticket, task)

    def wait(self, timeout: float) -> list[Event]:
        """See `Transport`."""
        self.num_waits += 1
        return super().wait(timeout)


def nine_of_ten(task: Task) -> npt.NDArray[np.int64]:
    """Counts [R, K + 1] of a task: nine of ten samples in class 0, the rest in class 1."""
    counts = np.zeros((len(task.blocks), NUM_CLASSES + 1), dtype=np.int64)
    samples = np.array([block.num_samples for block in task.blocks])
    counts[:, 1] = samples // 10
    counts[:, 0] = samples - counts[:, 1]
    return counts


@dataclass(frozen=True)
class _Mark:
    virtual: float
    cpu: float
    tasks: int
    waits: int
    busy: float


def drive(
    replicas: int, task_seconds: float, virtual_seconds: float, samples_per_second: float = 2_000.0
) -> Driven:
    """Run the driver of a large certification (50,000 images, three noise levels, N = 100,000) for a while.

    Args:
        replicas: all of one speed.
        task_seconds: duration that tasks are steered to.
        virtual_seconds: of the steady state, after a minute in which tasks grow.
        samples_per_second: of each replica.
    """
    protocol = CertifyProtocol()
    rule = FixedRule(protocol, dict.fromkeys(protocol.sigmas, 0.0))
    labels, indices = np.zeros(_NUM_IMAGES, dtype=np.int64), np.arange(_NUM_IMAGES)
    planner = Planner(protocol.sigmas, labels, indices, rule, NUM_CLASSES)
    cluster = VirtualCluster(samples_per_second)
    ends = (_WARM_UP_SECONDS, _WARM_UP_SECONDS + virtual_seconds)
    marks: list[_Mark] = []

    def over() -> bool:
        now = cluster.now()
        if now >= ends[len(marks)]:
            marks.append(
                _Mark(now, time.process_time(), cluster.num_tasks, cluster.num_waits, cluster.busy_seconds)
            )
        return len(marks) == len(ends)

    with TemporaryDirectory() as folder:
        sink = LedgerSink(Ledger(Storage(folder), "bench", indices, NUM_CLASSES))
        engine = Engine(replicas=replicas, task_seconds=task_seconds)
        Dispatcher(planner, cluster, engine, BATCH_SIZE, sink, report=lambda _: None).run(stopped=over)
    begin, end = marks
    seconds = end.virtual - begin.virtual
    return Driven(
        replicas,
        task_seconds,
        seconds,
        tasks_per_second=(end.tasks - begin.tasks) / seconds,
        waits_per_second=(end.waits - begin.waits) / seconds,
        driver_cores=(end.cpu - begin.cpu) / seconds,
        utilisation=(end.busy - begin.busy) / (seconds * replicas),
    )

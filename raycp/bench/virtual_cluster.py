"""The real planner, dispatcher and ledger over many replicas that exist only on paper."""

from __future__ import annotations

import math
import time
from collections import Counter
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
from raycp.distributed.transport import LONGEST_PAUSE, PAUSE, Event, Lost, Ready
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
class CallCosts:
    """What Ray takes of the driver's time, measured apart (`raycp bench --only dispatch`)."""

    task_seconds: float
    """To send a task and to fetch its result."""
    look_seconds: float
    """To look for answers, for every replica that is at work."""


@dataclass(frozen=True)
class Troubles:
    """What large clusters do."""

    straggler_share: float = 0.0
    """Of the replicas; they are `straggler_factor` times slower than the others, for good."""
    straggler_factor: float = 4.0
    mean_life_seconds: float = math.inf
    """Until a replica is lost, exponentially distributed; another one is then asked for."""
    start_seconds: float = 1.0
    """From being asked for to being ready."""


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
    """CPU seconds of planner, dispatcher and ledger per virtual second, and of Ray's calls where they are charged."""
    utilisation: float
    """Share of the time of all replicas asked for that was spent inside tasks; not those that a lost one held."""
    lost: int = 0
    """Replicas."""


NO_TROUBLES = Troubles()


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
    """Replicas that take heavy-tailed times; it counts what is asked of it, and the driver's time between.

    Args:
        samples_per_second: of each replica.
        calls: charged to the clock, together with the CPU time of the driver itself, so that a driver that has more to
            do than it can makes its replicas wait; None for a driver that takes no time.
        troubles: of the replicas.
    """

    def __init__(
        self, samples_per_second: float, calls: CallCosts | None = None, troubles: Troubles = NO_TROUBLES
    ) -> None:
        super().__init__(self._replica, nine_of_ten, HeavyTail(seed=0))
        self._generator = np.random.default_rng(1)
        self._samples_per_second, self._calls, self._troubles = samples_per_second, calls, troubles
        self._under_way: Counter[int] = Counter()
        """Calls, by replica; none where there are none."""
        self._pause = 0.0
        self._left = time.process_time()
        self.driver_seconds = 0.0
        self.num_waits = self.num_tasks = self.num_lost = 0

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        """See `Transport`."""
        self._charge(0.0 if self._calls is None else self._calls.task_seconds)
        self.num_tasks += 1
        self._under_way[replica] += 1
        super().submit(replica, ticket, task)
        self._left = time.process_time()

    def wait(self, timeout: float) -> list[Event]:
        """See `Transport`."""
        if self._calls is not None:  # as RayTransport does
            self._clock += self._pause
            look = self._calls.look_seconds * len(self._under_way)
            self._pause = min(LONGEST_PAUSE, PAUSE * look)
            self._charge(look)
        else:
            self._charge(0.0)
        self.num_waits += 1
        events = super().wait(timeout)
        for event in events:
            if isinstance(event, Lost):
                self.num_lost += 1
                del self._under_way[event.replica]
            elif not isinstance(event, Ready):
                self._under_way[event.replica] -= 1
                if not self._under_way[event.replica]:
                    del self._under_way[event.replica]
        self._left = time.process_time()
        return events

    def _charge(self, seconds: float) -> None:
        seconds += time.process_time() - self._left
        self.driver_seconds += seconds
        if self._calls is not None:
            self._clock += seconds

    def _replica(self, _: int) -> SimulatedReplica:
        troubles, generator = self._troubles, self._generator
        slower = troubles.straggler_factor if generator.random() < troubles.straggler_share else 1.0
        life = generator.exponential() * troubles.mean_life_seconds
        start = troubles.start_seconds
        return SimulatedReplica(start, self._samples_per_second / slower, start + life, numerics=_NUMERICS)


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
    driver: float
    tasks: int
    waits: int
    busy: float


def drive(
    replicas: int,
    task_seconds: float,
    virtual_seconds: float,
    samples_per_second: float = 2_000.0,
    calls: CallCosts | None = None,
    troubles: Troubles = NO_TROUBLES,
) -> Driven:
    """Run the driver of a large certification (50,000 images, three noise levels, N = 100,000) for a while.

    Args:
        replicas: how many are asked for.
        task_seconds: duration that tasks are steered to.
        virtual_seconds: of the steady state, after a minute in which tasks grow.
        samples_per_second: of each replica that is no straggler.
        calls: see `VirtualCluster`.
        troubles: see `VirtualCluster`.
    """
    protocol = CertifyProtocol()
    rule = FixedRule(protocol, dict.fromkeys(protocol.sigmas, 0.0))
    labels, indices = np.zeros(_NUM_IMAGES, dtype=np.int64), np.arange(_NUM_IMAGES)
    planner = Planner(protocol.sigmas, labels, indices, rule, NUM_CLASSES)
    cluster = VirtualCluster(samples_per_second, calls, troubles)
    warm = troubles.start_seconds + _WARM_UP_SECONDS
    ends = (warm, warm + virtual_seconds)
    marks: list[_Mark] = []

    def over() -> bool:
        now = cluster.now()
        if now >= ends[len(marks)]:
            marks.append(
                _Mark(
                    now,
                    cluster.driver_seconds,
                    cluster.num_tasks,
                    cluster.num_waits,
                    cluster.busy_until_now(),
                )
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
        driver_cores=(end.driver - begin.driver) / seconds,
        utilisation=(end.busy - begin.busy) / (seconds * replicas),
        lost=cluster.num_lost,
    )

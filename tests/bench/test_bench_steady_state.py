"""Throughput between start and tail."""

from __future__ import annotations

import numpy as np
import pytest

from raycp.bench.steady_state import SteadyState
from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule
from raycp.certify.units import Counted, Outcome, Task
from raycp.config import CertifyProtocol, Engine
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.distributed.transport import Done, Event, Ready
from raycp.sampling.blocks import Block, Phase


class Scripted:
    """A transport whose events come at given times."""

    def __init__(self, script: list[tuple[float, Event]]) -> None:
        self.script = script
        self.time = 0.0

    def start(self, replica: int) -> None: ...
    def submit(self, replica: int, ticket: int, task: Task) -> None: ...
    def stop(self, replica: int) -> None: ...

    def capacity(self) -> int:
        return 2

    def now(self) -> float:
        return self.time

    def wait(self, timeout: float) -> list[Event]:
        self.time, event = self.script.pop(0)
        return [event]


def done(replica: int, ticket: int, seconds: float) -> Done:
    return Done(replica, ticket, np.zeros((1, 2), dtype=np.int64), seconds)


def test_only_what_follows_a_replicas_first_steady_completion_counts() -> None:
    """Tasks are steered to two seconds, so one of a second ends the growth."""
    script: list[tuple[float, Event]] = [
        (0.5, Ready(0, "cpu", "here")),
        (1.0, done(0, 0, 0.5)),
        (2.0, done(0, 1, 1.0)),  # replica 0 has grown
        (3.0, done(1, 2, 1.9)),  # both have: the steady state begins
        (4.0, done(0, 3, 2.0)),
        (5.0, done(1, 4, 2.0)),
        (6.0, done(0, 5, 1.5)),  # 100 samples in 2 s
        (9.0, done(1, 6, 4.0)),  # 400 samples in 4 s
    ]
    begun: list[float] = []
    transport = Scripted(script)
    steady = SteadyState(transport, 2, 2.0, begun=lambda: begun.append(transport.time))
    for ticket, samples in enumerate([7, 7, 7, 7, 7, 100, 400]):
        steady.submit(ticket % 2, ticket, Task(0.5, (Block(0, Phase.ESTIMATION, 0, samples),), "cpu"))
    for _ in range(7):
        assert not steady.complete
        steady.wait(1.0)
    assert not steady.complete
    assert steady.lasted() == 3.0
    steady.wait(1.0)
    result = steady.result()
    assert begun == [3.0]
    assert steady.lasted() == 6.0
    assert result.samples_per_second == 100 / 2 + 400 / 4
    assert (result.tasks, result.samples, result.seconds) == (2, 500, 3.0)
    assert result.busy_share == (1.5 + 4.0) / (2 + 4)


class Nowhere:
    def write(self, counted: list[Counted], outcomes: list[Outcome]) -> None: ...


def test_the_dispatcher_reaches_the_speed_of_its_replicas() -> None:
    speeds = [100.0, 200.0, 300.0]

    def draw(task: Task) -> np.ndarray:
        return np.array([[block.num_samples, 0, 0] for block in task.blocks])

    inner = SimulatedTransport(lambda number: SimulatedReplica(1.0 + number, speeds[number]), draw)
    steady = SteadyState(inner, 3, 2.0)
    protocol = CertifyProtocol(sigmas=(0.5,), num_estimation=10**9)
    labels = np.zeros(4, dtype=np.int64)
    planner = Planner((0.5,), labels, labels, FixedRule(protocol, {0.5: 0.0}), 2)
    dispatcher = Dispatcher(planner, steady, Engine(replicas=3), 10, Nowhere(), report=lambda _: None)
    dispatcher.run(stopped=lambda: steady.lasted() > 50)
    result = steady.result()
    assert result.samples_per_second == pytest.approx(600.0, rel=1e-9)
    assert result.busy_share == pytest.approx(1.0, rel=1e-9)
    assert steady.since is not None
    assert steady.since > 3.0

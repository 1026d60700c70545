"""The dispatch loop on a virtual clock: nothing that happens to replicas changes a row or counts a sample twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule
from raycp.certify.units import Counted, Outcome, Task
from raycp.config import CertifyProtocol, Engine
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.progress import Progress
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.errors import ClusterError, WorkFailedError
from raycp.sampling.blocks import Block, Phase

NUM_IMAGES, NUM_CLASSES, BATCH = 5, 4, 32
PROTOCOL = CertifyProtocol(sigmas=(0.25, 0.5), num_selection=40, num_estimation=700)
LABELS = np.arange(NUM_IMAGES) % NUM_CLASSES


def sample_class(sigma: float, image: int, phase: Phase, sample: int) -> int:
    """The class of one sample, as keyed as a real one."""
    keyed = np.random.Philox(
        key=np.array([image, int(sigma * 1000)], dtype=np.uint64), counter=[0, 0, phase, sample]
    )
    return int(LABELS[image]) if keyed.random_raw() % 10 < 8 else int(keyed.random_raw()) % NUM_CLASSES


def draw(task: Task) -> np.ndarray:
    counts = np.zeros((len(task.blocks), NUM_CLASSES + 1), dtype=np.int64)
    for row, block in zip(counts, task.blocks, strict=True):
        for sample in range(block.first, block.first + block.num_samples):
            row[sample_class(task.sigma, block.image, block.phase, sample)] += 1
    return counts


class Sink:
    """Remembers what was made durable, and in which order."""

    def __init__(self) -> None:
        self.counted: list[Counted] = []
        self.outcomes: list[Outcome] = []

    def write(self, counted: Sequence[Counted], outcomes: Sequence[Outcome]) -> None:
        self.counted += counted
        for outcome in outcomes:  # an outcome is never reported before all of its samples are durable
            blocks = [
                item.block
                for item in self.counted
                if (item.sigma, item.block.image, item.numerics)
                == (outcome.sigma, outcome.image, outcome.numerics)
            ]
            for phase, needed in ((Phase.SELECTION, 40), (Phase.ESTIMATION, 700)):
                ranges = [range(b.first, b.first + b.num_samples) for b in blocks if b.phase == phase]
                assert set().union(*ranges) == set(range(needed))
        self.outcomes += outcomes

    def rows(self) -> dict[tuple[float, int], Any]:
        assert len({(o.sigma, o.image) for o in self.outcomes}) == len(self.outcomes)
        return {(o.sigma, o.image): o.row for o in self.outcomes}


def make_planner() -> Planner:
    rule = FixedRule(PROTOCOL, dict.fromkeys(PROTOCOL.sigmas, 0.0))
    return Planner(PROTOCOL.sigmas, LABELS, np.arange(NUM_IMAGES), rule, NUM_CLASSES)


def dispatch(
    replica: Callable[[int], SimulatedReplica],
    engine: Engine,
    draw: Callable[[Task], np.ndarray] = draw,
    **transport: Any,
) -> tuple[Sink, list[Progress], Planner]:
    sink, states, planner = Sink(), [], make_planner()
    simulated = SimulatedTransport(replica, draw, **transport)
    Dispatcher(planner, simulated, engine, BATCH, sink, states.append).run()
    return sink, states, planner


@pytest.fixture(scope="module")
def expected() -> dict[tuple[float, int], Any]:
    """The rows of one replica that never fails."""
    sink, _, _ = dispatch(lambda _: SimulatedReplica(), Engine(replicas=1))
    rows = sink.rows()
    assert len(rows) == 10
    # The rule applied to counts summed sample by sample, with no planner in between.
    for (sigma, image), row in rows.items():
        n_A = sum(sample_class(sigma, image, Phase.ESTIMATION, s) == row.selected for s in range(700))
        assert (row.n_A, row.n) == (n_A, 700)
    return rows


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 6),
    depth=st.integers(1, 4),
    seconds=st.floats(0.01, 5),
    lifetime=st.floats(0.3, 20),
)
def test_any_fate_of_replicas_gives_the_same_rows(
    expected: dict[tuple[float, int], Any],
    seed: int,
    replicas: int,
    depth: int,
    seconds: float,
    lifetime: float,
) -> None:
    rng = np.random.default_rng(seed)

    def fate(number: int) -> SimulatedReplica:
        mortal = number < 8
        return SimulatedReplica(
            start_seconds=rng.uniform(0, 2),
            samples_per_second=rng.uniform(200, 5_000),
            lifetime=rng.exponential(lifetime) if mortal else float("inf"),
            numerics=f"class {rng.integers(2)}",
        )

    engine = Engine(replicas=replicas, tasks_in_flight=depth, task_seconds=seconds, flush_seconds=0.5)
    sink, _, planner = dispatch(fate, engine)
    assert sink.rows() == expected
    for outcome in sink.outcomes:
        assert outcome.num_samples == 740
        assert outcome.seconds > 0
    assert planner.finished


def test_each_unit_is_drawn_under_one_numerics_class() -> None:
    """The classes disagree about every sample, so a mixed sum would show."""
    transport: dict[str, Any] = {}

    def by_class(task: Task) -> np.ndarray:
        counts = np.zeros((len(task.blocks), NUM_CLASSES + 1), dtype=np.int64)
        counts[:, int(task.numerics[-1])] = [block.num_samples for block in task.blocks]
        return counts

    sink, _, _ = dispatch(
        lambda n: SimulatedReplica(numerics=f"class {n % 2}", lifetime=0.7 if n < 4 else float("inf")),
        Engine(replicas=3, task_seconds=0.2),
        draw=by_class,
        **transport,
    )
    assert {outcome.row.n_A for outcome in sink.outcomes} == {700}
    assert {outcome.row.selected for outcome in sink.outcomes} == {0, 1}


def test_work_is_spread_and_no_sample_is_wasted() -> None:
    sink, states, planner = dispatch(
        lambda _: SimulatedReplica(samples_per_second=100), Engine(replicas=4, task_seconds=1)
    )
    assert planner.account.ignored == 0
    assert states[-1].samples == 7_400
    assert states[-1].seconds < 7_400 / 400 * 1.2  # four replicas, at least 83% busy
    assert max(c.block.num_samples for c in sink.counted) <= 4 * BATCH


def test_replicas_beyond_the_present_room_are_asked_for_and_wait() -> None:
    """Two have room from the start, a third after 5 s, the fourth never; the wish for it is withdrawn at the end."""
    starts = {0: 0.0, 1: 0.0, 2: 5.0, 3: float("inf")}
    _, states, _ = dispatch(
        lambda n: SimulatedReplica(starts[n], samples_per_second=200), Engine(replicas=4, task_seconds=0.5)
    )
    assert (states[4].replicas, states[4].pending) == (2, 2)
    assert max(state.replicas for state in states) == 3


def test_without_a_limit_the_replicas_follow_the_cluster() -> None:
    _, states, _ = dispatch(
        lambda _: SimulatedReplica(samples_per_second=200),
        Engine(task_seconds=0.5),
        capacity=lambda now: 1 if now < 4 else 3,
    )
    assert states[2].replicas == 1
    assert max(state.replicas for state in states) == 3


def test_a_minimum_is_asked_for_before_there_is_room() -> None:
    """The waiting replicas are what an autoscaler sees; beyond the minimum they follow the room there is."""
    _, states, _ = dispatch(
        lambda n: SimulatedReplica(3.0, samples_per_second=200),
        Engine(task_seconds=0.5, min_replicas=3),
        capacity=lambda now: 0 if now < 2 else 4,
    )
    assert (states[0].replicas, states[0].pending) == (0, 3)
    assert max(state.replicas for state in states) == 4


def test_a_pending_replica_is_given_up_when_its_node_leaves() -> None:
    _, states, _ = dispatch(
        lambda n: SimulatedReplica(0.0 if n < 1 else float("inf"), samples_per_second=200),
        Engine(task_seconds=0.5),
        capacity=lambda now: 3 if now < 4 else 1,
    )
    assert states[2].pending == 2
    assert states[-2].pending == 0


def test_at_the_tail_idle_replicas_are_given_back() -> None:
    """One slow replica holds the last task for minutes; the others go, but the last one of each numerics class."""

    def duration(task: Task, kind: SimulatedReplica) -> float:
        return 100.0 if kind.numerics == "slow" else task.num_samples / kind.samples_per_second

    sink, states, _ = dispatch(
        lambda n: SimulatedReplica(numerics="slow" if n == 0 else f"fast {n % 2}"),
        Engine(replicas=6, task_seconds=0.1, tasks_in_flight=1, idle_seconds=5),
        duration=duration,
    )
    held = [state.replicas for state in states if state.seconds < states[-1].seconds - 1]
    assert max(held) == 6
    assert held[-1] == 3  # slow, fast 0, fast 1
    assert states[-1].lost == 0
    assert all(state.pending == 0 for state in states if state.seconds > 5)
    assert len(sink.rows()) == 10


def test_progress_adds_up_what_replicas_do() -> None:
    """Two replicas of 100 samples a second that never wait: their time is the samples' time."""
    _, states, _ = dispatch(
        lambda _: SimulatedReplica(samples_per_second=100), Engine(replicas=2, task_seconds=0.5)
    )
    last = states[-1]
    assert last.replica_seconds == pytest.approx(2 * last.seconds, rel=0.02)
    assert last.samples / 100 <= last.replica_seconds < 1.1 * last.samples / 100
    middle = states[len(states) // 2]
    assert 0.95 < middle.busy <= 1
    assert middle.samples_per_second == pytest.approx(200, rel=0.1)
    assert middle.in_flight == 4
    assert 0 <= middle.dispatch_seconds < 0.3  # the loop looks once a quarter of a second at most


def test_a_replica_that_hangs_is_replaced() -> None:
    def duration(task: Task, kind: SimulatedReplica) -> float:
        return (
            float("1e9")
            if kind.numerics == "hangs" and task.blocks[0].first > 200
            else task.num_samples / 1_000
        )

    sink, states, _ = dispatch(
        lambda n: SimulatedReplica(numerics="hangs" if n == 0 else "works"),
        Engine(replicas=2, task_seconds=0.1),
        duration=duration,
    )
    assert states[-1].lost >= 1
    assert states[-1].seconds < 400
    assert len(sink.rows()) == 10


def test_a_task_that_fails_is_tried_elsewhere() -> None:
    failures: list[Task] = []

    def fails_twice(task: Task) -> np.ndarray:
        if any(block.image == 3 for block in task.blocks) and len(failures) < 2:
            failures.append(task)
            raise RuntimeError("out of luck")
        return draw(task)

    sink, _, _ = dispatch(lambda _: SimulatedReplica(), Engine(replicas=2), draw=fails_twice)
    assert len(failures) == 2
    assert len(sink.rows()) == 10


def test_a_task_that_always_fails_is_reported_and_the_rest_is_done() -> None:
    def bad_image(task: Task) -> np.ndarray:
        if any(block.image == 3 for block in task.blocks):
            raise RuntimeError("bad image")
        return draw(task)

    with pytest.raises(WorkFailedError, match=r"could not be decided:\n  failed 3 times: bad image"):
        dispatch(lambda _: SimulatedReplica(), Engine(replicas=2, task_seconds=0.001), draw=bad_image)


def test_invalid_logits_are_named_and_never_votes() -> None:
    def poisoned(task: Task) -> np.ndarray:
        counts = draw(task)
        for row, block in zip(counts, task.blocks, strict=True):
            if (
                block.image == 2
                and task.sigma == 0.5
                and block.phase == Phase.ESTIMATION
                and block.first == 0
            ):
                row[:] = 0
                row[1], row[-1] = block.num_samples - 7, 7
        return counts

    with pytest.raises(
        WorkFailedError, match=r"7 of \d+ samples .* image 2, sigma 0.5, estimation samples 0 to"
    ):
        dispatch(lambda _: SimulatedReplica(), Engine(replicas=1), draw=poisoned)


def test_a_task_that_kills_its_replicas_ends() -> None:
    class Deadly(SimulatedTransport):
        def submit(self, replica: int, ticket: int, task: Task) -> None:
            super().submit(replica, ticket, task)
            if any(block.image == 1 for block in task.blocks):
                self._later(0.01, lambda: self._die(replica))

    planner, sink = make_planner(), Sink()
    transport = Deadly(lambda _: SimulatedReplica(), draw)
    engine = Engine(replicas=2, task_seconds=0.001, tasks_in_flight=1)
    with pytest.raises(WorkFailedError, match="lost 5 replicas: end of its lifetime"):
        Dispatcher(planner, transport, engine, BATCH, sink, lambda _: None).run()
    assert planner.num_decided >= 6


def test_no_replica_ever() -> None:
    with pytest.raises(ClusterError, match=r"engine.start_timeout = 30 s: each wants 1 CPU and 2 GPU"):
        dispatch(
            lambda _: SimulatedReplica(float("inf")), Engine(replicas=2, start_timeout=30, gpus_per_replica=2)
        )


def test_a_stop_keeps_what_came_back() -> None:
    planner, sink = make_planner(), Sink()
    transport = SimulatedTransport(lambda _: SimulatedReplica(samples_per_second=100), draw)
    dispatcher = Dispatcher(planner, transport, Engine(replicas=1), BATCH, sink, lambda _: None)
    dispatcher.run(stopped=lambda: transport.now() > 20)
    assert not planner.finished
    assert sum(c.block.num_samples for c in sink.counted) == dispatcher.progress().samples > 0

    resumed = make_planner()
    units: dict[tuple[float, int], list[Counted]] = {}
    for item in sink.counted:
        units.setdefault((item.sigma, item.block.image), []).append(item)
    outcomes = [outcome for unit in units.values() for outcome in resumed.restore(unit)]
    rest = Sink()
    rest.counted = list(sink.counted)
    Dispatcher(
        resumed,
        SimulatedTransport(lambda _: SimulatedReplica(), draw),
        Engine(replicas=2),
        BATCH,
        rest,
        lambda _: None,
    ).run()
    assert len(outcomes) + len(rest.outcomes) == 10
    assert sum(c.block.num_samples for c in rest.counted) == 7_400  # nothing twice


def test_late_results_of_a_lost_replica_change_nothing() -> None:
    planner = make_planner()
    task = planner.next_task(500, "a", ["a"])
    assert task is not None
    planner.requeue(task)
    again = planner.next_task(500, "a", ["a"])
    assert again == task
    new, _ = planner.record(again, draw(again), 1.0)
    late, outcomes = planner.record(task, draw(task), 1.0)
    assert sum(item.block.num_samples for item in new) == 500
    assert (late, outcomes, planner.account.ignored) == ([], [], 500)


def test_blocks_are_plain_tuples() -> None:
    """They cross process borders for every task."""
    assert tuple(Block(3, Phase.ESTIMATION, 5, 7)) == (3, 1, 5, 7)

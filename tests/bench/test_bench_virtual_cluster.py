"""The driver's load over replicas on paper, at a small size."""

from __future__ import annotations

import numpy as np
import pytest

from raycp.bench.virtual_cluster import (
    BATCH_SIZE,
    CallCosts,
    HeavyTail,
    Troubles,
    VirtualCluster,
    drive,
    nine_of_ten,
)
from raycp.certify.units import Task
from raycp.distributed.simulation import SimulatedReplica
from raycp.sampling.blocks import Block, Phase


def test_twenty_replicas_are_kept_at_work() -> None:
    driven = drive(replicas=20, task_seconds=5.0, virtual_seconds=100.0)
    assert driven.seconds == pytest.approx(100.0, abs=30.0)
    # 20 replicas at 5 s; the sizes follow durations, which spread widely, so the mean is not exactly 5 s.
    assert 2.0 < driven.tasks_per_second < 6.0
    assert 0.95 < driven.utilisation <= 1
    assert 0 < driven.driver_cores < 1
    assert driven.waits_per_second >= driven.tasks_per_second / 2


def test_durations_have_the_promised_mean_and_tail() -> None:
    """100,000 draws with a fixed seed; the cut at 15 takes 0.5 * 0.5 / 15 off the mean of 1."""
    tail = HeavyTail(seed=0)
    task = Task(0.5, (Block(0, Phase.ESTIMATION, 0, 4_000),), "paper")
    seconds = np.array([tail(task, SimulatedReplica(samples_per_second=2_000.0)) for _ in range(100_000)]) / 2
    assert seconds.min() >= 0.5
    assert seconds.max() == 15.0
    # Standard error 0.003; five of them.
    assert seconds.mean() == pytest.approx(1 - 0.25 / 15, abs=0.02)
    assert np.mean(seconds > 5) == pytest.approx((0.5 / 5) ** 2, abs=0.002)


def test_counts_add_up() -> None:
    blocks = tuple(Block(0, Phase.ESTIMATION, first, n) for first, n in ((0, 1), (1, BATCH_SIZE), (300, 99)))
    counts = nine_of_ten(Task(0.5, blocks, "paper"))
    assert counts.sum(axis=1).tolist() == [1, BATCH_SIZE, 99]
    assert counts[:, 0].tolist() == [1, 231, 90]
    assert not counts[:, 2:].any()


def test_calls_are_counted() -> None:
    cluster = VirtualCluster(100.0)
    cluster.start(0)
    assert len(cluster.wait(2.0)) == 1
    cluster.submit(0, 0, Task(0.5, (Block(0, Phase.ESTIMATION, 0, 10),), "paper"))
    cluster.wait(60.0)
    assert (cluster.num_tasks, cluster.num_waits) == (1, 2)


def test_a_driver_with_too_much_to_do_makes_its_replicas_wait() -> None:
    """A quarter of a second per task, all of the driver's time: four tasks of 5 s a second keep 20 replicas at work."""
    driven = drive(replicas=50, task_seconds=5.0, virtual_seconds=100.0, calls=CallCosts(0.25, 0.0))
    assert 0.9 < driven.driver_cores <= 1.01
    assert driven.tasks_per_second == pytest.approx(4.0, rel=0.1)
    assert driven.utilisation < 0.8
    waiting = drive(replicas=50, task_seconds=5.0, virtual_seconds=100.0, calls=CallCosts(0.0, 0.01))
    # Half a second to look for answers of 50 replicas, and rests of 0.05 s at most.
    assert 0.85 < waiting.driver_cores <= 1.01
    assert waiting.waits_per_second < 2


def test_a_driver_spends_a_fifth_of_its_time_on_looking_for_answers() -> None:
    driven = drive(replicas=50, task_seconds=0.5, virtual_seconds=60.0, calls=CallCosts(0.0, 50e-6))
    assert driven.driver_cores == pytest.approx(0.2, abs=0.06)
    assert driven.utilisation > 0.9


def test_stragglers_get_smaller_tasks_and_the_lost_are_replaced() -> None:
    slow = Troubles(straggler_share=0.5, straggler_factor=10.0)
    assert drive(20, 5.0, 200.0, troubles=slow).utilisation > 0.9
    dying = Troubles(mean_life_seconds=60.0, start_seconds=30.0)
    driven = drive(20, 5.0, 300.0, troubles=dying)
    # A replica is there for 60 of 90 s, and loses about a task's length of work when it goes.
    assert 0.4 < driven.utilisation < 0.72
    assert driven.lost == pytest.approx(20 * 390 / 90, rel=0.4)

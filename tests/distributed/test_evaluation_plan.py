"""An evaluation under the dispatch loop: every unit once, whatever happens to replicas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from raycp.certify.units import Task
from raycp.config import Engine
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.evaluation_plan import EvaluationPlan, MeasuredUnit
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.errors import WorkFailedError
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.measure import Measured

SIGMAS, INDEX, DRAWS = (0.25, 0.5), [10 * i for i in range(40)], 3


class Kept:
    def __init__(self) -> None:
        self.units: list[MeasuredUnit] = []

    def write(self, units: Sequence[MeasuredUnit], outcomes: Sequence[object]) -> None:
        assert [(unit.sigma, unit.image) for unit in units] == list(outcomes)
        self.units += units


def measured(task: Task) -> Measured:
    """Figures that say which sample they are of."""
    image = np.concatenate([np.full(block.num_samples, block.image) for block in task.blocks])
    return Measured(np.full(len(image), True), image, image + task.sigma, None, None, None)


def evaluate(plan: EvaluationPlan, transport: SimulatedTransport) -> dict[tuple[float, int], Measured]:
    kept = Kept()
    Dispatcher(plan, transport, Engine(replicas=4), 8, kept, report=lambda _: None).run()
    found = {(unit.sigma, unit.image): unit.measured for unit in kept.units}
    assert len(found) == len(kept.units), "a unit was kept twice"
    return found


def everything() -> set[tuple[float, int]]:
    return {(sigma, image) for sigma in (0.0, *SIGMAS) for image in range(len(INDEX))}


def check(found: dict[tuple[float, int], Measured]) -> None:
    for (sigma, image), unit in found.items():
        assert unit.squared_l2.tolist() == [image + sigma] * (DRAWS if sigma else 1)


def test_every_unit_is_measured_once() -> None:
    plan = EvaluationPlan(SIGMAS, INDEX, DRAWS, set())
    assert (plan.num_units, plan.remaining_samples()) == (120, 40 + 2 * 40 * DRAWS)
    found = evaluate(plan, SimulatedTransport(lambda _: SimulatedReplica(), measured))  # type: ignore[arg-type]
    assert found.keys() == everything()
    assert (plan.num_decided, plan.remaining_samples()) == (120, 0)
    check(found)


def test_lost_replicas_cost_only_time() -> None:
    def replica(number: int) -> SimulatedReplica:
        return SimulatedReplica(samples_per_second=20.0, lifetime=3.0 if number % 2 else float("inf"))

    found = evaluate(EvaluationPlan(SIGMAS, INDEX, DRAWS, set()), SimulatedTransport(replica, measured))  # type: ignore[arg-type]
    assert found.keys() == everything()
    check(found)


def test_what_is_done_is_not_measured_again() -> None:
    done = {(0.0, 3), (0.5, 39), (0.25, 0)}
    plan = EvaluationPlan(SIGMAS, INDEX, DRAWS, done)
    assert (plan.num_decided, plan.remaining_samples()) == (3, 280 - 1 - 2 * DRAWS)
    assert (
        evaluate(plan, SimulatedTransport(lambda _: SimulatedReplica(), measured)).keys()
        == everything() - done
    )  # type: ignore[arg-type]


def test_an_image_with_infinite_values_is_set_aside_by_name() -> None:
    def broken(task: Task) -> Measured:
        found = measured(task)
        finite = ~((found.predicted == 7) & (task.sigma == 0.5))
        return Measured(finite, found.predicted, found.squared_l2, None, None, None)

    plan = EvaluationPlan(SIGMAS, INDEX, DRAWS, set())
    with pytest.raises(
        WorkFailedError, match=r"3 of 3 samples of image 70 at sigma 0.5 have NaN or infinite"
    ):
        evaluate(plan, SimulatedTransport(lambda _: SimulatedReplica(), broken))  # type: ignore[arg-type]
    assert plan.num_decided == 119


def test_a_task_that_comes_back_twice_counts_once() -> None:
    plan = EvaluationPlan((0.5,), [0, 1], 1, {(0.0, 0), (0.0, 1)})
    task = Task(0.5, (Block(0, Phase.EVALUATION, 0, 1), Block(1, Phase.EVALUATION, 0, 1)), "cpu")
    assert plan.next_task(100, "cpu", ["cpu"]) == task
    assert plan.next_task(100, "cpu", ["cpu"]) is None
    plan.requeue(task)
    assert plan.next_task(1, "cpu", ["cpu"]) == Task(0.5, task.blocks[:1], "cpu")
    assert len(plan.record(task, measured(task), 1.0)[0]) == 2
    assert plan.record(task, measured(task), 1.0) == ([], [])
    assert plan.finished
    assert not plan.wants(task)

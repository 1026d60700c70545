"""The planner step by step: what is handed out, ignored, asked for again, and taken from a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from synthetic_votes import NUM_CLASSES, SIGMAS, Votes

from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule, PredictRule
from raycp.certify.tally import Tally
from raycp.certify.units import Counted, Outcome, Task
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Block, Phase


def planner_of(votes: Votes, **options: object) -> Planner:
    protocol = CertifyProtocol(**{"num_selection": 10, "num_estimation": 50, **options})  # type: ignore[arg-type]
    return Planner(
        SIGMAS, votes.labels, votes.image_index, FixedRule(protocol, dict.fromkeys(SIGMAS, 0.0)), NUM_CLASSES
    )


@pytest.mark.parametrize("size", [1, 7, 60, 64, 10_000])
def test_without_failures_every_sample_is_handed_out_once(size: int) -> None:
    votes = Votes(4, ("a",), 0)
    planner = planner_of(votes)
    drawn: Counter[tuple[float, int, Phase, int]] = Counter()
    tasks = []
    while (task := planner.next_task(size, "a", {"a"})) is not None:
        tasks.append(task)
        for block in task.blocks:
            assert block.num_samples >= 1
            drawn.update(
                (task.sigma, block.image, block.phase, block.first + i) for i in range(block.num_samples)
            )
    per_sigma = 4 * 60
    assert [sum(t.num_samples for t in tasks if t.sigma == sigma) for sigma in SIGMAS] == [per_sigma] * 2
    assert set(drawn.values()) == {1}
    assert len(drawn) == 2 * per_sigma
    # Tasks are full but for the last one of each noise level; full ones come first, in the order of the noise levels.
    full = [t.sigma for t in tasks if t.num_samples == size]
    assert full == sorted(full, key=SIGMAS.index)
    assert all(t.num_samples == size for t in tasks[: len(full)])
    for sigma in SIGMAS:
        sizes = [t.num_samples for t in tasks if t.sigma == sigma]
        assert sizes[:-1] == [min(size, per_sigma)] * (len(sizes) - 1)
    assert planner.remaining_samples() == 2 * per_sigma  # handed out is not drawn


def test_remaining_samples_is_an_upper_bound_that_ends_at_zero() -> None:
    votes = Votes(6, ("a",), 3)
    planner = planner_of(votes, skip_wrong=True)
    before = planner.remaining_samples()
    assert before == 2 * 6 * 60
    history, accepted = [], 0
    while (task := planner.next_task(13, "a", {"a"})) is not None:
        new, _ = planner.record(task, votes.counts(task), 1.0)
        accepted += sum(item.block.num_samples for item in new)
        history.append((planner.remaining_samples(), accepted))
        assert planner.remaining_samples() <= before
        before = planner.remaining_samples()
    assert planner.finished
    assert before == 0
    assert accepted < 2 * 6 * 60  # some were skipped
    assert all(remaining >= accepted - so_far for remaining, so_far in history)


def test_remaining_samples_is_exact_where_nothing_is_skipped() -> None:
    votes = Votes(2, ("a",), 3)
    planner, accepted = planner_of(votes), 0
    while (task := planner.next_task(13, "a", {"a"})) is not None:
        planner.record(task, votes.counts(task), 1.0)
        accepted += task.num_samples
        assert planner.remaining_samples() == 2 * 2 * 60 - accepted


class EagerRule(PredictRule):
    """Wants more while what it wanted before is still under way."""

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        return {Phase.PREDICTION: min(self.largest_demand(), 10 + 2 * tallies[Phase.PREDICTION].num_samples)}


@pytest.mark.parametrize("earliest", [0, -1])
def test_a_demand_that_grows_hands_out_every_sample_once(earliest: int) -> None:
    """Results come back in order, or the latest first: what is under way lies before or inside the new demand."""
    votes = Votes(1, ("a",), 3)
    rule = EagerRule(PredictProtocol(num_samples=80))
    planner = Planner(SIGMAS[:1], votes.labels, votes.image_index, rule, NUM_CLASSES)
    handed_out: list[int] = []
    waiting: list[Task] = []
    outcomes: list[Outcome] = []
    while not planner.finished:
        while (task := planner.next_task(3, "a", {"a"})) is not None:
            waiting.append(task)
            handed_out += [b.first + i for b in task.blocks for i in range(b.num_samples)]
        task = waiting.pop(earliest)
        outcomes += planner.record(task, votes.counts(task), 1.0)[1]
    assert sorted(handed_out) == list(range(80))
    assert outcomes[0].row == votes.direct(PredictRule(PredictProtocol(num_samples=80)), outcomes[0])[0]


def test_a_repeated_result_is_ignored_and_said_to_be() -> None:
    votes = Votes(1, ("a", "b"), 0)
    planner = planner_of(votes)
    task = planner.next_task(25, "a", {"a"})
    assert task is not None
    new, _ = planner.record(task, votes.counts(task), 2.5)
    assert [item.block for item in new] == list(task.blocks)
    assert [item.seconds for item in new] == pytest.approx([1.0, 1.5])
    assert all(item.numerics == "a" and len(item.counts_K) == NUM_CLASSES for item in new)
    assert planner.record(task, votes.counts(task), 2.5) == ([], [])
    assert planner.account.ignored == 25
    foreign = Task(task.sigma, (Block(0, Phase.ESTIMATION, 15, 5),), "b")
    assert planner.record(foreign, votes.counts(foreign), 1.0) == ([], [])
    assert planner.account.ignored == 30


def test_ranges_that_were_cut_in_two_ways_leave_no_gap() -> None:
    """A range that was handed out twice, as [0,30) [30,50) and as [0,20) [20,50), and comes back crosswise."""
    votes = Votes(1, ("a",), 0)
    planner = planner_of(votes)
    first = planner.next_task(10, "a", {"a"})
    lost = planner.next_task(50, "a", {"a"})
    assert first is not None and lost is not None
    assert [(b.phase, b.first, b.num_samples) for b in lost.blocks] == [(Phase.ESTIMATION, 0, 50)]
    planner.requeue(lost)
    planner.requeue(lost)
    tasks = {}
    for size in (30, 20, 20, 30):
        task = planner.next_task(size, "a", {"a"})
        assert task is not None
        (block,) = task.blocks
        tasks[block.first, block.first + block.num_samples] = task
    for key, accepted in (((0, 20), True), ((0, 30), False), ((30, 50), True), ((20, 50), False)):
        assert bool(planner.record(tasks[key], votes.counts(tasks[key]), 1.0)[0]) == accepted
    gap = planner.next_task(10, "a", {"a"})
    assert gap is not None
    assert {(b.phase, b.first, b.num_samples) for b in gap.blocks} == {(Phase.ESTIMATION, 20, 10)}
    planner.record(gap, votes.counts(gap), 1.0)
    _, (outcome,) = planner.record(first, votes.counts(first), 1.0)
    row, _ = votes.direct(
        FixedRule(CertifyProtocol(num_selection=10, num_estimation=50), {SIGMAS[0]: 0.0}), outcome
    )
    assert outcome.row == row
    assert outcome.num_samples == 60


def test_counts_that_do_not_add_up_are_our_mistake() -> None:
    votes = Votes(1, ("a",), 0)
    planner = planner_of(votes)
    task = planner.next_task(25, "a", {"a"})
    assert task is not None
    counts = votes.counts(task)
    counts[0, 0] += 1
    with pytest.raises(AssertionError):
        planner.record(task, counts, 1.0)


def test_a_class_without_replicas_keeps_its_units_until_nothing_else_is_left() -> None:
    votes = Votes(2, ("a", "b"), 1)
    planner = planner_of(votes)
    begun = planner.next_task(15, "a", {"a", "b"})
    assert begun is not None and {block.image for block in begun.blocks} == {0}
    planner.record(begun, votes.counts(begun), 1.0)
    task = planner.next_task(60, "b", {"a", "b"})
    assert task is not None and {block.image for block in task.blocks} == {1}
    # The other sigma is left, and image 0 belongs to a class with replicas.
    task = planner.next_task(1_000, "b", {"a", "b"})
    assert task is not None and task.sigma == SIGMAS[1] and task.num_samples == 120
    assert planner.next_task(60, "b", {"a", "b"}) is None
    # Now it has none: all of its 60 samples, from the first on.
    task = planner.next_task(1_000, "b", {"b"})
    assert task is not None
    assert [(b.image, b.phase, b.first, b.num_samples) for b in task.blocks] == [
        (0, Phase.SELECTION, 0, 10),
        (0, Phase.ESTIMATION, 0, 50),
    ]
    # Both lose theirs: what was drawn under the first class is not drawn again.
    planner.requeue(task)
    task = planner.next_task(1_000, "a", {"a"})
    assert task is not None
    assert (0, Phase.ESTIMATION, 5, 45) in [(b.image, b.phase, b.first, b.num_samples) for b in task.blocks]
    assert sum(b.num_samples for b in task.blocks if b.image == 0) == 45


def test_restored_classes_of_one_unit() -> None:
    """The class that decides wins over one with more samples; if none does, the first goes on."""
    votes = Votes(1, ("a", "b"), 0)
    sigma = SIGMAS[0]
    wrong = (int(votes.labels[0]) + 1) % NUM_CLASSES
    votes.votes["b", sigma, 0, Phase.SELECTION][:] = wrong

    def counted(numerics: str, phase: Phase, first: int, num_samples: int) -> Counted:
        block = Block(0, phase, first, num_samples)
        return Counted(sigma, block, votes.block_counts(numerics, sigma, block)[:-1], numerics, 1.0)

    partial = [counted("a", Phase.SELECTION, 0, 10), counted("a", Phase.ESTIMATION, 0, 40)]
    skipped = [counted("b", Phase.SELECTION, 0, 10)]
    planner = planner_of(votes, skip_wrong=True)
    assert planner.restore(partial) == []
    (outcome,) = planner.restore(skipped)
    assert (outcome.numerics, outcome.row.stop_reason, outcome.num_samples) == ("b", "skipped_wrong", 10)
    assert planner.restore(partial) == []
    assert planner.num_decided == 1
    task = planner.next_task(1_000, "a", {"a"})
    assert task is not None and task.sigma == SIGMAS[1]

    undecided = planner_of(votes)
    assert undecided.restore(partial) == undecided.restore(skipped) == []
    task = undecided.next_task(50, "b", {"b"})  # image 0 restored under a, which has no replicas
    assert task is not None
    assert [(b.phase, b.first, b.num_samples) for b in task.blocks] == [(Phase.ESTIMATION, 0, 50)]

"""The planner under random schedules: whatever is lost, repeated, late or restored, the rows are the direct ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from synthetic_votes import NUM_CLASSES, SIGMAS, Votes

from raycp.certify.boundaries import boundary_tables, looks_of
from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule, PredictRule, Row, Rule
from raycp.certify.sequential import AnytimeRule, DecideRule, EProcessRule
from raycp.certify.tally import Tally
from raycp.certify.units import Counted, Outcome, Task
from raycp.config import CertifyProtocol, PredictProtocol, Sequential
from raycp.sampling.blocks import Block, Phase

CLASSES = ("a", "b", "c")
RADII = (0.0, 0.25, 0.5)


def random_rule(rng: np.random.Generator) -> Rule:
    if rng.random() < 0.2:
        return PredictRule(PredictProtocol(num_samples=int(rng.integers(1, 60))))
    kind = str(rng.choice(["fixed", "decide", "anytime", "e_process"]))
    protocol = CertifyProtocol(
        sigmas=SIGMAS,
        num_selection=int(rng.integers(1, 30)),
        num_estimation=int(rng.integers(1 if kind == "fixed" else 30, 200)),
        alpha=0.05,
        skip_wrong=bool(rng.random() < 0.6),
        rule=kind,  # type: ignore[arg-type]
        sequential=Sequential(
            first_look=int(rng.integers(1, 40)), growth=float(rng.uniform(1.1, 2)), step=0.3
        ),
    )
    slack = dict.fromkeys(SIGMAS, 1e-6)
    if kind == "fixed":
        return FixedRule(protocol, slack, RADII)
    if kind == "e_process":
        return EProcessRule(protocol, slack, RADII, looks_of(protocol))
    tables = boundary_tables(protocol, slack, RADII)
    return (DecideRule if kind == "decide" else AnytimeRule)(protocol, tables, RADII)


class Session:
    """A planner with its tasks in flight, and the ledger that outlives it."""

    def __init__(self, votes: Votes, rule: Rule, rng: np.random.Generator, ledger: list[Counted]) -> None:
        self.votes, self.rule, self.rng = votes, rule, rng
        nearest_first = bool(rng.random() < 0.3)
        self.planner = Planner(SIGMAS, votes.labels, votes.image_index, rule, NUM_CLASSES, nearest_first)
        self.live: set[str] = set()
        self.in_flight: list[Task] = []
        self.past: list[Task] = []
        self.ledger = ledger
        self.outcomes: dict[tuple[float, int], Outcome] = {}
        self.accepted: Counter[tuple[str, float, int, Phase, int]] = Counter()
        self.restore()

    def restore(self) -> None:
        by_unit: dict[tuple[float, int, str], list[Counted]] = {}
        for item in self.ledger:
            by_unit.setdefault((item.sigma, item.block.image, item.numerics), []).append(item)
        keys = list(by_unit)
        for index in self.rng.permutation(len(keys)):
            items = by_unit[keys[index]]
            self.count(items)
            self.take(self.planner.restore(items))

    def take(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            key = (outcome.sigma, outcome.image)
            assert key not in self.outcomes, "decided twice"
            self.outcomes[key] = outcome

    def count(self, counted: list[Counted]) -> None:
        for item in counted:
            for sample in range(item.block.first, item.block.first + item.block.num_samples):
                self.accepted[item.numerics, item.sigma, item.block.image, item.block.phase, sample] += 1

    def request(self, numerics: str) -> bool:
        size = int(self.rng.choice([1, 3, 16, 50, 1000]))
        task = self.planner.next_task(size, numerics, self.live)
        if task is None:
            return False
        assert task.numerics == numerics
        assert 1 <= task.num_samples <= size
        assert all(block.num_samples >= 1 for block in task.blocks)
        self.in_flight.append(task)
        return True

    def record(self, task: Task) -> None:
        new, outcomes = self.planner.record(task, self.votes.counts(task), 0.5 * task.num_samples)
        self.count(new)
        self.ledger += new
        self.take(outcomes)

    def pop(self) -> Task:
        task = self.in_flight.pop(int(self.rng.integers(len(self.in_flight))))
        self.past.append(task)
        return task

    def vanish(self, numerics: str) -> None:
        self.live.discard(numerics)
        lost = [task for task in self.in_flight if task.numerics == numerics]
        self.in_flight = [task for task in self.in_flight if task.numerics != numerics]
        self.past += lost
        for index in self.rng.permutation(len(lost)):
            self.planner.requeue(lost[index])

    def step(self, rough: bool) -> None:
        rng = self.rng
        action = rng.choice(["request", "record", "lose", "late", "vanish", "appear"],
                            p=[0.4, 0.33, 0.1, 0.1, 0.03, 0.04])  # fmt: skip
        if action == "request" and self.live:
            self.request(str(rng.choice(sorted(self.live))))
        elif action == "record" and self.in_flight:
            self.record(self.pop())
        elif action == "lose" and self.in_flight:
            self.planner.requeue(self.pop())
        elif action == "late" and self.past:
            # A task that was recorded before (repeated) or given to another replica meanwhile (late).
            task = self.past[int(rng.integers(len(self.past)))]
            if rough and rng.random() < 0.3:
                self.planner.requeue(task)
            else:
                self.record(task)
        elif action == "vanish" and self.live:
            self.vanish(str(rng.choice(sorted(self.live))))
        elif action == "appear":
            self.live.add(str(rng.choice(CLASSES)))

    def drain(self, numerics: str) -> None:
        """Finish under one class; what is in flight elsewhere never comes back."""
        for other in CLASSES:
            if other != numerics:
                self.vanish(other)
        self.live.add(numerics)
        for _ in range(100_000):
            while len(self.in_flight) < 3 and self.request(numerics):
                pass
            if not self.in_flight:
                break
            task = self.pop()
            if self.rng.random() < 0.1:
                self.planner.requeue(task)
            else:
                self.record(task)
        assert self.planner.finished, "nothing in flight, nothing handed out, and not finished"


def check_rows(session: Session) -> None:
    for (sigma, image), outcome in session.outcomes.items():
        row, num_samples = session.votes.direct(session.rule, outcome)
        assert outcome.row == row
        assert outcome.num_samples == num_samples
        entered = {
            key: times
            for key, times in session.accepted.items()
            if key[:3] == (outcome.numerics, sigma, image)
        }
        assert set(entered.values()) == {1}, "a sample entered twice"
        assert outcome.seconds == pytest.approx(0.5 * len(entered))
        if any(session.rule.cuts.values()):  # samples drawn ahead may be in the ledger
            assert len(entered) >= num_samples
        else:
            assert len(entered) == num_samples


@pytest.mark.parametrize("seed", range(300))
def test_rows_are_the_direct_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = Votes(int(rng.integers(1, 6)), CLASSES, seed)
    rule = random_rule(rng)
    ledger: list[Counted] = []
    reported: dict[tuple[float, int], Outcome] = {}
    for session_number in range(3):
        session = Session(votes, rule, rng, ledger)
        # What was decided, with its blocks in the ledger, stays decided and stays what it was.
        assert {key: session.outcomes[key].row for key in reported} == {k: o.row for k, o in reported.items()}
        for _ in range(int(rng.choice([5, 60, 300]))):
            session.step(rough=seed % 2 == 1)
        if session_number == 2 or rng.random() < 0.3:
            session.drain(str(rng.choice(CLASSES)))
            assert session.planner.finished
            assert len(session.outcomes) == session.planner.num_units == session.planner.num_decided
            assert session.planner.remaining_samples() == 0
            assert session.planner.next_task(10, "a", {"a"}) is None
        check_rows(session)
        if rng.random() < 0.5:
            reported = dict(session.outcomes)
        else:
            # The driver was killed before its last blocks were durable.
            kept = rng.random(len(ledger)) < rng.choice([0.0, 0.5, 0.95])
            ledger = [item for item, keep in zip(ledger, kept, strict=True) if keep]
            reported = {}


@pytest.mark.parametrize("seed", range(40))
def test_failed_units_stay_out_and_others_go_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = Votes(5, CLASSES, seed)
    rule = FixedRule(
        CertifyProtocol(num_selection=8, num_estimation=90, alpha=0.05), dict.fromkeys(SIGMAS, 0.0)
    )
    bad = {(0.5, 1): Phase.ESTIMATION, (0.25, 4): Phase.SELECTION}
    for (sigma, image), phase in bad.items():
        votes.poison(sigma, image, phase, 7)
    partly = Session(votes, rule, rng, [])
    partly.live |= {"a", "b"}
    for _ in range(int(rng.integers(0, 40))):
        partly.step(rough=False)
    session = Session(votes, rule, rng, partly.ledger)
    given_up: set[tuple[float, int]] = set()
    for number in range(120):
        session.step(rough=False)
        if number == 60 and session.in_flight:
            task = session.pop()
            given_up |= {(task.sigma, block.image) for block in task.blocks} - set(session.outcomes)
            given_up -= set(session.planner.set_aside)
            session.planner.give_up(task, "killed replicas")
    session.drain("c")
    set_aside = session.planner.set_aside
    assert set(set_aside) | set(session.outcomes) == {(s, i) for s in SIGMAS for i in range(5)}
    assert set(set_aside).isdisjoint(session.outcomes)
    assert set(bad) <= set(set_aside)
    assert set(set_aside) == set(bad) | given_up
    for key in given_up:
        assert set_aside[key] == "killed replicas"
    for (sigma, image), phase in bad.items():
        if (sigma, image) not in given_up:
            reason = set_aside[sigma, image]
            assert (
                f"samples have NaN or infinite logits: image {votes.image_index[image]}, sigma {sigma}, "
                in reason
            )
            assert f"{phase.name.lower()} samples " in reason
    # No block with an invalid sample reached the ledger.
    assert all(item.counts_K.sum() == item.block.num_samples for item in session.ledger)
    check_rows(session)


def row_or_demand(votes: Votes, rule: Rule, sigma: float, image: int, sample: int) -> Row | None:
    """The row of a unit whose estimation sample `sample` is invalid; None if the rule asks for that sample."""
    tallies = {phase: Tally(NUM_CLASSES, rule.cuts[phase]) for phase in Phase}
    label = int(votes.labels[image])
    while (row := rule.decide(label, sigma, tallies)) is None:
        for phase, wanted in rule.wanted(label, tallies).items():
            if phase == Phase.ESTIMATION and wanted > sample:
                return None
            for first, stop in tallies[phase].missing(wanted):
                counts = votes.block_counts("a", sigma, Block(image, phase, first, stop - first))
                assert tallies[phase].add(first, stop - first, counts[:-1])
    return row


@pytest.mark.parametrize("seed", range(60))
def test_an_invalid_sample_matters_exactly_where_the_rule_asks_for_it(seed: int) -> None:
    """Whether it was drawn ahead of a decision, by chance or haste, leaves no trace."""
    rng = np.random.default_rng(seed)
    votes = Votes(5, ("a",), seed)
    protocol = CertifyProtocol(
        sigmas=SIGMAS, num_selection=5, num_estimation=200, alpha=0.05, rule="decide",
        sequential=Sequential(first_look=20, growth=1.3, step=0.3),
    )  # fmt: skip
    slack = dict.fromkeys(SIGMAS, 0.0)
    rule = DecideRule(protocol, boundary_tables(protocol, slack, RADII), RADII)
    sample = int(rng.integers(20, 200))
    for sigma in SIGMAS:
        for image in range(5):
            votes.poison(sigma, image, Phase.ESTIMATION, sample)
    session = Session(votes, rule, rng, [])
    for _ in range(60):
        if rng.random() < 0.6:
            session.request("a")
        elif session.in_flight and rng.random() < 0.2:
            session.planner.requeue(session.pop())
        elif session.in_flight:
            session.record(session.pop())
    session.drain("a")
    for sigma in SIGMAS:
        for image in range(5):
            expected = row_or_demand(votes, rule, sigma, image, sample)
            assert ((sigma, image) in session.planner.set_aside) == (expected is None)
            if expected is not None:
                assert session.outcomes[sigma, image].row == expected

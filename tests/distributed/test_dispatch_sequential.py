"""Rules that stop early, on a virtual clock: the same rows whatever happens, little drawn in vain, budgets kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from raycp.certify.boundaries import boundary_tables, looks_of
from raycp.certify.planner import Planner
from raycp.certify.rules import FixedRule, Rule
from raycp.certify.sequential import AnytimeRule, DecideRule, EProcessRule
from raycp.certify.units import Counted, Outcome, Task
from raycp.config import CertifyProtocol, Engine
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.progress import UNLIMITED, Budget, Progress
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.sampling.blocks import Phase

SIGMAS, NUM_IMAGES, BATCH = (0.25, 0.5), 60, 32
RADII = (0.0, 0.25, 0.5)
LABELS = np.zeros(NUM_IMAGES, dtype=np.int64)
NUM_ESTIMATION = 5_000
P_A = np.concatenate([np.linspace(0.3, 0.999, NUM_IMAGES - 3), [0.5, 1.0, 0.0]])
VOTES = {
    (sigma, image): np.random.default_rng([image, int(sigma * 100)]).random(NUM_ESTIMATION) < P_A[image]
    for sigma in SIGMAS
    for image in range(NUM_IMAGES)
}


def make_rule(kind: str) -> Rule:
    protocol = CertifyProtocol(sigmas=SIGMAS, num_estimation=NUM_ESTIMATION, rule=kind, radii=RADII)  # type: ignore[arg-type]
    slack = dict.fromkeys(SIGMAS, 0.0)
    if kind == "fixed":
        return FixedRule(protocol, slack, RADII)
    if kind == "e_process":
        return EProcessRule(protocol, slack, RADII, looks_of(protocol))
    tables = boundary_tables(protocol, slack, RADII)
    return (DecideRule if kind == "decide" else AnytimeRule)(protocol, tables, RADII)


def draw(task: Task) -> np.ndarray:
    counts = np.zeros((len(task.blocks), 3), dtype=np.int64)
    for row, block in zip(counts, task.blocks, strict=True):
        votes = np.ones(block.num_samples, dtype=bool)
        if block.phase == Phase.ESTIMATION:
            votes = VOTES[task.sigma, block.image][block.first : block.first + block.num_samples]
        row[:2] = votes.sum(), block.num_samples - votes.sum()
    return counts


class Sink:
    def __init__(self) -> None:
        self.counted: list[Counted] = []
        self.outcomes: list[Outcome] = []

    def write(self, counted: Sequence[Counted], outcomes: Sequence[Outcome]) -> None:
        self.counted += counted
        self.outcomes += outcomes

    def rows(self) -> dict[tuple[float, int], Any]:
        return {(o.sigma, o.image): (o.row, o.num_samples) for o in self.outcomes}


def dispatch(
    rule: Rule,
    replicas: int,
    budget: Budget = UNLIMITED,
    lifetime: float = float("inf"),
    ledger: Sequence[Counted] = (),
    sigmas: Sequence[float] = SIGMAS,
) -> tuple[Sink, Planner, Progress]:
    planner = Planner(sigmas, LABELS, np.arange(NUM_IMAGES), rule, 2, nearest_first=budget.limited)
    sink, states = Sink(), list[Progress]()
    by_unit = defaultdict(list)
    for item in ledger:
        by_unit[item.sigma, item.block.image].append(item)
    for items in by_unit.values():
        sink.outcomes += planner.restore(items)
    transport = SimulatedTransport(
        lambda number: SimulatedReplica(
            0.5, 2_000.0 * (1 + number % 3), lifetime if number % 2 else float("inf")
        ),
        draw,
    )
    engine = Engine(replicas=replicas, task_seconds=0.2)
    Dispatcher(planner, transport, engine, BATCH, sink, states.append, budget).run()
    return sink, planner, states[-1]


@pytest.fixture(scope="module", params=["decide", "anytime", "e_process"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def undisturbed(kind: str) -> dict[tuple[float, int], Any]:
    return dispatch(make_rule(kind), 1)[0].rows()


@pytest.mark.parametrize(("replicas", "lifetime"), [(1, 3.0), (3, float("inf")), (8, 2.0)])
def test_the_same_rows_whatever_happens_to_replicas(
    kind: str, undisturbed: dict[tuple[float, int], Any], replicas: int, lifetime: float
) -> None:
    sink, planner, state = dispatch(make_rule(kind), replicas, lifetime=lifetime)
    assert sink.rows() == undisturbed
    assert len(undisturbed) == planner.num_decided == len(SIGMAS) * NUM_IMAGES
    assert state.lost > 0 or lifetime == float("inf") or replicas == 1
    # Each sample enters once, and everything a row is made from is in the ledger.
    drawn = sum(item.block.num_samples for item in sink.counted)
    assert drawn >= sum(samples for _, samples in undisturbed.values()) == planner.account.used


def test_little_is_drawn_in_vain(kind: str) -> None:
    for replicas in (1, 4):
        _, planner, state = dispatch(make_rule(kind), replicas)
        account = planner.account
        assert state.share_dropped == account.share_dropped < 0.05
        assert account.handed_out == account.used + account.dropped
        assert (account.ahead, account.expected, account.waiting) == (0, 0, 0)


def test_decide_needs_a_fraction_of_the_samples() -> None:
    """Of fixed N; and it certifies what fixed N certifies but for images on the edge of a radius."""
    decide, fixed = (dispatch(make_rule(kind), 4)[0].rows() for kind in ("decide", "fixed"))
    spent = [sum(samples for _, samples in rows.values()) for rows in (decide, fixed)]
    assert spent[0] * 4 < spent[1]
    for eps in RADII:
        counts = [
            sum(row.correct and row.radius >= eps for row, _ in rows.values()) for rows in (decide, fixed)
        ]
        assert abs(counts[0] - counts[1]) <= 4


@pytest.mark.parametrize("samples", [1, 5_000, 40_000])
def test_a_budget_of_samples_is_kept_and_resumed(
    kind: str, undisturbed: dict[tuple[float, int], Any], samples: int
) -> None:
    rule = make_rule(kind)
    sink, planner, _ = dispatch(rule, 3, Budget(samples=samples))
    drawn = sum(item.block.num_samples for item in sink.counted)
    assert 0.95 * samples <= drawn <= samples  # what comes back for a decided image is not kept
    assert planner.account.handed_out == samples
    assert not planner.finished
    rows = sink.rows()
    assert rows.items() <= undisturbed.items()
    listed = {(o.sigma, o.image): o.row for o in planner.undecided()}
    assert set(listed) | set(rows) == set(undisturbed) and not set(listed) & set(rows)
    for row in listed.values():
        assert row.stop_reason == "undecided"
    # More budget goes on from the ledger and ends with the same rows.
    more, later, _ = dispatch(rule, 2, ledger=sink.counted)
    assert later.finished
    assert more.rows() == undisturbed


def test_a_budget_goes_to_the_images_nearest_to_a_decision() -> None:
    """With half of the samples most images are decided, the cheap ones, and undecided ones keep what holds."""
    rule = make_rule("decide")
    full = dispatch(rule, 3)[0].rows()
    total = sum(samples for _, samples in full.values())
    sink, planner, _ = dispatch(rule, 3, Budget(samples=total // 2))
    assert len(sink.outcomes) > 0.6 * len(full)
    costs = [samples for _, samples in full.values()]
    assert np.mean([full[key][1] for key in sink.rows()]) < 0.7 * np.mean(costs)
    for outcome in planner.undecided():
        assert outcome.row.radius <= full[outcome.sigma, outcome.image][0].radius


def test_an_undecided_image_certifies_what_its_looks_certify() -> None:
    """Stopped after 40% of the samples: some undecided images have a radius above 0, and none above its true one."""
    rule = make_rule("anytime")
    full = dispatch(rule, 3)[0].rows()
    total = sum(samples for _, samples in full.values())
    _, planner, _ = dispatch(rule, 3, Budget(samples=int(0.4 * total)))
    radii = [o.row.radius for o in planner.undecided()]
    assert max(radii) > 0
    assert all(o.row.n == 0 or o.row.n0 == 100 for o in planner.undecided())


def test_a_budget_of_seconds_ends_the_session() -> None:
    sink, planner, state = dispatch(make_rule("decide"), 2, Budget(seconds=2.0))
    assert not planner.finished
    assert 2.0 <= state.seconds < 4.0
    assert sink.counted


def test_fixed_n_under_a_budget_finishes_images_one_by_one() -> None:
    per_image = NUM_ESTIMATION + 100
    sink, planner, _ = dispatch(make_rule("fixed"), 1, Budget(samples=10 * per_image + 700))
    assert len(sink.outcomes) >= 8
    assert all(o.row.radius == 0 and o.row.predicted == -1 for o in planner.undecided())

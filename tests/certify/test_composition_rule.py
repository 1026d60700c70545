"""The rules of a composition: what they ask for, and what they make of counts over choices and classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raycp.certify.composition import CompositionPredictRule, CompositionRule
from raycp.certify.planner import Planner
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certify, predict

SIGMA, LABEL, SLACK = 0.5, 2, {0.5: 1e-4}
SURE, UNSURE = [0, 0, 0, 1, 2, 7], [1, 2, 7, 0, 0, 0]
"""Of the selection: choice certified, and core; class 2."""


def tallies(core: int | None = None, **counts: list[int]) -> dict[Phase, Tally]:
    """Tallies over 2 * 3 outcomes; `core` is the class that the core says."""
    made = {phase: Tally(6) for phase in Phase}
    if core is not None:
        counts = counts | {"core": [int(k == core) for k in range(6)]}
    for name, counts_2K in counts.items():
        made[Phase[name.upper()]].add(0, sum(counts_2K), np.array(counts_2K))
    return made


def rule(**options: Any) -> CompositionRule:
    protocol = CertifyProtocol(**{"num_selection": 10, "num_estimation": 1_000, "alpha": 0.01, **options})
    return CompositionRule(protocol, SLACK, [0.0, 0.25])


def radius_of(n_A: int) -> float:
    counts = np.array([n_A, 1_000 - n_A])
    return certify(counts, counts, SIGMA, 0.005, slack=1e-4).radius


def test_what_is_asked_for() -> None:
    first, all_ = (
        {Phase.CORE: 1, Phase.SELECTION: 10},
        {Phase.CORE: 1, Phase.SELECTION: 10, Phase.ESTIMATION: 1_000},
    )
    assert rule().wanted(LABEL, tallies()) == all_
    assert rule().largest_demand() == 1_011
    skipping = rule(skip_wrong=True)
    assert skipping.wanted(LABEL, tallies()) == first
    assert skipping.wanted(LABEL, tallies(selection=SURE)) == first  # nothing of the core yet
    assert skipping.wanted(LABEL, tallies(core=0, selection=SURE)) == all_  # the core does not matter
    assert skipping.wanted(LABEL, tallies(core=0, selection=UNSURE)) == first  # the core is wrong
    assert skipping.wanted(LABEL, tallies(core=2, selection=UNSURE)) == all_
    assert skipping.wanted(1, tallies(core=1, selection=SURE)) == first  # the smoothed classifier is


def test_the_smoothed_classifier_is_chosen() -> None:
    estimation = [0, 0, 30, 5, 15, 950]  # 970 choose it, 980 say class 2
    found = rule().decide(LABEL, SIGMA, tallies(core=0, selection=SURE, estimation=estimation))
    assert found is not None
    assert (found.case, found.predicted, found.selected, found.choice) == ("certified", 2, 2, "certified")
    assert (found.n_A, found.n_S, found.n, found.n0) == (980, 970, 1_000, 10)
    assert found.radius == radius_of(970) < radius_of(980)
    assert (found.core_class, found.certified_class, found.correct) == (0, 2, True)
    assert found.grid_radius == 0.25
    assert rule().used(found) == 1_011
    p = [
        certify(np.array([n, 1_000 - n]), np.array([n, 1_000 - n]), SIGMA, 0.005, slack=1e-4)
        for n in (980, 970)
    ]
    assert [found.p_A_lower, found.p_S_lower] == [q.p_A_lower for q in p]


@pytest.mark.parametrize(
    ("core", "selection", "estimation", "case", "predicted"),
    [
        (0, UNSURE, [900, 30, 40, 10, 10, 10], "core", 0),
        (2, UNSURE, [10, 30, 930, 10, 10, 10], "core", 2),
        (2, UNSURE, [10, 10, 480, 0, 0, 500], "agreement", 2),
        (2, SURE, [10, 10, 480, 0, 0, 500], "agreement", 2),
        (1, SURE, [10, 10, 480, 0, 0, 500], "none", ABSTAIN),
        (2, SURE, [0, 0, 0, 300, 200, 500], "none", ABSTAIN),
        (2, SURE, [0, 300, 200, 0, 300, 200], "none", ABSTAIN),
    ],
)
def test_other_cases_have_radius_zero(
    core: int, selection: list[int], estimation: list[int], case: str, predicted: int
) -> None:
    found = rule().decide(LABEL, SIGMA, tallies(core=core, selection=selection, estimation=estimation))
    assert found is not None
    assert (found.case, found.predicted, found.radius) == (case, predicted, 0.0)
    assert found.predicted in (ABSTAIN, found.selected)
    assert found.grid_radius == (None if predicted == ABSTAIN else 0.0)
    assert found.correct == (predicted == LABEL)
    assert found.stop_reason == "complete"


def test_what_is_incomplete_or_skipped() -> None:
    estimation = [0, 0, 0, 0, 0, 999]
    for made in (
        tallies(),
        tallies(selection=SURE, estimation=[0, 0, 0, 0, 0, 1_000]),
        tallies(core=2, selection=SURE, estimation=estimation),
        tallies(core=2, selection=[0, 0, 9, 0, 0, 0]),
    ):
        assert rule().decide(LABEL, SIGMA, made) is None
    left = rule().interim(LABEL, SIGMA, tallies(core=1, selection=SURE, estimation=estimation))
    assert (left.selected, left.core_class, left.predicted, left.n0, left.n) == (2, 1, ABSTAIN, 10, 0)
    assert (left.stop_reason, rule().used(left)) == ("undecided", 11)
    nothing = rule().interim(LABEL, SIGMA, tallies(selection=SURE))
    assert (nothing.selected, nothing.core_class, nothing.choice, nothing.n0) == (-1, -1, "unknown", 0)
    assert rule().used(nothing) == 0
    skipped = rule(skip_wrong=True).decide(LABEL, SIGMA, tallies(core=0, selection=UNSURE))
    assert skipped is not None
    assert (skipped.stop_reason, skipped.predicted, skipped.selected) == ("skipped_wrong", ABSTAIN, 0)
    assert rule().used(skipped) == 11


@pytest.mark.parametrize("phase", [Phase.CORE, Phase.ESTIMATION])
def test_an_answer_that_is_not_finite_sets_the_image_aside(phase: Phase) -> None:
    planner = Planner([SIGMA], np.array([LABEL]), np.array([77]), rule(), 6)
    task = planner.next_task(2_000, "here", {"here"})
    assert task is not None and task.num_samples == 1_011
    counts = np.array([[0, 0, block.num_samples, 0, 0, 0, 0] for block in task.blocks])
    broken = next(at for at, block in enumerate(task.blocks) if block.phase == phase)
    counts[broken, [2, 6]] += [-1, 1]
    assert planner.record(task, counts, 1.0)[1] == []
    (reason,) = planner.set_aside.values()
    assert "samples have NaN or infinite logits: image 77, sigma 0.5" in reason
    assert phase.name.lower() in reason and planner.finished


def test_predictions() -> None:
    made = CompositionPredictRule(PredictProtocol(num_samples=100, alpha=0.01))
    assert made.wanted(LABEL, tallies()) == {Phase.CORE: 1, Phase.PREDICTION: 100}
    assert made.decide(LABEL, SIGMA, tallies(prediction=[0, 0, 0, 0, 5, 95])) is None
    for core, counts, predicted in (
        (0, [0, 0, 0, 0, 5, 95], 2),
        (0, [0, 3, 95, 0, 0, 2], 0),
        (2, [0, 0, 50, 0, 0, 50], 2),
        (0, [0, 0, 50, 0, 0, 50], ABSTAIN),
    ):
        found = made.decide(LABEL, SIGMA, tallies(core=core, prediction=counts))
        assert found is not None
        assert (found.predicted, found.core_class, found.correct) == (predicted, core, predicted == LABEL)
        assert (found.n_certified, found.n, made.used(found)) == (sum(counts[3:]), 100, 101)
        assert [found.n_B, found.n_A] == sorted(np.array(counts).reshape(2, 3).sum(0).tolist())[-2:]


def test_half_of_alpha_each() -> None:
    """61 of 100 votes are enough for PREDICT at 0.04 and not at 0.02."""
    votes = np.array([39, 61])
    assert (predict(votes, 0.04), predict(votes, 0.02)) == (1, ABSTAIN)
    made = CompositionPredictRule(PredictProtocol(num_samples=100, alpha=0.04))
    found = made.decide(1, SIGMA, tallies(core=0, prediction=[0, 0, 0, 39, 61, 0]))
    assert found is not None and found.predicted == ABSTAIN

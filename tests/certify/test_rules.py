"""What each rule asks for and what it makes of the counts, held against `raycp.statistics`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, norm

from raycp.certify.rules import CertificateRow, FixedRule, PredictRule
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certify, clopper_pearson_lower

SIGMA, LABEL = 0.5, 2
SLACK = {SIGMA: 1e-4}


def tallies(**counts: list[int]) -> dict[Phase, Tally]:
    """Tallies whose samples 0, 1, ... are there, with these counts by phase."""
    made = {phase: Tally(4) for phase in Phase}
    for name, counts_K in counts.items():
        if sum(counts_K):
            made[Phase[name.upper()]].add(0, sum(counts_K), np.array(counts_K))
    return made


def fixed(**options: Any) -> FixedRule:
    return FixedRule(CertifyProtocol(**{"num_selection": 10, "num_estimation": 1_000, **options}), SLACK)


def test_fixed_asks_for_both_phases_at_once() -> None:
    for made in (
        tallies(),
        tallies(selection=[10, 0, 0, 0]),
        tallies(selection=[0, 0, 10, 0], estimation=[5, 0, 0, 0]),
    ):
        assert fixed().wanted(LABEL, made) == {Phase.SELECTION: 10, Phase.ESTIMATION: 1_000}
    assert fixed().largest_demand() == 1_010


def test_skip_wrong_asks_for_estimation_only_if_the_label_was_selected() -> None:
    rule = fixed(skip_wrong=True)
    selection_only = {Phase.SELECTION: 10}
    assert rule.wanted(LABEL, tallies()) == selection_only
    assert rule.wanted(LABEL, tallies(selection=[0, 0, 9, 0])) == selection_only  # not complete
    assert rule.wanted(LABEL, tallies(selection=[6, 0, 4, 0])) == selection_only  # wrong
    assert rule.wanted(LABEL, tallies(selection=[5, 0, 5, 0])) == selection_only  # the tie goes to class 0
    assert rule.wanted(LABEL, tallies(selection=[4, 0, 6, 0])) == {**selection_only, Phase.ESTIMATION: 1_000}
    assert rule.largest_demand() == 1_010


@pytest.mark.parametrize("skip_wrong", [False, True])
@pytest.mark.parametrize("bound", ["one_sided", "two_class"])
def test_a_complete_image_gets_its_certificate(bound: str, skip_wrong: bool) -> None:
    selection, estimation = [1, 2, 7, 0], [40, 5, 950, 5]
    row = fixed(bound=bound, skip_wrong=skip_wrong, alpha=0.01).decide(
        LABEL, SIGMA, tallies(selection=selection, estimation=estimation)
    )
    expected = certify(np.array(selection), np.array(estimation), SIGMA, 0.01, bound, 1e-4)  # type: ignore[arg-type]
    assert row == CertificateRow(
        selected=2, predicted=2, radius=expected.radius, p_A_lower=expected.p_A_lower,
        p_B_upper=expected.p_B_upper, n_A=950, n=1_000, n0=10, correct=True, stop_reason="complete",
    )  # fmt: skip
    if bound == "one_sided":
        p_A_lower = beta.ppf(0.01, 950, 51) - 1e-4
        assert row.p_A_lower == pytest.approx(p_A_lower, abs=1e-10)
        assert row.radius == pytest.approx(SIGMA * norm.ppf(p_A_lower), abs=1e-9)


def test_slack_is_the_one_of_the_sigma() -> None:
    rule = FixedRule(CertifyProtocol(num_selection=10, num_estimation=1_000), {0.25: 0.0, SIGMA: 0.05})
    made = tallies(selection=[0, 0, 10, 0], estimation=[0, 0, 1_000, 0])
    rows = [rule.decide(LABEL, sigma, made) for sigma in (0.25, SIGMA)]
    assert rows[0] is not None and rows[1] is not None
    assert rows[1].p_A_lower == pytest.approx(rows[0].p_A_lower - 0.05, abs=1e-12)


def test_the_selected_class_is_certified_not_the_most_frequent() -> None:
    row = fixed().decide(LABEL, SIGMA, tallies(selection=[0, 10, 0, 0], estimation=[0, 100, 900, 0]))
    assert row is not None
    assert (row.selected, row.predicted, row.n_A, row.radius, row.correct) == (1, ABSTAIN, 100, 0.0, False)
    assert row.stop_reason == "complete"


def test_an_abstention_is_not_correct_even_if_the_label_was_selected() -> None:
    row = fixed().decide(LABEL, SIGMA, tallies(selection=[0, 0, 10, 0], estimation=[490, 0, 510, 0]))
    assert row is not None
    assert (row.selected, row.predicted, row.n_A, row.radius, row.correct) == (
        LABEL,
        ABSTAIN,
        510,
        0.0,
        False,
    )


def test_a_bound_of_exactly_one_half_certifies_the_image_itself() -> None:
    """Cohen et al. abstain below 1/2; the slack is chosen so that the bound is 1/2 to the last bit."""
    protocol = CertifyProtocol(num_selection=10, num_estimation=1_000)
    slack = clopper_pearson_lower(1_000, 1_000, 0.001) - 0.5
    row = FixedRule(protocol, {SIGMA: slack}).decide(
        LABEL, SIGMA, tallies(selection=[0, 0, 10, 0], estimation=[0, 0, 1_000, 0])
    )
    assert row is not None
    assert (row.p_A_lower, row.predicted, row.radius, row.correct) == (0.5, LABEL, 0.0, True)


def test_a_certified_wrong_class_is_not_correct() -> None:
    row = fixed().decide(LABEL, SIGMA, tallies(selection=[0, 10, 0, 0], estimation=[0, 1_000, 0, 0]))
    assert row is not None
    assert (row.predicted, row.correct) == (1, False)
    assert row.radius > 0


def test_skipped_images() -> None:
    made = tallies(selection=[5, 0, 5, 0])
    assert fixed().decide(LABEL, SIGMA, made) is None
    assert fixed(skip_wrong=True).decide(0, SIGMA, made) is None  # its label was selected: to be estimated
    row = fixed(skip_wrong=True).decide(LABEL, SIGMA, made)
    assert row == CertificateRow(
        selected=0, predicted=ABSTAIN, radius=0.0, p_A_lower=0.0, p_B_upper=1.0, n_A=0, n=0, n0=10,
        correct=False, stop_reason="skipped_wrong",
    )  # fmt: skip
    # Estimation samples that another session drew do not revive it: the row is a function of the selection.
    with_estimation = tallies(selection=[5, 0, 5, 0], estimation=[0, 0, 1_000, 0])
    assert fixed(skip_wrong=True).decide(LABEL, SIGMA, with_estimation) == row


def test_nothing_is_decided_from_incomplete_or_disordered_samples() -> None:
    """999 of 1,000, 9 of 10, or the right number with a hole and one too many."""
    rule = fixed()
    whole_selection, whole_estimation = [0, 0, 10, 0], [0, 0, 1_000, 0]
    assert rule.decide(LABEL, SIGMA, tallies(selection=whole_selection, estimation=[0, 0, 999, 0])) is None
    assert rule.decide(LABEL, SIGMA, tallies(selection=[0, 0, 9, 0], estimation=whole_estimation)) is None
    assert rule.decide(LABEL, SIGMA, tallies(estimation=whole_estimation)) is None
    holed = tallies(selection=whole_selection)
    holed[Phase.ESTIMATION].add(0, 500, np.array([0, 0, 500, 0]))
    holed[Phase.ESTIMATION].add(501, 500, np.array([0, 0, 500, 0]))
    assert rule.decide(LABEL, SIGMA, holed) is None
    holed[Phase.ESTIMATION].add(500, 1, np.array([0, 0, 1, 0]))
    assert rule.decide(LABEL, SIGMA, holed) is None  # 1,001 samples: N is exact
    complete = tallies(selection=whole_selection, estimation=whole_estimation, prediction=[3, 0, 0, 0])
    assert rule.decide(LABEL, SIGMA, complete) is not None


def test_predict() -> None:
    rule = PredictRule(PredictProtocol(num_samples=100, alpha=0.001))
    assert rule.wanted(LABEL, tallies()) == {Phase.PREDICTION: 100}
    assert rule.largest_demand() == 100
    assert rule.decide(LABEL, SIGMA, tallies(prediction=[0, 0, 99, 0])) is None
    assert rule.decide(LABEL, SIGMA, tallies(selection=[0, 0, 100, 0])) is None
    row = rule.decide(LABEL, SIGMA, tallies(prediction=[30, 1, 69, 0]))
    assert row is not None
    # Two-sided binomial test of 69 against 30 of 99.
    p_value = 2 * sum(math.comb(99, k) for k in range(69, 100)) / 2**99
    assert p_value < 0.001
    assert (row.predicted, row.n_A, row.n_B, row.n, row.correct) == (2, 69, 30, 100, True)
    assert row.stop_reason == "complete"
    unsure = rule.decide(LABEL, SIGMA, tallies(prediction=[45, 0, 55, 0]))
    assert unsure is not None
    assert (unsure.predicted, unsure.n_A, unsure.n_B, unsure.correct) == (ABSTAIN, 55, 45, False)
    wrong = rule.decide(LABEL, SIGMA, tallies(prediction=[0, 100, 0, 0]))
    assert wrong is not None
    assert (wrong.predicted, wrong.n_A, wrong.n_B, wrong.correct) == (1, 100, 0, False)

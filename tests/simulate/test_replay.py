"""Replays against closed forms, and against the rules fed one image at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from log_files import images_with
from scipy.stats import binom, norm

from raycp.certify.rules import CertificateRow
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol
from raycp.errors import ConfigError
from raycp.logs.published_log import read_log
from raycp.sampling.blocks import Phase
from raycp.simulate.images import LogConditions, images_of_log
from raycp.simulate.reference import divergence, reference_samples
from raycp.simulate.replay import FixedReplay, drawn_votes, replay
from raycp.simulate.rules import replayed_rule
from raycp.simulate.simulation import FIXED_SKIPPING, REFERENCE, simulate
from raycp.statistics import certified_radius, clopper_pearson_lower

N = 2_000
P_A = (0.3, 0.45, 0.5, 0.55, 0.7, 0.85, 0.95, 0.99, 1.0, 0.0)


def protocol(rule: str = "fixed", **values: object) -> CertifyProtocol:
    raw = {
        "sigmas": (0.5,),
        "num_estimation": N,
        "num_selection": 50,
        "rule": rule,
        "radii": (0.0, 0.25, 0.5, 0.75),
    }
    return CertifyProtocol.model_validate(raw | values)


def test_votes_are_sums_of_binomial_draws() -> None:
    looks = np.array([10, 25, 100])
    votes = drawn_votes(np.full(20_000, 0.3), looks, np.random.default_rng(0))
    steps = np.diff(votes, axis=1, prepend=0)
    assert (steps >= 0).all() and (steps <= np.diff(looks, prepend=0)).all()
    # 5 standard errors: a false alarm about once in a million
    assert votes.mean(axis=0) == pytest.approx(0.3 * looks, abs=5 * math.sqrt(100 * 0.21 / 20_000))
    assert abs(np.corrcoef(steps[:, 0], steps[:, 2])[0, 1]) < 5 / math.sqrt(20_000)
    assert votes[:, 2].var() == pytest.approx(100 * 0.21, rel=5 * math.sqrt(2 / 20_000))


def test_fixed_n_is_certify() -> None:
    fixed = FixedReplay(protocol(), 0.5, 0.0)
    for votes in (0, 900, 1_100, 1_990, N):
        n, radius = fixed(np.array([votes]))
        assert (n, radius) == (N, certified_radius(0.5, clopper_pearson_lower(votes, N, 0.001)))
    assert fixed(np.array([900]))[1] == -np.inf
    assert FixedReplay(protocol(), 0.5, 0.01)(np.array([1_990]))[1] < fixed(np.array([1_990]))[1]


@pytest.mark.parametrize("rule", ["decide", "anytime", "e_process"])
def test_every_image_is_what_the_rule_says_of_its_tallies(rule: str) -> None:
    """The replay equals the rule's own `decide`, called as a run calls it, one look after the other."""
    images = images_with(P_A * 6)
    replayed = replay(images, {rule: protocol(rule)}, {0.5: 0.0}, replays=2, seed=7)[rule]
    real, looks = replayed_rule(protocol(rule), {0.5: 0.0})
    ends = set()
    for r in range(2):
        votes = drawn_votes(images.p_A_M, np.array(looks), np.random.default_rng([7, r]))
        for m in range(len(images)):
            tallies = {phase: Tally(2, real.cuts[phase]) for phase in (Phase.SELECTION, Phase.ESTIMATION)}
            tallies[Phase.SELECTION].add(0, 50, np.array([50, 0]))
            row, before, drawn = None, 0, 0
            for look, count in zip(looks, votes[m].tolist(), strict=True):
                tallies[Phase.ESTIMATION].add(
                    before, look - before, np.array([count - drawn, look - before - count + drawn])
                )
                before, drawn = look, count
                row = real.decide(0, 0.5, tallies)
                if row is not None:
                    break
            assert isinstance(row, CertificateRow)
            assert replayed.samples_RM[r, m] == row.n + 50
            assert replayed.radius_RM[r, m] == (row.radius if row.predicted == 0 else -np.inf)
            ends.add(row.n)
    assert len(ends) > 5  # it stopped at several looks


def test_all_rules_see_the_same_samples_and_the_seed_decides() -> None:
    images = images_with(P_A)
    protocols = {"fixed": protocol(), "decide": protocol("decide"), "again": protocol("decide")}
    first = replay(images, protocols, {0.5: 0.0}, 3, seed=1)
    assert np.array_equal(first["decide"].samples_RM, first["again"].samples_RM)
    assert np.array_equal(first["decide"].radius_RM, first["again"].radius_RM)
    same = replay(images, protocols, {0.5: 0.0}, 3, seed=1)
    assert np.array_equal(first["fixed"].radius_RM, same["fixed"].radius_RM)
    other = replay(images, protocols, {0.5: 0.0}, 3, seed=2)
    assert not np.array_equal(first["fixed"].radius_RM, other["fixed"].radius_RM)
    assert not np.array_equal(first["fixed"].radius_RM[0], first["fixed"].radius_RM[1])


def test_fixed_accuracy_is_the_binomial_tail() -> None:
    """One p_A a little above what eps = .25 needs: the share of certified replays has a closed form."""
    p_A, replays = 0.72, 4_000
    simulation = simulate(images_with([p_A, p_A], wrong=[1]), protocol(), ["decide"], replays, seed=3)
    least = next(k for k in range(N) if clopper_pearson_lower(k, N, 0.001) >= norm.cdf(0.5))
    expected = binom.sf(least - 1, N, p_A) / 2  # the other image is wrong and never counts
    (found,) = [a for a in simulation.accuracies if a.rule == "fixed" and a.eps == 0.25]
    assert 0.1 < expected < 0.4
    assert found.accuracy.error is not None
    # 5 standard errors: a false alarm about once in a million
    assert abs(found.accuracy.mean - expected) < 5 * math.sqrt(expected * (1 - 2 * expected) / 2 / replays)
    assert found.gap.mean == 0.0


def test_figures_by_hand() -> None:
    simulation = simulate(images_with([1.0, 0.0, 1.0], wrong=[2]), protocol(), ["decide"], 2, seed=0)
    costs = {cost.rule: cost for cost in simulation.costs}
    assert costs["fixed"].mean.mean == N + 50
    assert (costs["fixed"].fewer, costs["fixed"].mean.error) == (1.0, 0.0)
    samples = simulation.outcomes["decide"].samples_RM
    assert np.array_equal(samples[0], samples[1])  # p_A of 0 and 1 leave nothing to chance
    assert costs["decide"].mean.mean == samples[0].mean()
    assert costs["decide"].median == np.median(samples[0])
    assert costs["decide"].fewer == (N + 50) / samples[0].mean()
    reference = math.log(1000) / math.log(1 / norm.cdf(1.5))
    assert simulation.reference_M == pytest.approx([reference, 0.0, reference])
    assert costs[REFERENCE].mean.mean == pytest.approx(2 / 3 * reference)
    assert costs["decide"].times_reference == pytest.approx(samples[0].mean() / (2 / 3 * reference))
    assert [a.accuracy.mean for a in simulation.accuracies] == pytest.approx([1 / 3] * 8)
    assert [a.gap.mean for a in simulation.accuracies] == [0.0] * 8


def test_skip_wrong_costs_the_selection_alone() -> None:
    images = images_with([1.0, 0.9, 0.6, 0.7], wrong=[1, 3])
    plain = simulate(images, protocol(), ["decide"], 3, seed=0)
    skipping = simulate(images, protocol(skip_wrong=True), ["decide"], 3, seed=0)
    samples = skipping.outcomes["decide"].samples_RM
    assert (samples[:, [1, 3]] == 50).all()
    assert np.array_equal(samples[:, [0, 2]], plain.outcomes["decide"].samples_RM[:, [0, 2]])
    assert skipping.outcomes[FIXED_SKIPPING].samples_RM.tolist() == [[N + 50, 50, N + 50, 50]] * 3
    assert (skipping.outcomes["fixed"].samples_RM == N + 50).all()
    assert [a.accuracy for a in skipping.accuracies] == [a.accuracy for a in plain.accuracies]
    assert skipping.reference_M[[1, 3]].tolist() == [50, 50]
    assert any(
        "2 images whose selected class is not the label cost N0 = 50 alone" in n for n in skipping.notes()
    )


def test_the_gap_is_fixed_less_rule() -> None:
    """An image just above a radius, which a rule with worse power must lose more often."""
    rule = protocol(sequential={"last_share": 0.01, "exchange": 0.05})
    simulation = simulate(images_with([0.715]), rule, ["decide"], 400, seed=5)
    fixed, decide = ([a for a in simulation.accuracies if a.rule == name][1] for name in ("fixed", "decide"))
    assert decide.gap.mean == pytest.approx(fixed.accuracy.mean - decide.accuracy.mean)
    assert decide.gap.error is not None and decide.gap.mean > 3 * decide.gap.error > 0


def test_one_replay_has_no_standard_error() -> None:
    simulation = simulate(images_with([0.9]), protocol(), ["decide"], 1, seed=0)
    assert all(cost.mean.error is None for cost in simulation.costs)
    assert all(a.gap.error is None for a in simulation.accuracies)


def test_the_reference() -> None:
    assert divergence(0.5, 0.5) == 0.0
    assert divergence(1.0, 0.5) == pytest.approx(math.log(2))
    assert divergence(0.9, 0.5) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    assert divergence(0.3, 0.0) == math.inf
    # .77 certifies eps .25 (p_eps = .691), .503 nothing with 2,000 samples, .53 costs more than N against 1/2
    images = images_with([0.77, 0.503, 0.54])
    found = reference_samples(images, protocol(), 0.0, (0.0, 0.25, 0.5))
    assert found[0] == pytest.approx(math.log(1000) / divergence(0.77, norm.cdf(0.5)))
    assert found[1] == 0.0
    assert found[2] == N


def test_a_bound_that_cannot_be_replayed() -> None:
    with pytest.raises(ConfigError, match="two_class cannot be replayed"):
        simulate(images_with([0.9]), protocol(bound="two_class"), ["decide"], 1, seed=0)


@pytest.mark.parametrize(("sigma", "least"), [(0.25, 12.5), (0.5, 19.5), (1.0, 17.0)])
def test_decide_on_a_published_log(shared_data: Path, sigma: float, least: float) -> None:
    """2,000 of its images, 3 replays; the whole log and 20 replays are the command's own."""
    path = shared_data / "published-logs" / f"consistency-resnet110-sigma{sigma:.2f}.tsv"
    images = images_of_log(read_log(path), sigma, LogConditions()).spread(2_000)
    simulation = simulate(images, CertifyProtocol(sigmas=(sigma,)), ["decide"], 3, seed=0)
    (cost,) = [cost for cost in simulation.costs if cost.rule == "decide"]
    assert cost.fewer > least
    assert max(abs(a.gap.mean) for a in simulation.accuracies) < 0.003

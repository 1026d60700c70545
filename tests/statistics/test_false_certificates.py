"""Simulated false certificates: the rules make no more than alpha, and the harness catches three classical mistakes.

Every experiment has a fixed seed and at least 100,000 images, all of them at the worst probability. `excess` says by
how many standard deviations the false certificates exceed what alpha allows; a sound procedure passes 5 with a chance
below 1e-6, so all checks of this file together raise a false alarm with odds below 1 in 50,000.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from exact_walk import (
    RADII,
    SIGMA,
    crossing_by_look,
    excess,
    false_boundary,
    protocol_of,
    table_of,
    true_thresholds,
    votes_at_looks,
)

from raycp.certify.boundaries import looks_of
from raycp.certify.sequential import AnytimeRule, DecideRule, EProcessRule
from raycp.certify.tally import Tally
from raycp.statistics import ABSTAIN, certify, clopper_pearson_lower
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import geometric_looks

ALPHA, N, RUNS = 0.01, 1_000, 100_000
LIMIT = 5.0
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def crosses(votes_RJ: Ints, boundary_J: npt.ArrayLike) -> Bools:
    """Which runs are at or above the boundary at any look."""
    crossed: Bools = np.logical_or.reduce(votes_RJ >= np.asarray(boundary_J), axis=1)
    return crossed


def least_votes(n: int, p: float, alpha: float = ALPHA) -> int:
    """The fewest of n votes whose Clopper-Pearson bound exceeds p."""
    return next((k for k in range(int(n * p), n + 1) if clopper_pearson_lower(k, n, alpha) > p), n + 1)


@pytest.mark.parametrize("rule_name", ["decide", "anytime"])
@pytest.mark.parametrize("radius", [0.0, 0.5])
def test_tables_make_no_more_false_certificates_than_alpha(rule_name: str, radius: float) -> None:
    """The true radius is just below `radius`: whoever stops whenever, at most alpha; the rule itself, no more."""
    protocol, table = protocol_of(rule_name, N, ALPHA), table_of(rule_name, N, ALPHA)
    looks, p = table.looks_J.tolist(), float(true_thresholds(np.array([radius]), SIGMA, 0.0)[0])
    votes = votes_at_looks(np.random.default_rng(11), p, looks, RUNS)
    boundary = false_boundary(table, p, 0.0)
    crossed = crosses(votes, boundary)
    assert excess(crossed, ALPHA) < LIMIT
    exact = crossing_by_look(p, looks, boundary)[-1]
    assert exact > 0.85 * ALPHA
    assert abs(excess(crossed, exact)) < LIMIT  # the harness measures what the recursion says

    made = (DecideRule if rule_name == "decide" else AnytimeRule)(protocol, {SIGMA: table}, RADII)
    sample = np.union1d(np.flatnonzero(crossed), np.arange(2_000))  # no other run can certify anything false
    false = np.zeros(RUNS, dtype=bool)
    for run in sample:
        found = made.stop(SIGMA, votes[run])
        assert found is not None
        row = made.row(0, SIGMA, 0, votes[run, : found[0] + 1], found[1])
        false[run] = row.predicted != ABSTAIN and row.radius >= radius
    assert not false[~crossed].any()
    assert false.any()
    assert excess(false, ALPHA) < LIMIT


def test_e_process_makes_no_more_false_certificates_than_alpha() -> None:
    """Looks without end are looks at some of its times: stopping anywhere among them stays within alpha."""
    protocol = protocol_of("e_process", N, ALPHA)
    looks = looks_of(protocol)
    (p,) = true_thresholds(np.array([0.5]), SIGMA, 0.0)
    votes = votes_at_looks(np.random.default_rng(12), p, looks, RUNS)
    boundary = [
        next((h for h in range(int(n * p), n + 1) if e_process_lower(h, n, ALPHA) >= p), n + 1) for n in looks
    ]
    crossed = crosses(votes, boundary)
    assert excess(crossed, ALPHA) < LIMIT
    made = EProcessRule(protocol, {SIGMA: 0.0}, RADII, looks)
    for run in np.union1d(np.flatnonzero(crossed)[:500], np.arange(500)):
        row = made.row(0, SIGMA, 0, votes[run], "undecided")
        assert (row.predicted != ABSTAIN and row.radius >= 0.5) == crossed[run]


def test_fixed_n_passes_the_harness() -> None:
    """The harness does not cry wolf: the plain bound at N, at the same worst probability."""
    (p,) = true_thresholds(np.array([0.5]), SIGMA, 0.0)
    votes = votes_at_looks(np.random.default_rng(13), p, [N], RUNS)[:, 0]
    false = votes >= least_votes(N, p)
    assert false.mean() > 0.7 * ALPHA
    assert excess(false, ALPHA) < LIMIT


@pytest.mark.parametrize(("looks", "times"), [((50, 200, 1_000), 1.5), (geometric_looks(1_000, 20), 3.0)])
def test_the_harness_catches_peeking(looks: tuple[int, ...], times: float) -> None:
    """Mistake 1: a Clopper-Pearson bound at the full alpha at every look, kept as soon as it certifies."""
    (p,) = true_thresholds(np.array([0.5]), SIGMA, 0.0)
    votes = votes_at_looks(np.random.default_rng(14), p, looks, RUNS)
    false = crosses(votes, [least_votes(n, p) for n in looks])
    assert excess(false, ALPHA) > 2 * LIMIT
    assert false.mean() > times * ALPHA


def certified(selection_2: Ints, estimation_2: Ints) -> bool:
    """Whether `certify` claims anything: with two equally likely classes every claim is false."""
    return certify(selection_2, estimation_2, SIGMA, ALPHA).predicted != ABSTAIN


def two_equal_classes(seed: int, num_selection: int, num_estimation: int) -> tuple[Bools, Bools]:
    """False certificates with fresh estimation samples, and with the selection samples counted in once more."""
    rng = np.random.default_rng(seed)
    selection = rng.binomial(num_selection, 0.5, size=RUNS)
    estimation = rng.binomial(num_estimation, 0.5, size=RUNS)
    answers: dict[tuple[bool, int, int], bool] = {}
    results = np.zeros((2, RUNS), dtype=bool)
    for run, (first, second) in enumerate(zip(selection.tolist(), estimation.tolist(), strict=True)):
        selected = first * 2 >= num_selection  # ties go to class 0
        for row, (votes, n) in enumerate([
            (second, num_estimation), (first + second, num_selection + num_estimation),
        ]):  # fmt: skip
            key = (selected, votes, n)
            if key not in answers:
                chosen = np.array([1, 0] if selected else [0, 1])
                answers[key] = certified(chosen, np.array([votes, n - votes]))
            results[row, run] = answers[key]
    return results[0], results[1]


def test_the_harness_catches_reused_selection_samples() -> None:
    """Mistake 2: the samples that chose between two equal classes also bound its probability: up to 2 alpha."""
    fresh, reused = two_equal_classes(15, 400, 200)
    assert excess(fresh, ALPHA) < LIMIT
    assert excess(reused, ALPHA) > 2 * LIMIT
    assert reused.mean() > 1.5 * ALPHA


def test_the_harness_catches_a_block_counted_twice() -> None:
    """Mistake 3: a retried block of 300 samples is added again on arrival. The tally of the package refuses it."""
    rng = np.random.default_rng(16)
    (p,) = true_thresholds(np.array([0.5]), SIGMA, 0.0)
    rest, block = rng.binomial(N - 300, p, size=RUNS), rng.binomial(300, p, size=RUNS)
    once = rest + block >= least_votes(N, p)
    twice = rest + 2 * block >= least_votes(N + 300, p)
    assert excess(once, ALPHA) < LIMIT
    assert excess(twice, ALPHA) > 2 * LIMIT
    assert twice.mean() > 1.5 * ALPHA

    tally = Tally(2)
    votes = int(block[0])
    assert tally.add(700, 300, np.array([votes, 300 - votes]))
    assert not tally.add(700, 300, np.array([votes, 300 - votes]))
    assert tally.add(0, 700, np.array([rest[0], 700 - rest[0]]))
    assert (tally.num_samples, int(tally.counts_K[0])) == (N, rest[0] + votes)

"""Boundaries, looks and thresholds: what follows from the definitions, and agreement with other libraries."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from exact_walk import RADII, SIGMA, table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from statsmodels.stats.proportion import proportion_confint

from raycp.statistics import certify
from raycp.statistics.sequential import (
    NEGLIGIBLE,
    binomial_pmf,
    crossing_probability,
    efficacy_boundary,
    exchange_rate,
    geometric_looks,
    nested,
    spending,
    thresholds,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20_000), st.floats(0.01, 0.999), st.sampled_from([1e-4, 1e-3, 0.05, 0.3]))
def test_one_look_is_clopper_pearson(n: int, p0: float, alpha: float) -> None:
    """u_1 is the first count whose lower bound, in statsmodels, reaches p0."""
    (u,) = efficacy_boundary(p0, [n], [alpha])
    lower = [proportion_confint(k, n, alpha=2 * alpha, method="beta")[0] if k else 0.0 for k in (u - 1, u)]
    assert lower[0] < p0 + 1e-8
    if u <= n:
        assert lower[1] >= p0 - 1e-12
    else:
        assert p0**n > alpha * (1 - 1e-7)


@pytest.mark.parametrize("alpha", [0.05, 1e-3])
@pytest.mark.parametrize("slack", [0.0, 1e-3])
def test_a_table_of_one_look_certifies_what_fixed_n_certifies(alpha: float, slack: float) -> None:
    """For every count of 1,000: the same abstentions, and the fixed-N radius rounded down to the grid."""
    table = table_of("decide", 1_000, alpha, slack, looks=(1_000,))
    for votes in range(1_001):
        counts = np.array([votes, 1_000 - votes])
        fixed = certify(np.array([1, 0]), counts, SIGMA, alpha, slack=slack)
        on_grid = table.radii_G <= fixed.radius if fixed.predicted == 0 else np.zeros(1)
        assert table.certified(np.array([votes])) == int(on_grid.sum()), votes


@pytest.mark.parametrize("rule", ["decide", "anytime"])
def test_boundaries_are_nested(rule: str) -> None:
    """A count that certifies a radius certifies every smaller one, and more votes are never worse."""
    table = table_of(rule, 10_000, 1e-3)
    assert (np.diff(table.efficacy_GJ, axis=0) >= 0).all()
    assert (np.diff(table.efficacy_GJ, axis=1) >= 0).all()
    assert (np.diff(table.radii_G) > 0).all()
    # The nesting costs next to nothing: no threshold is pushed up by more than one vote.
    raw = efficacy_boundary(
        float(thresholds(SIGMA, [0.5])[0]), table.looks_J.tolist(),
        spending(len(table.looks_J), 1e-3, 0.3 if rule == "decide" else 0.5),
    )  # fmt: skip
    (row,) = table.efficacy_GJ[table.radii_G == 0.5]
    assert ((row == raw) | (row == raw + 1)).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=6))
def test_nested_is_the_smallest_nested_boundary_above(rows: list[list[int]]) -> None:
    boundary = np.array(rows)
    result = nested(boundary)
    for g in range(len(rows)):
        assert result[g].tolist() == boundary[: g + 1].max(axis=0).tolist()


@pytest.mark.parametrize("p0", [0.5, 0.84, 0.99])
def test_more_alpha_certifies_sooner(p0: float) -> None:
    """At the first look for sure; later an earlier crossing may take with it one vote of the budget, not more."""
    looks = geometric_looks(2_000, 30)
    alphas = np.geomspace(1e-4, 0.1, 20)
    boundaries = np.array([efficacy_boundary(p0, looks, spending(len(looks), a, 0.3)) for a in alphas])
    steps = np.diff(boundaries, axis=0)
    assert (steps[:, 0] <= 0).all()
    assert (steps <= 1).all()
    assert (boundaries[-1] <= boundaries[0]).all()
    assert boundaries[-1, -1] < boundaries[0, -1]
    single = np.array([efficacy_boundary(p0, [500], [a])[0] for a in alphas])
    assert (np.diff(single) <= 0).all()
    assert single[-1] < single[0]


@pytest.mark.parametrize("num_samples", [1_000, 100_000])
def test_futility_stays_below_efficacy_and_the_last_look_decides_all(num_samples: int) -> None:
    table = table_of("decide", num_samples, 1e-3)
    efficacy_RJ = table.efficacy_GJ[table.decided_R]
    assert (table.futility_RJ[:, :-1] < efficacy_RJ[:, :-1]).all()
    assert (table.futility_RJ[:, -1] == num_samples).all()
    assert (np.diff(table.futility_RJ, axis=0) >= 0).all()
    assert (table.futility_RJ[:, :-1] > 0.4 * table.looks_J[:-1]).any()  # it does give up


def test_futility_is_not_binding() -> None:
    """The exchange rate moves the futility boundary and not one efficacy value."""
    tables = [table_of("decide", 10_000, 1e-3, exchange=exchange) for exchange in (0.05, 1.0, 50.0)]
    for table in tables[1:]:
        assert (table.efficacy_GJ == tables[0].efficacy_GJ).all()
        assert (table.radii_G == tables[0].radii_G).all()
    eager, usual, patient = (table.futility_RJ[:, :-1] for table in tables)
    assert (eager >= usual).all() and (usual >= patient).all()
    assert (eager > usual).any() and (usual > patient).any()


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 200_000), st.integers(1, 5_000), st.floats(1.01, 10.0))
def test_geometric_looks(num_samples: int, first: int, growth: float) -> None:
    looks = geometric_looks(num_samples, first, growth)
    assert looks[0] == min(first, num_samples)
    assert looks[-1] == num_samples
    assert all(a < b for a, b in pairwise(looks))
    for before, look in pairwise(looks[:-1]):
        assert look == max(math.ceil(before * growth), before + 1)
    if len(looks) > 1:
        step = max(math.ceil(looks[-2] * growth), looks[-2] + 1)
        assert num_samples <= step * growth ** (1 / 3) * (1 + 1e-12)  # a third of a step longer at most


def test_default_looks() -> None:
    looks = geometric_looks(100_000)
    assert (looks[:4], looks[-1], len(looks)) == ((100, 115, 133, 153), 100_000, 50)
    assert geometric_looks(100) == (100,)
    assert geometric_looks(40) == (40,)


def test_spending() -> None:
    assert spending(4, 0.1, 0.3) == pytest.approx([0.0175, 0.035, 0.0525, 0.1])
    assert spending(1, 0.1, 0.3).tolist() == [0.1]
    assert spending(3, 0.1, 1.0).tolist() == [0.0, 0.0, 0.1]


@settings(max_examples=100, deadline=None)
@given(st.floats(0.0, 4.0), st.sampled_from([0.12, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 1e-9, 1e-3]))
def test_thresholds_round_up(radius: float, sigma: float, slack: float) -> None:
    """p_A above the threshold implies a radius of at least `radius` in exact arithmetic, slack taken off."""
    (p0,) = thresholds(sigma, [radius], slack)
    with mpmath.workdps(40):
        exact = mpmath.ncdf(mpmath.mpf(radius) / mpmath.mpf(sigma)) + mpmath.mpf(slack)
        assert p0 == 1.0 or mpmath.mpf(float(p0)) >= exact
        assert p0 <= exact * (1 + mpmath.mpf(2) ** -40)


def test_thresholds_never_exceed_one() -> None:
    assert thresholds(1.0, [0.0, 5.0, 50.0], 0.7).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("p0", [0.5, 0.6914624612740131, 0.9772498680518208, 0.9999])
def test_exchange_rate_is_the_width_of_doubt(p0: float) -> None:
    """sqrt(p0 q0) / phi(z0), scaled to `samples` at 1/2."""
    width = math.sqrt(p0 * (1 - p0)) / norm.pdf(norm.ppf(p0))
    assert exchange_rate(p0, 777.0) == pytest.approx(777.0 * width / (0.5 / norm.pdf(0.0)), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 17, 1_000, 13_000, 1_000_000])
@pytest.mark.parametrize("p", [1e-6, 0.01, 0.5, 0.8413447460685429, 0.999, 1 - 1e-7])
def test_binomial_pmf_equals_scipy(n: int, p: float) -> None:
    low, pmf = binomial_pmf(n, p)
    theirs = binom.pmf(np.arange(low, low + len(pmf)), n, p)
    assert pmf == pytest.approx(theirs, rel=1e-9, abs=1e-25)
    assert pmf.sum() == pytest.approx(1.0, abs=1e-14)
    assert binom.cdf(low - 1, n, p) + binom.sf(low + len(pmf) - 1, n, p) <= NEGLIGIBLE


@pytest.mark.parametrize(("n", "p"), [(50, 0.3), (1_000, 0.5), (20_000, 0.999)])
def test_binomial_pmf_in_many_digits(n: int, p: float) -> None:
    low, pmf = binomial_pmf(n, p)
    with mpmath.workdps(50):
        for k in np.unique(np.linspace(0, len(pmf) - 1, 25).astype(int)).tolist():
            exact = (
                mpmath.binomial(n, low + k)
                * mpmath.mpf(p) ** (low + k)
                * (1 - mpmath.mpf(p)) ** (n - low - k)
            )
            assert pmf[k] == pytest.approx(float(exact), rel=1e-11)


def test_radii_that_a_table_is_asked_for_are_not_rounded_to_its_step() -> None:
    table = table_of("decide", 1_000, 1e-3, step=0.3)
    assert table.radii_G[table.decided_R].tolist() == list(RADII)
    (row,) = table.efficacy_GJ[table.radii_G == 0.25]
    looks = table.looks_J.tolist()
    at_threshold = crossing_probability(float(norm.cdf(0.25 / SIGMA)), looks, row)[-1]
    assert 0.8e-3 <= at_threshold <= 1e-3

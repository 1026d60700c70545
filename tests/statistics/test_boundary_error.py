"""The error of whole boundary tables, summed exactly: no simulation, and no code of the package in the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from exact_walk import (
    RADII,
    SIGMA,
    crossing_by_look,
    false_boundary,
    table_of,
    true_thresholds,
)

from raycp.statistics.sequential import (
    crossing_probability,
    efficacy_boundary,
    geometric_looks,
    spending,
)

# rule, N, alpha, slack, options, thresholds that are tried
CASES = [
    ("decide", 1_000, 0.05, 0.0, {}, 120),
    ("decide", 1_000, 1e-3, 1e-3, {}, 120),
    ("anytime", 1_000, 1e-3, 0.0, {}, 120),
    ("anytime", 1_000, 1e-4, 1e-3, {"growth": 1.05, "first_look": 20}, 120),
    ("decide", 10_000, 1e-3, 0.0, {}, 50),
    ("decide", 10_000, 1e-3, 1e-3, {"looks": (100, 1_000, 10_000)}, 50),
    ("anytime", 10_000, 1e-2, 1e-3, {"last_share": 1.0}, 50),
    ("anytime", 10_000, 1e-3, 0.0, {"looks": (7, 8, 9, 5_000, 10_000), "last_share": 0.01}, 50),
    ("decide", 100_000, 1e-3, 1e-3, {}, 15),
    ("anytime", 100_000, 1e-3, 0.0, {}, 15),
    ("decide", 100_000, 1e-3, 0.0, {"looks": (1_000, 10_000, 100_000)}, 40),
]


@pytest.mark.parametrize(("rule", "num_samples", "alpha", "slack", "options", "tried"), CASES)
def test_a_whole_table_errs_with_probability_at_most_alpha(
    rule: str, num_samples: int, alpha: float, slack: float, options: dict[str, object], tried: int
) -> None:
    """The chance of certifying any radius that is too large, whenever sampling stops; worst at the thresholds."""
    table = table_of(rule, num_samples, alpha, slack, **options)
    looks = table.looks_J.tolist()
    positions = np.unique(np.linspace(0, len(table.radii_G) - 1, tried).astype(int))
    positions = np.union1d(positions, table.decided_R)
    worst = true_thresholds(table.radii_G[positions], SIGMA, slack)
    worst = worst[worst < 1.0]
    errors = [crossing_by_look(p, looks, false_boundary(table, p, slack))[-1] for p in worst]
    assert max(errors) <= alpha
    assert max(errors) >= 0.9 * alpha  # not bought by being conservative
    if num_samples >= 10_000:
        well_below_1 = np.array(errors)[worst < 0.95]
        assert well_below_1.min() >= 0.8 * alpha  # wherever the counts are fine enough to spend alpha
    between = np.concatenate([np.linspace(0.01, 0.9999, 9), np.nextafter(worst[:3], 1.0), worst[:3] - 1e-6])
    for p in between:
        assert crossing_by_look(p, looks, false_boundary(table, p, slack))[-1] <= alpha


@pytest.mark.parametrize("p0", [0.5, 0.8413447460685429, 0.99, 0.9999])
@pytest.mark.parametrize("last_share", [0.3, 0.5])
def test_each_boundary_stays_within_its_spending_and_is_the_smallest(p0: float, last_share: float) -> None:
    """Every u_j keeps the error by look j within s_j, and u_j - 1 would not."""
    looks = geometric_looks(10_000)
    spent = spending(len(looks), 1e-3, last_share)
    boundary = efficacy_boundary(p0, looks, spent)
    crossed = crossing_by_look(p0, looks, boundary)
    assert (crossed <= spent).all()
    for j, u in enumerate(boundary):
        lower = np.append(boundary[:j], u - 1)
        assert crossing_by_look(p0, looks[: j + 1], lower)[-1] > spent[j] - 2e-11


@pytest.mark.parametrize("num_samples", [50, 3_000, 100_000])
@pytest.mark.parametrize("p", [1e-4, 0.3, 0.5, 0.84, 0.999])
def test_crossing_probability_equals_the_independent_recursion(num_samples: int, p: float) -> None:
    looks = geometric_looks(num_samples, 20, 1.3)
    for p0 in (min(p * 1.05, 0.9995), p, p * 0.95):
        boundary = efficacy_boundary(p0, looks, spending(len(looks), 0.05, 0.3))
        ours = crossing_probability(p, looks, boundary)
        assert ours == pytest.approx(crossing_by_look(p, looks, boundary), abs=1e-12)


def test_long_steps_go_through_the_fft_and_stay_exact() -> None:
    """Two looks, the second a million samples on: the convolution is large enough for the FFT."""
    looks, p = (400_000, 1_000_000), 0.5
    boundary = efficacy_boundary(p, looks, [5e-4, 1e-3])
    exact = crossing_by_look(p, looks, boundary)
    assert crossing_probability(p, looks, boundary) == pytest.approx(exact, abs=1e-12)
    assert 0.98 * 1e-3 <= exact[-1] <= 1e-3


def test_the_error_never_rises_as_the_true_probability_falls() -> None:
    """A crossing is no likelier for a smaller p: the step from one p0 to all p_A <= p0."""
    looks = geometric_looks(3_000)
    boundary = efficacy_boundary(0.8, looks, spending(len(looks), 1e-2, 0.3))
    errors = np.array([crossing_by_look(p, looks, boundary) for p in np.linspace(0.6, 0.85, 26)])
    assert (np.diff(errors, axis=0) >= -1e-15).all()


def test_certain_outcomes() -> None:
    assert crossing_probability(1.0, (3, 5), (4, 5)).tolist() == [0.0, 1.0]
    assert crossing_probability(1.0, (3, 5), (3, 6)).tolist() == [1.0, 1.0]
    assert crossing_probability(0.0, (3, 5), (1, 1)).tolist() == [0.0, 0.0]
    assert crossing_probability(0.0, (3, 5), (1, 0)).tolist() == [0.0, 1.0]
    assert efficacy_boundary(1.0, (3, 5), (0.1, 0.2)).tolist() == [4, 6]
    assert efficacy_boundary(0.0, (3, 5), (0.1, 0.2)).tolist() == [1, 1]


def test_the_table_holds_all_its_radii() -> None:
    """A radius is left out only if no votes at all certify it."""
    table = table_of("decide", 1_000, 1e-3)
    assert set(RADII) <= set(table.radii_G.tolist())
    beyond = true_thresholds(table.radii_G[-1] + 0.02 * SIGMA, SIGMA, 0.0)
    assert beyond**1_000 > 1e-3

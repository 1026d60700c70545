"""What a boundary table contains, and at which sample sizes a run looks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from raycp.certify.boundaries import boundary_tables, looks_of
from raycp.config import CertifyProtocol
from raycp.errors import ConfigError
from raycp.statistics.sequential import crossing_probability, efficacy_boundary, geometric_looks, spending

RADII = [0.0, 0.25, 0.5, 0.75, 1.0]


def protocol(sequential: dict[str, Any] | None = None, **options: Any) -> CertifyProtocol:
    return CertifyProtocol.model_validate(
        {"rule": "decide", "sigmas": (0.25, 0.5), "num_estimation": 1_000, "sequential": sequential or {}}
        | options
    )


def test_contents() -> None:
    made = protocol()
    tables = boundary_tables(made, {0.25: 0.0, 0.5: 0.0}, RADII)
    looks = looks_of(made)
    spent = spending(len(looks), 1e-3, 0.3)
    assert set(tables) == {0.25, 0.5}
    for sigma, table in tables.items():
        assert table.sigma == sigma
        assert table.looks_J.tolist() == list(looks)
        assert table.efficacy_GJ.shape == (len(table.radii_G), len(looks))
        assert table.futility_RJ.shape == (len(table.decided_R), len(looks))
        assert table.radii_G[0] == 0.0
        assert np.diff(table.radii_G).min() > 0
        steps = np.arange(len(table.radii_G)) * 0.01 * sigma  # no gap is wider than the step
        assert np.diff(table.radii_G).max() <= 0.01 * sigma * (1 + 1e-9)
        assert len(np.intersect1d(np.round(table.radii_G, 9), np.round(steps, 9))) > 200
        for radius in (0.0, 0.25, 0.5):
            (row,) = table.efficacy_GJ[table.radii_G == radius]
            exact = efficacy_boundary(float(norm.cdf(radius / sigma)), looks, spent)
            assert (row >= exact).all()
            assert (row - exact).max() <= 1
        assert (table.last_efficacy_G == table.efficacy_GJ[:, -1]).all()


def test_the_table_reaches_as_far_as_any_votes_do() -> None:
    """All votes for the class: the radius that a fixed N of 1,000 could certify, down to the grid."""
    table = boundary_tables(protocol(), {0.25: 0.0, 0.5: 0.0}, RADII)[0.5]
    largest = 0.5 * norm.ppf(0.001 ** (1 / 1_000))
    assert largest - 0.015 * 0.5 < table.radii_G[-1] <= largest
    assert table.certified(table.looks_J) == len(table.radii_G)


def test_radii_out_of_reach_of_one_sigma_are_left_out_there() -> None:
    tables = boundary_tables(protocol(), {0.25: 0.0, 0.5: 0.0}, RADII)
    assert tables[0.25].radii_G[tables[0.25].decided_R].tolist() == [0.0, 0.25, 0.5]  # 0.616 at most
    assert tables[0.5].radii_G[tables[0.5].decided_R].tolist() == RADII


def test_the_rule_sets_the_share_of_the_last_look() -> None:
    """At the one threshold 1/2, the error by the last look but one is what the share leaves."""
    for rule, share in (("decide", 0.3), ("anytime", 0.5)):
        table = boundary_tables(protocol(rule=rule, num_estimation=10_000, sigmas=(0.5,)), {0.5: 0.0}, RADII)[
            0.5
        ]
        errors = crossing_probability(0.5, table.looks_J.tolist(), table.efficacy_GJ[0])
        assert 0.9 * (1 - share) * 1e-3 < errors[-2] <= (1 - share) * 1e-3
        assert 0.9e-3 < errors[-1] <= 1e-3


def test_slack_moves_each_sigma_by_its_own() -> None:
    """The grid, shared by the sigmas, takes the worst slack; the table's own radii take that of their sigma."""
    slack = {0.25: 0.0, 0.5: 0.02}
    plain = boundary_tables(protocol(), {0.25: 0.0, 0.5: 0.0}, [0.0, 0.33])
    moved = boundary_tables(protocol(), slack, [0.0, 0.33])
    looks = looks_of(protocol())
    spent = spending(len(looks), 1e-3, 0.3)
    (row,) = moved[0.5].efficacy_GJ[moved[0.5].radii_G == 0.33]
    exact = efficacy_boundary(float(norm.cdf(0.33 / 0.5)) + 0.02, looks, spent)
    assert (row >= exact).all() and (row - exact).max() <= 1
    (cheap,) = moved[0.25].efficacy_GJ[moved[0.25].radii_G == 0.33]
    (before,) = plain[0.25].efficacy_GJ[plain[0.25].radii_G == 0.33]
    assert (cheap >= before).all()
    assert moved[0.25].efficacy_GJ[0, -1] > plain[0.25].efficacy_GJ[0, -1]


def test_certified_keeps_what_an_earlier_look_certified() -> None:
    """Votes that were enough at one look stay enough, however the next samples fall."""
    table = boundary_tables(protocol(sigmas=(0.5,)), {0.5: 0.0}, RADII)[0.5]
    votes = table.looks_J.copy()
    alone = table.certified(votes[:1])
    assert 0 < alone < len(table.radii_G)
    votes[1:] = votes[0]
    assert [table.certified(votes[: j + 1]) for j in range(len(votes))] == [alone] * len(votes)
    assert table.certified(table.efficacy_GJ[5][:3]) >= 6
    assert table.certified(table.efficacy_GJ[0][:3] - 1) == 0


@pytest.mark.parametrize("looks", [[100, 100, 1_000], [500, 200, 1_000], [100, 900], [100, 1_001], [2_000]])
def test_explicit_looks_must_increase_up_to_n(looks: list[int]) -> None:
    with pytest.raises(ConfigError) as caught:
        looks_of(protocol({"looks": looks}))
    assert str(caught.value) == (
        f"certify.sequential.looks must increase and end at certify.num_estimation = 1000, got {looks}. "
        "Correct them, or leave them out and set first_look and growth."
    )


def test_looks() -> None:
    assert looks_of(protocol({"looks": [1, 2, 1_000]})) == (1, 2, 1_000)
    assert looks_of(protocol({"first_look": 50, "growth": 2.0})) == geometric_looks(1_000, 50, 2.0)
    assert looks_of(protocol({"first_look": 5_000})) == (1_000,)
    assert looks_of(protocol(rule="anytime")) == looks_of(protocol())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 5_000), st.integers(1, 50_000), st.integers(1, 50_000), st.integers(1, 500), st.floats(1.05, 5.0)
)  # fmt: skip
def test_an_extended_e_process_keeps_its_looks(
    first: int, more: int, again: int, start: int, growth: float
) -> None:
    """Each extension of N adds looks beyond the old N only: blocks of the shorter runs end at looks of the longer."""
    caps = [first, first + more, first + more + again]
    runs = [
        looks_of(
            protocol({"first_look": start, "growth": growth}, rule="e_process", num_estimation=n), caps[:i]
        )
        for i, n in enumerate(caps)
    ]
    for n, looks in zip(caps, runs, strict=True):
        assert looks[-1] == n
        assert all(a < b for a, b in pairwise(looks))
    for before, after, n in zip(runs[:-1], runs[1:], caps[:-1], strict=True):
        assert [look for look in after if look <= n] == list(before)

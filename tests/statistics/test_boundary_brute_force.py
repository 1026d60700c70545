"""Boundaries of tiny runs, by enumeration in rational arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import betabinom

from raycp.statistics.sequential import (
    crossing_probability,
    efficacy_boundary,
    exchange_rate,
    futility_boundary,
    thresholds,
)

LOOKS = (3, 7, 14)


def count_paths(looks_J: Sequence[int], p: Fraction) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """Every sequence of counts at the looks, with its exact probability."""
    steps = np.diff(looks_J, prepend=0).tolist()
    for gained in product(*(range(step + 1) for step in steps)):
        probability = Fraction(1)
        for k, step in zip(gained, steps, strict=True):
            probability *= comb(step, k) * p**k * (1 - p) ** (step - k)
        yield tuple(np.cumsum(gained).tolist()), probability


def smallest_boundary(p: Fraction, looks_J: Sequence[int], spent_J: Sequence[Fraction]) -> list[int]:
    """The smallest u_1, then the smallest u_2 given u_1, ... with P(H_i >= u_i for some i <= j) <= s_j."""
    paths = list(count_paths(looks_J, p))
    boundary: list[int] = []
    for j, look in enumerate(looks_J):
        for u in range(look + 2):
            tried = [*boundary, u]
            crossed = sum(
                (q for counts, q in paths if any(counts[i] >= tried[i] for i in range(j + 1))), Fraction(0)
            )
            if crossed <= spent_J[j]:
                break
        boundary.append(u)
    return boundary


@pytest.mark.parametrize("p", [0.5, 0.25, 0.7, 0.8413447460685429, 0.03, 0.99])
@pytest.mark.parametrize(
    "spent",
    [(0.01, 0.02, 0.05), (0.0, 0.0, 0.1), (0.05, 0.05, 0.05), (0.13, 0.2, 0.3), (1e-4, 2e-4, 1e-3)],
)
def test_boundary_is_the_smallest_within_the_spending(p: float, spent: tuple[float, ...]) -> None:
    exact = smallest_boundary(Fraction(p), LOOKS, [Fraction(s) for s in spent])
    assert efficacy_boundary(p, LOOKS, spent).tolist() == exact


@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(3, 10)])
def test_crossing_probability_by_all_sequences_of_samples(p: Fraction) -> None:
    """All 2^14 sequences of votes, one by one."""
    boundary = (3, 6, 9)
    sequences = np.array(list(product((0, 1), repeat=14)))
    counts = np.cumsum(sequences, axis=1)[:, [look - 1 for look in LOOKS]]
    crossed = np.logical_or.accumulate(counts >= np.array(boundary), axis=1)
    totals = sequences.sum(axis=1)
    computed = crossing_probability(float(p), LOOKS, boundary)
    for j in range(3):
        of_total = np.bincount(totals[crossed[:, j]], minlength=15).tolist()
        exact = sum((n * p**k * (1 - p) ** (14 - k) for k, n in enumerate(of_total)), Fraction(0))
        assert computed[j] == pytest.approx(float(exact), abs=1e-15)


def value_of_going_on(
    p0: float, looks_J: Sequence[int], boundary_J: Sequence[int], exchange: float
) -> list[list[float]]:
    """V_j(h) for every count h below the boundary: the best of stopping (0) and of buying the next look."""
    value = [[0.0] * (look + 1) for look in looks_J]
    for j in range(len(looks_J) - 2, -1, -1):
        n, step = looks_J[j], looks_J[j + 1] - looks_J[j]
        for h in range(n + 1):
            gained = betabinom.pmf(np.arange(step + 1), step, p0 + h, 1 - p0 + n - h)
            after = [exchange if h + k >= boundary_J[j + 1] else value[j + 1][h + k] for k in range(step + 1)]
            value[j][h] = max(0.0, float(gained @ np.array(after)) - step)
    return value


@pytest.mark.parametrize("looks", [LOOKS, (5, 20, 30, 60), (40, 80)])
@pytest.mark.parametrize("radius", [0.0, 0.84, 1.64])
@pytest.mark.parametrize("samples", [0.3, 1.0, 20.0])
def test_futility_is_the_optimal_stopping_rule(looks: tuple[int, ...], radius: float, samples: float) -> None:
    """With fewer counts than cells the grid is exact: at or below d_j going on is worth nothing, above it is."""
    p0 = float(thresholds(1.0, [radius])[0])
    boundary = efficacy_boundary(p0, looks, np.linspace(0.02, 0.2, len(looks)))
    exchange = exchange_rate(p0, samples * looks[-1])
    futile = futility_boundary(p0, looks, boundary, exchange)
    value = value_of_going_on(p0, looks, boundary.tolist(), exchange)
    assert futile[-1] == looks[-1]
    for j in range(len(looks) - 1):
        for h in range(min(int(boundary[j]), looks[j] + 1)):
            assert (value[j][h] <= 1e-9) == (h <= futile[j]), (j, h)

"""Optimal transport against closed forms, every pairing, and another solver."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from raycp.quality.optimal_transport import optimal_transport
from raycp.quality.terms import transport_terms


def test_a_shifted_set_is_as_far_as_the_shift() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6))
    shift = rng.normal(size=6)
    found = optimal_transport(x, (x + shift)[rng.permutation(100)])
    assert found.distance == pytest.approx(np.linalg.norm(shift), rel=1e-12)


def test_on_a_line_sorted_points_are_paired() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 1)), rng.exponential(size=(200, 1))
    expected = np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)).mean()
    assert optimal_transport(x, y).distance == pytest.approx(expected, rel=1e-12)


def test_against_every_pairing_and_another_solver() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    costs = cdist(x, y)
    best = min(costs[range(6), order].mean() for order in permutations(range(6)))
    assert optimal_transport(x, y).distance == pytest.approx(best, rel=1e-12)
    x, y = rng.normal(size=(150, 3)), rng.normal(size=(150, 3))
    costs = cdist(x, y)
    assert optimal_transport(x, y).distance == pytest.approx(
        costs[linear_sum_assignment(costs)].mean(), rel=1e-12
    )


def test_terms_are_potentials() -> None:
    """Their mean is the distance, and it is never above the mean distance of given pairs."""
    rng = np.random.default_rng(3)
    clean = rng.random((40, 5))
    purified = np.repeat(clean, 2, axis=0) + rng.normal(size=(80, 5))
    terms = transport_terms(clean, purified)
    both = [optimal_transport(clean, purified[draw::2]).distance for draw in range(2)]
    assert terms.mean() == pytest.approx(np.mean(both), rel=1e-12)
    assert terms.mean() < np.linalg.norm(purified - np.repeat(clean, 2, axis=0), axis=1).mean()


def test_purified_images_that_changed_places_are_no_distance_apart() -> None:
    x = np.random.default_rng(4).normal(size=(30, 2))
    assert optimal_transport(x, x[::-1]).distance == pytest.approx(0, abs=1e-12)

"""The Karras grid against its published values and its closed form, and the rule that snaps to it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.maths import karras_grid, nearest_index

# sigma_min 0.002, sigma_max 80, rho 7, N = 18: the grid of the CIFAR-10 consistency models.
CIFAR10_GRID = [
    0.002, 0.0075, 0.0229, 0.0599, 0.1395, 0.2964, 0.5853, 1.0882, 1.9233, 3.2568, 5.3152, 8.4009, 12.9101, 19.3525,
    28.3746, 40.7856, 57.586, 80.0,
]  # fmt: skip


def test_the_published_grid_of_18_levels() -> None:
    assert karras_grid(18, 0.002, 80.0, 7.0).tolist() == pytest.approx(CIFAR10_GRID, abs=5.1e-5)


@pytest.mark.parametrize(
    ("num_steps", "sigma_model", "snapped"),
    [
        (18, 0.5, 0.5853), (18, 1.0, 1.0882), (18, 2.0, 1.9233), (40, 0.5, 0.4700), (40, 1.0, 1.0717),
        (40, 2.0, 1.7672), (40, 0.1, 0.0916), (40, 0.3, 0.2556),
    ],
)  # fmt: skip
def test_the_published_snapped_times(num_steps: int, sigma_model: float, snapped: float) -> None:
    grid = karras_grid(num_steps, 0.002, 80.0, 7.0)
    assert float(grid[nearest_index(grid, sigma_model)]) == pytest.approx(snapped, abs=5.1e-5)


@pytest.mark.parametrize(("sigma_model", "index"), [(0.5, 6), (1.0, 7), (2.0, 8)])
def test_the_pf_ode_of_the_paper_starts_at_these_levels(sigma_model: float, index: int) -> None:
    # Counted from sigma_max, as in the authors' code, these are 11, 10 and 9.
    assert nearest_index(karras_grid(18, 0.002, 80.0, 7.0), sigma_model) == index


def test_halfway_between_two_levels_the_lower_one_is_taken() -> None:
    grid = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert [nearest_index(grid, s) for s in (1.5, 1.5000001, 3.0, 3.0000001)] == [0, 1, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    num_steps=st.integers(2, 60),
    low=st.floats(1e-3, 1.0),
    ratio=st.floats(1.5, 1e5),
    rho=st.floats(1.0, 10.0),
)
def test_the_grid_is_ascending_even_in_its_root_and_exact_at_its_ends(
    num_steps: int, low: float, ratio: float, rho: float
) -> None:
    high = low * ratio
    grid = karras_grid(num_steps, low, high, rho).tolist()
    assert (grid[0], grid[-1]) == (low, high)
    assert all(a < b for a, b in pairwise(grid))
    step = (high ** (1 / rho) - low ** (1 / rho)) / (num_steps - 1)
    for i, level in enumerate(grid):
        assert math.isclose(level ** (1 / rho), low ** (1 / rho) + i * step, rel_tol=1e-9)

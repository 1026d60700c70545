"""Heun's method on Gaussian data, where the solution of the probability-flow ODE is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raycp.maths import heun_step, karras_grid, solve_to_zero

SIGMA_DATA = 0.5
SIGMA_MIN = 0.002


def denoise(x: Tensor, sigma: float) -> Tensor:
    return SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2) * x


def exact(x: Tensor, sigma: float, sigma_next: float) -> Tensor:
    return x * math.sqrt((sigma_next**2 + SIGMA_DATA**2) / (sigma**2 + SIGMA_DATA**2))


def test_one_step_is_the_trapezoidal_rule() -> None:
    # D = 0: dx/dt = x/t. From t = 2 to 1: slope x/2, Euler x/2, slope there x/2; so x' = x - (x/2 + x/2)/2 = x/2.
    x = torch.tensor([4.0], dtype=torch.float64)
    assert heun_step(lambda x, s: 0 * x, x, 2.0, 1.0).item() == 2.0
    # D = t^2 (a function of time alone): slopes (x - 4)/2 = 0 and (4 - 1)/1 = 3, so x' = 4 - 3/2.
    assert heun_step(lambda x, s: torch.full_like(x, s**2), x, 2.0, 1.0).item() == 2.5


def test_the_local_error_is_of_third_order() -> None:
    x = torch.tensor([1.0], dtype=torch.float64)
    errors = [
        abs((heun_step(denoise, x, 1.0, 1.0 - h) - exact(x, 1.0, 1.0 - h)).item()) for h in (0.2, 0.1, 0.05)
    ]
    for coarse, fine in ((errors[0], errors[1]), (errors[1], errors[2])):
        assert 6 < coarse / fine < 10


def test_the_solution_converges_at_second_order() -> None:
    x = torch.tensor([1.7, -0.3], dtype=torch.float64)
    target = denoise(exact(x, 2.0, SIGMA_MIN), SIGMA_MIN)
    errors = []
    for num_steps in (20, 40, 80):
        levels = karras_grid(num_steps, SIGMA_MIN, 2.0, 7.0).flip(0).tolist()
        errors.append(float((solve_to_zero(denoise, x, levels) - target).abs().max()))
    assert errors[0] < 1e-2
    for coarse, fine in ((errors[0], errors[1]), (errors[1], errors[2])):
        assert 3.4 < coarse / fine < 4.8


@pytest.mark.parametrize("num_levels", [1, 2, 9])
def test_evaluations(num_levels: int) -> None:
    calls: list[float] = []

    def counting(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return denoise(x, sigma)

    levels = [float(2.0**-i) for i in range(num_levels)]
    solve_to_zero(counting, torch.ones(1), levels)
    assert len(calls) == 2 * (num_levels - 1) + 1
    assert calls[-1] == levels[-1]

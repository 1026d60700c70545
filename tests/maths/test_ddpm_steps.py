"""Which step carries a given noise: published values, the defining inequality, and the closed form beside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raycp.maths import (
    closed_form_timestep,
    cosine_alphas_cumprod,
    first_timestep,
    learned_log_variance,
    noise_levels,
    predicted_x0,
)


def cosine(num_timesteps: int) -> Tensor:
    def alpha_bar(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    alphas = [
        1 - min(1 - alpha_bar((i + 1) / num_timesteps) / alpha_bar(i / num_timesteps), 0.999)
        for i in range(num_timesteps)
    ]
    return torch.tensor(alphas, dtype=torch.float64).cumprod(0)


def linear(num_timesteps: int) -> Tensor:
    return (1 - torch.linspace(1e-4, 0.02, num_timesteps, dtype=torch.float64)).cumprod(0)


@pytest.mark.parametrize(
    ("abar", "sigma", "timestep", "effective"),
    [
        (cosine(4000), 0.25, 1158, 0.250119),
        (cosine(4000), 0.5, 1984, 0.500312),
        (cosine(4000), 1.0, 2809, 1.000014),
        (linear(1000), 0.25, 145, 0.25158),
        (linear(1000), 0.5, 259, 0.50239),
        (linear(1000), 1.0, 396, 1.00024),
    ],
)
def test_the_published_steps(abar: Tensor, sigma: float, timestep: int, effective: float) -> None:
    assert first_timestep(abar, 2 * sigma) == timestep
    assert first_timestep(abar.float(), 2 * sigma) == timestep
    assert float(noise_levels(abar)[timestep]) / 2 == pytest.approx(effective, abs=1e-5)


@pytest.mark.parametrize(("sigma", "timestep"), [(0.25, 1159), (0.5, 1984), (1.0, 2810)])
def test_the_published_closed_form(sigma: float, timestep: int) -> None:
    assert closed_form_timestep(4000, 2 * sigma) == timestep


@settings(max_examples=50, deadline=None)
@given(st.floats(0.02, 100.0))
def test_the_step_is_the_first_one_that_reaches_the_level(sigma_model: float) -> None:
    for abar in (cosine(400), linear(1000)):
        levels = noise_levels(abar).tolist()
        t = first_timestep(abar, sigma_model)
        assert t >= 1
        assert levels[t] >= sigma_model
        assert t == 1 or levels[t - 1] < sigma_model


def test_a_level_that_is_exactly_a_steps_own_gives_that_step() -> None:
    abar = linear(1000)
    for t in (1, 2, 500, 999):
        assert first_timestep(abar, float(noise_levels(abar)[t])) == t


def test_step_0_is_never_used() -> None:
    assert first_timestep(linear(1000), 0.0) == 1


@settings(max_examples=50, deadline=None)
@given(st.floats(0.02, 60.0))
def test_the_closed_form_is_at_most_two_steps_from_the_search(sigma_model: float) -> None:
    assert 0 <= closed_form_timestep(4000, sigma_model) - first_timestep(cosine(4000), sigma_model) <= 2


def test_the_closed_form_stays_inside_the_schedule() -> None:
    assert closed_form_timestep(4000, 1e9) == 3999


def test_the_true_noise_gives_back_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
    for abar in (0.999, 0.5, 0.01):
        x_t = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise
        torch.testing.assert_close(predicted_x0(x_t, noise, abar), x0)


@pytest.mark.parametrize("num_timesteps", [10, 4000])
def test_the_cosine_schedule(num_timesteps: int) -> None:
    abar = cosine_alphas_cumprod(num_timesteps)
    assert abar.dtype == torch.float64
    torch.testing.assert_close(abar, cosine(num_timesteps), rtol=1e-12, atol=0)


def test_a_learned_variance_lies_between_that_of_a_step_and_that_of_the_step_back() -> None:
    abar = linear(1000)
    v = torch.tensor([1.0, -1.0, 0.0])
    for t in (1, 500, 999):
        beta = 1 - float(abar[t] / abar[t - 1])
        # x_{t-1} given x_0, times x_t given x_{t-1}: precisions add up.
        backward = 1 / ((1 - beta) / beta + 1 / (1 - float(abar[t - 1])))
        expected = [math.log(beta), math.log(backward), (math.log(beta) + math.log(backward)) / 2]
        torch.testing.assert_close(learned_log_variance(v, abar, t).tolist(), expected, rtol=1e-6, atol=0)
    low = float(learned_log_variance(v, abar, 0)[1])
    assert low == float(learned_log_variance(v, abar, 1)[1]) and math.isfinite(low)

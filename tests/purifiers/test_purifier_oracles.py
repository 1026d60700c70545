"""Every purifier on data whose denoiser, posterior mean and consistency function are known in closed form.

Written in the units of the data, model units, the oracle is `purify(x) = (oracle(2x - 1, 2 sigma) + 1)/2`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from analytic_networks import (
    SIGMA_MAX,
    SIGMA_MIN,
    consistency_denoiser,
    ddpm_denoiser,
    edm_denoiser,
    gaussian_consistency,
    gaussian_posterior_mean,
    two_point_consistency,
    two_point_posterior_mean,
)
from torch import Tensor

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, EDMPurifier, NoPurifier, PFODEPurifier
from raycp.maths import karras_grid, nearest_index
from raycp.purifiers import build_purifier

MODEL = {"path": "unused"}
DATA_STD = 0.31  # not the sigma_data of the preconditioning, for which the network would be 0
SIGMAS = [0.25, 0.5, 1.0]


def linear_schedule() -> Tensor:
    return (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)


def cosine_schedule(num_timesteps: int = 1000) -> Tensor:
    f = [math.cos((i / num_timesteps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(num_timesteps + 1)]
    return torch.tensor([1 - min(1 - b / a, 0.999) for a, b in pairwise(f)]).cumprod(0)


def noisy_images(sigma: float) -> Tensor:
    """Pixel units, [6,1,4,4], well outside [0,1] too."""
    generator = torch.Generator().manual_seed(3)
    clean = (1 + DATA_STD * torch.randn(6, 1, 4, 4, generator=generator)) / 2
    return clean + sigma * torch.randn(6, 1, 4, 4, generator=generator)


def in_pixels(x: Tensor) -> Tensor:
    return (x + 1) / 2


def close(actual: Tensor, expected: Tensor, atol: float = 2e-6) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_none_returns_the_noisy_image(sigma: float) -> None:
    x = noisy_images(sigma)
    assert torch.equal(build_purifier(NoPurifier(kind="none"), None)(x, sigma), x)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_edm_is_the_posterior_mean(sigma: float) -> None:
    x = noisy_images(sigma)
    config = EDMPurifier(kind="edm", model=MODEL)
    purify = build_purifier(config, edm_denoiser(gaussian_posterior_mean(DATA_STD)))
    close(purify(x, sigma), in_pixels((2 * x - 1) * DATA_STD**2 / (DATA_STD**2 + 4 * sigma**2)))
    two_point = build_purifier(config, edm_denoiser(two_point_posterior_mean))
    close(two_point(x, sigma), in_pixels(torch.tanh((2 * x - 1) / (4 * sigma**2))))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_ddpm_is_the_posterior_mean_at_the_noise_of_its_step(sigma: float) -> None:
    x = noisy_images(sigma)
    abar = linear_schedule()
    config = DDPMPurifier(kind="ddpm", model=MODEL, clip=False)
    denoiser = ddpm_denoiser(gaussian_posterior_mean(DATA_STD), abar)
    purified = build_purifier(config, denoiser)(x, sigma)
    t = {0.25: 145, 0.5: 259, 1.0: 396}[sigma]
    assert denoiser.network.levels == [t]
    step_level = math.sqrt((1 - float(abar[t])) / float(abar[t]))
    close(purified, in_pixels((2 * x - 1) * DATA_STD**2 / (DATA_STD**2 + step_level**2)))
    # The step's noise is within 1 % of 2 sigma, and so is the estimate of the posterior mean at 2 sigma.
    exact = in_pixels((2 * x - 1) * DATA_STD**2 / (DATA_STD**2 + 4 * sigma**2))
    assert 0 < float((purified - exact).abs().max()) < 1e-2


@pytest.mark.parametrize("sigma", SIGMAS)
def test_ddpm_closed_form_is_the_posterior_mean_up_to_two_steps(sigma: float) -> None:
    x = noisy_images(sigma)
    config = DDPMPurifier(kind="ddpm", model=MODEL, timestep="closed_form", clip=False)
    denoiser = ddpm_denoiser(gaussian_posterior_mean(DATA_STD), cosine_schedule(4000))
    purified = build_purifier(config, denoiser)(x, sigma)
    assert denoiser.network.levels == [{0.25: 1159, 0.5: 1984, 1.0: 2810}[sigma]]
    exact = in_pixels((2 * x - 1) * DATA_STD**2 / (DATA_STD**2 + 4 * sigma**2))
    close(purified, exact, atol=2e-3)


def test_ddpm_reads_the_noise_and_not_the_variance() -> None:
    x = noisy_images(0.5)
    config = DDPMPurifier(kind="ddpm", model=MODEL)
    plain, learned = (
        build_purifier(config, ddpm_denoiser(two_point_posterior_mean, linear_schedule(), channels))
        for channels in (0, 1)
    )
    assert torch.equal(plain(x, 0.5), learned(x, 0.5))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("time", ["snapped", "exact"])
def test_consistency_on_gaussian_data(sigma: float, time: str) -> None:
    x = noisy_images(sigma)
    config = ConsistencyPurifier(kind="consistency", model=MODEL, time=time)
    denoiser = consistency_denoiser(gaussian_consistency(DATA_STD))
    purified = build_purifier(config, denoiser)(x, sigma)
    t = 2 * sigma
    if time == "snapped":
        grid = karras_grid(18, SIGMA_MIN, SIGMA_MAX, 7.0)
        t = float(grid[nearest_index(grid, t)])
        assert t == pytest.approx({0.25: 0.5853, 0.5: 1.0882, 1.0: 1.9233}[sigma], abs=5.1e-5)
    assert denoiser.network.levels == pytest.approx([t], rel=1e-6)
    # The image is not rescaled to the snapped time: the factor of t applies to x as it came.
    factor = math.sqrt((SIGMA_MIN**2 + DATA_STD**2) / (t**2 + DATA_STD**2))
    close(purified, in_pixels((2 * x - 1) * factor))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_consistency_on_two_points_is_the_sign(sigma: float) -> None:
    x = noisy_images(sigma)
    config = ConsistencyPurifier(kind="consistency", model=MODEL)
    purify = build_purifier(config, consistency_denoiser(two_point_consistency))
    close(purify(x, sigma), (x > 0.5).float(), atol=5e-6)


def test_consistency_at_its_smallest_level_returns_the_image() -> None:
    x = noisy_images(0.001)
    config = ConsistencyPurifier(kind="consistency", model=MODEL)
    purify = build_purifier(config, consistency_denoiser(two_point_consistency))
    close(purify(x, SIGMA_MIN / 2), x, atol=2e-7)


@pytest.mark.parametrize(
    ("configured", "trained", "used"), [(None, None, 18), (None, 40, 40), (18, 40, 18), (40, None, 40)]
)
def test_number_of_grid_times(configured: int | None, trained: int | None, used: int) -> None:
    denoiser = consistency_denoiser(two_point_consistency, num_steps=trained)
    config = ConsistencyPurifier(kind="consistency", model=MODEL, num_steps=configured)
    build_purifier(config, denoiser)(noisy_images(1.0), 1.0)
    assert denoiser.network.levels == pytest.approx([{18: 1.9233, 40: 1.7672}[used]], abs=1e-4)


@pytest.mark.parametrize(("sigma", "evaluations"), [(0.25, 13), (0.5, 15), (1.0, 17)])
def test_pf_ode_evaluations_of_the_paper(sigma: float, evaluations: int) -> None:
    denoiser = edm_denoiser(gaussian_posterior_mean(DATA_STD))
    build_purifier(PFODEPurifier(kind="pf_ode", model=MODEL), denoiser)(noisy_images(sigma), sigma)
    levels = denoiser.network.levels
    assert len(levels) == evaluations
    assert levels[0] == pytest.approx({0.25: 0.5853, 0.5: 1.0882, 1.0: 1.9233}[sigma], abs=1e-4)
    assert levels[-1] == pytest.approx(SIGMA_MIN, rel=1e-6)


def test_pf_ode_from_the_exact_level_uses_the_grid_below_it() -> None:
    denoiser = edm_denoiser(gaussian_posterior_mean(DATA_STD))
    config = PFODEPurifier(kind="pf_ode", model=MODEL, start="exact")
    build_purifier(config, denoiser)(noisy_images(0.5), 0.5)
    # 1.0, then the seven grid levels below it, of which the first is 0.5853.
    assert len(denoiser.network.levels) == 2 * 7 + 1
    assert denoiser.network.levels[:2] == pytest.approx([1.0, 0.5853], abs=1e-4)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("start", ["snapped", "exact"])
def test_pf_ode_converges_to_the_flow_at_second_order(sigma: float, start: str) -> None:
    x = noisy_images(sigma)
    errors = []
    for num_steps in (30, 60, 120):
        config = PFODEPurifier(kind="pf_ode", model=MODEL, start=start, num_steps=num_steps)
        purify = build_purifier(config, edm_denoiser(gaussian_posterior_mean(DATA_STD)))
        grid = karras_grid(num_steps, SIGMA_MIN, SIGMA_MAX, 7.0)
        s = float(grid[nearest_index(grid, 2 * sigma)]) if start == "snapped" else 2 * sigma
        flow = math.sqrt((SIGMA_MIN**2 + DATA_STD**2) / (s**2 + DATA_STD**2))
        last_step = DATA_STD**2 / (DATA_STD**2 + SIGMA_MIN**2)
        target = in_pixels((2 * x - 1) * flow * last_step)
        errors.append(float((purify(x, sigma) - target).abs().max()))
    assert errors[0] < 2e-2
    # The number of levels below the start is not exactly proportional to num_steps, hence the margins.
    for coarse, fine in ((errors[0], errors[1]), (errors[1], errors[2])):
        assert 2.8 < coarse / fine < 6


@pytest.mark.parametrize("sigma", SIGMAS)
def test_pf_ode_on_two_points_is_the_sign(sigma: float) -> None:
    x = noisy_images(sigma)
    config = PFODEPurifier(kind="pf_ode", model=MODEL)
    purify = build_purifier(config, edm_denoiser(two_point_posterior_mean))
    close(purify(x, sigma), (x > 0.5).float(), atol=1e-4)


def test_clip_keeps_images_in_range_and_its_absence_does_not() -> None:
    x = noisy_images(1.0)
    for clip in (True, False):
        config = ConsistencyPurifier(kind="consistency", model=MODEL, clip=clip)
        purified = build_purifier(config, consistency_denoiser(lambda x, t: 3 * x))(x, 1.0)
        expected = in_pixels(3 * (2 * x - 1))
        close(purified, expected.clamp(0, 1) if clip else expected, atol=2e-5)
    assert bool((purified < -1).any()) and bool((purified > 2).any())


@pytest.mark.parametrize("clip", [True, False])
def test_clip_of_ddpm_edm_and_pf_ode(clip: bool) -> None:
    x = noisy_images(1.0)
    makers = [
        (
            DDPMPurifier(kind="ddpm", model=MODEL, clip=clip),
            ddpm_denoiser(lambda x, s: 9 * x, linear_schedule()),
        ),
        (EDMPurifier(kind="edm", model=MODEL, clip=clip), edm_denoiser(lambda x, s: 9 * x)),
        (PFODEPurifier(kind="pf_ode", model=MODEL, clip=clip), edm_denoiser(lambda x, s: 9 * x)),
    ]
    for config, denoiser in makers:
        purified = build_purifier(config, denoiser)(x, 1.0)
        assert bool(((purified >= 0) & (purified <= 1)).all()) == clip


def test_each_image_of_a_batch_is_purified_by_itself() -> None:
    x = noisy_images(0.5)
    purify = build_purifier(
        ConsistencyPurifier(kind="consistency", model=MODEL),
        consistency_denoiser(gaussian_consistency(DATA_STD)),
    )
    alone = torch.cat([purify(x[i : i + 1], 0.5) for i in range(len(x))])
    assert torch.equal(purify(x, 0.5), alone)

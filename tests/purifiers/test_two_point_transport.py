"""Transport of the product's own purifiers on Example 3.1 of Li et al., against its closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from analytic_networks import (
    consistency_denoiser,
    ddpm_denoiser,
    edm_denoiser,
    two_point_consistency,
    two_point_posterior_mean,
)
from torch import Tensor

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, EDMPurifier
from raycp.purifiers import Purifier, build_purifier
from raycp.quality.two_point import consistency_distance, posterior_mean_distance

MODEL = {"path": "unused"}
SIGMAS = [0.25, 0.5, 1.0]


def mean_distance(purify: Purifier, sigma: float) -> tuple[float, float]:
    """Mean |x - x_hat| per pixel in model units over 320,000 pixels of 0 or 1, and five standard errors of it."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(2, (20_000, 1, 4, 4), generator=generator).float()
    noisy: Tensor = pixels + sigma * torch.randn(pixels.shape, generator=generator)
    moved = 2 * (purify(noisy, sigma) - pixels).abs().double()
    return float(moved.mean()), 5 * float(moved.std()) / math.sqrt(moved.numel())


@pytest.mark.parametrize("sigma", SIGMAS)
def test_consistency_moves_as_far_as_the_sign(sigma: float) -> None:
    config = ConsistencyPurifier(kind="consistency", model=MODEL, time="exact")
    found, slack = mean_distance(build_purifier(config, consistency_denoiser(two_point_consistency)), sigma)
    assert found == pytest.approx(consistency_distance(2 * sigma), abs=slack + 1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_one_step_edm_moves_as_far_as_the_posterior_mean(sigma: float) -> None:
    config = EDMPurifier(kind="edm", model=MODEL)
    found, slack = mean_distance(build_purifier(config, edm_denoiser(two_point_posterior_mean)), sigma)
    assert found == pytest.approx(posterior_mean_distance(2 * sigma), abs=slack + 1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_one_step_ddpm_moves_as_far_as_the_posterior_mean_at_its_step(sigma: float) -> None:
    """Its noise is conditioned on the first step of at least 2 sigma; 4,000 steps are fine enough not to tell."""
    abar = (1 - torch.linspace(2.5e-5, 0.005, 4_000, dtype=torch.float64)).cumprod(0)
    config = DDPMPurifier(kind="ddpm", model=MODEL)
    found, slack = mean_distance(build_purifier(config, ddpm_denoiser(two_point_posterior_mean, abar)), sigma)
    assert found == pytest.approx(posterior_mean_distance(2 * sigma), abs=slack + 2e-3)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_order_of_the_paper(sigma: float) -> None:
    consistency = build_purifier(
        ConsistencyPurifier(kind="consistency", model=MODEL, time="exact"),
        consistency_denoiser(two_point_consistency),
    )
    posterior_mean = build_purifier(
        EDMPurifier(kind="edm", model=MODEL), edm_denoiser(two_point_posterior_mean)
    )
    near, _ = mean_distance(consistency, sigma)
    far, _ = mean_distance(posterior_mean, sigma)
    assert near < far

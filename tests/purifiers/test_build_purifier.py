"""What a purifier refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch
from analytic_networks import (
    consistency_denoiser,
    ddpm_denoiser,
    edm_denoiser,
    gaussian_posterior_mean,
    two_point_consistency,
)
from torch import Tensor

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, EDMPurifier, PFODEPurifier
from raycp.errors import ModelError
from raycp.models import Denoiser
from raycp.purifiers import build_purifier

MODEL = {"path": "unused"}
MEAN = gaussian_posterior_mean(0.3)
LINEAR = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)

CONFIGS = {
    "ddpm": DDPMPurifier(kind="ddpm", model=MODEL),
    "edm": EDMPurifier(kind="edm", model=MODEL),
    "pf_ode": PFODEPurifier(kind="pf_ode", model=MODEL),
    "consistency": ConsistencyPurifier(kind="consistency", model=MODEL),
}
NEEDED = {"ddpm": "ddpm", "edm": "edm", "pf_ode": "edm", "consistency": "consistency"}


def denoiser_of(parametrisation: str) -> Denoiser:
    if parametrisation == "ddpm":
        return ddpm_denoiser(MEAN, LINEAR)
    return edm_denoiser(MEAN) if parametrisation == "edm" else consistency_denoiser(two_point_consistency)


@pytest.mark.parametrize("kind", list(CONFIGS))
@pytest.mark.parametrize("parametrisation", ["ddpm", "edm", "consistency"])
def test_a_purifier_takes_only_the_parametrisation_it_needs(kind: str, parametrisation: str) -> None:
    if parametrisation == NEEDED[kind]:
        assert build_purifier(CONFIGS[kind], denoiser_of(parametrisation))
        return
    with pytest.raises(ModelError) as error:
        build_purifier(CONFIGS[kind], denoiser_of(parametrisation))
    assert str(error.value) == (
        f"purifier.kind is {kind}, which needs a model of parametrisation {NEEDED[kind]}, but the one of "
        f"purifier.model is {parametrisation}: choose another model, or another kind."
    )


@pytest.mark.parametrize("kind", ["edm", "pf_ode", "consistency"])
@pytest.mark.parametrize(("sigma", "allowed"), [(0.00099, False), (0.001, True), (40.0, True), (40.1, False)])
def test_a_sigma_outside_the_model_is_refused(kind: str, sigma: float, allowed: bool) -> None:
    purify = build_purifier(CONFIGS[kind], denoiser_of(NEEDED[kind]))
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    if allowed:
        assert purify(x, sigma).shape == x.shape
        return
    with pytest.raises(
        ModelError, match=rf"sigma = {sigma} .* from 0\.002 to 80; allowed .* from 0\.001 to 40\."
    ):
        purify(x, sigma)


@pytest.mark.parametrize(("sigma", "allowed"), [(0.004, False), (0.006, True), (78.0, True), (79.0, False)])
def test_a_sigma_outside_a_ddpm_schedule_is_refused(sigma: float, allowed: bool) -> None:
    purify = build_purifier(CONFIGS["ddpm"], denoiser_of("ddpm"))
    x = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    if allowed:
        assert purify(x, sigma).shape == x.shape
        return
    with pytest.raises(ModelError, match=r"noise levels go from 0\.0100\d+ to 157\.\d+"):
        purify(x, sigma)


@pytest.mark.parametrize("num_timesteps", [50, 1000, 4000])
def test_the_closed_form_is_refused_for_another_schedule(num_timesteps: int) -> None:
    schedule: Tensor = (1 - torch.linspace(1e-4, 0.02, num_timesteps)).cumprod(0)
    config = DDPMPurifier(kind="ddpm", model=MODEL, timestep="closed_form")
    with pytest.raises(
        ModelError, match=r"purifier\.timestep closed_form is a formula for the cosine schedule"
    ):
        build_purifier(config, ddpm_denoiser(MEAN, schedule))

"""The four coefficients: unit variances, the boundary condition, and the originals' recorded outputs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from raycp.maths import Scalings, consistency_scalings, edm_scalings, karras_grid, preconditioned

LEVELS = [0.002, 0.01, 0.3, 0.5, 1.0, 2.0, 80.0]


@pytest.mark.parametrize("sigma_data", [0.5, 0.31])
@pytest.mark.parametrize("sigma", LEVELS)
def test_edm_input_and_target_have_unit_variance(sigma: float, sigma_data: float) -> None:
    c_skip, c_out, c_in, c_noise = (float(c) for c in edm_scalings(sigma, sigma_data))
    # x = x0 + sigma n; the network's target is (x0 - c_skip x)/c_out.
    assert c_in**2 * (sigma_data**2 + sigma**2) == pytest.approx(1, rel=1e-12)
    target = (1 - c_skip) ** 2 * sigma_data**2 + c_skip**2 * sigma**2
    assert target / c_out**2 == pytest.approx(1, rel=1e-12)
    assert c_out > 0
    # Of all c_skip, this one makes the target's variance smallest, so errors of the network are amplified least.
    for other in (c_skip - 1e-3, c_skip + 1e-3):
        assert (1 - other) ** 2 * sigma_data**2 + other**2 * sigma**2 > target
    assert c_noise == pytest.approx(math.log(sigma) / 4, rel=1e-12)


@pytest.mark.parametrize("sigma_min", [0.002, 0.0173, 0.1])
def test_the_boundary_condition_holds_to_the_last_bit(sigma_min: float) -> None:
    scalings = consistency_scalings(sigma_min, 0.5, sigma_min)
    assert (float(scalings.c_skip), float(scalings.c_out)) == (1.0, 0.0)
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 7
    grid = karras_grid(18, sigma_min, 80.0, 7.0)
    for level in (sigma_min, float(grid[0])):
        f = preconditioned(lambda x, c: 100 * x + 3, x, consistency_scalings(level, 0.5, sigma_min))
        assert torch.equal(f, x)


def test_consistency_coefficients_at_a_level_worked_out_by_hand() -> None:
    # s = 1.002, s_min = 0.002, sd = 0.5: s - s_min = 1, s^2 + sd^2 = 1.254004.
    c_skip, c_out, c_in, c_noise = (float(c) for c in consistency_scalings(1.002, 0.5, 0.002))
    assert c_skip == pytest.approx(0.25 / 1.25, rel=1e-12)
    assert c_out == pytest.approx(0.5 / math.sqrt(1.254004), rel=1e-12)
    assert c_in == pytest.approx(1 / math.sqrt(1.254004), rel=1e-12)
    assert c_noise == pytest.approx(250 * math.log(1.002), rel=1e-12)


def test_without_its_boundary_a_consistency_function_is_an_edm_denoiser() -> None:
    for sigma in LEVELS:
        ours, edm = consistency_scalings(sigma, 0.5, 0.0), edm_scalings(sigma, 0.5)
        expected = [*map(float, edm[:3]), 1000 * float(edm.c_noise)]
        assert [float(c) for c in ours] == pytest.approx(expected, rel=1e-12)


def test_one_level_per_image_is_the_same_as_one_image_per_level() -> None:
    def network(x_BCHW: Tensor, c_noise_B: Tensor) -> Tensor:
        assert c_noise_B.shape == (x_BCHW.shape[0],)
        assert c_noise_B.dtype == torch.float32
        return torch.tanh(x_BCHW) + c_noise_B.view(-1, 1, 1, 1)

    sigma_B = torch.tensor([0.002, 0.7, 33.0], dtype=torch.float64)
    x = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    for scalings in (lambda s: edm_scalings(s, 0.4), lambda s: consistency_scalings(s, 0.4, 0.002)):
        together = preconditioned(network, x, scalings(sigma_B))
        for i, sigma in enumerate(sigma_B.tolist()):
            assert torch.equal(together[i : i + 1], preconditioned(network, x[i : i + 1], scalings(sigma)))


def test_a_low_precision_network_does_not_lower_the_image() -> None:
    x = torch.full((1, 1, 2, 2), 1.0009765625)  # not a bfloat16 number
    out = preconditioned(
        lambda x, c: torch.zeros_like(x, dtype=torch.bfloat16), x, consistency_scalings(0.002, 0.5, 0.002)
    )
    assert out.dtype == torch.float32
    assert torch.equal(out, x)


@pytest.mark.parametrize("variant", ["ddpmpp", "ncsnpp", "adm", "adm-multihead"])
def test_the_denoised_images_of_the_original_edm_code(shared_data: Path, variant: str) -> None:
    io = load_file(shared_data / "parity" / "edm" / f"{variant}.io.safetensors")
    x_t, sigma = io["x_t"], io["sigma"].double()

    def recorded(x_BCHW: Tensor, c_noise_B: Tensor) -> Tensor:
        torch.testing.assert_close(c_noise_B, (io["sigma"].log() / 4), atol=1e-6, rtol=1e-6)
        return io["model_output"]

    denoised = preconditioned(recorded, x_t, edm_scalings(sigma, 0.5))
    assert float((denoised - io["denoised"]).abs().max()) <= 1e-4


def test_scalings_are_named_tensors_of_the_shape_of_the_level() -> None:
    scalings = edm_scalings(torch.tensor([1.0, 2.0]), 0.5)
    assert isinstance(scalings, Scalings)
    assert all(c.shape == (2,) and c.dtype == torch.float64 for c in scalings)

"""The DDPM stage: its loss against closed forms, its draws, and that it leaves what diffusers and the purifier read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_setups import train_config

from raycp.config import parse_config
from raycp.config.models import DDPMPurifier, DenoiserModel
from raycp.config.stages import DDPM_SIGMA_MAX, DDPMStage
from raycp.distributed.trained_models import build_trained, make_unet, save_model
from raycp.maths import first_timestep, linear_alphas_cumprod, noise_levels
from raycp.models import build_denoiser, read_denoiser, save_denoiser
from raycp.purifiers.build import build_purifier
from raycp.storage import Storage
from raycp.training.batches import Batches, LoadedImages
from raycp.training.ddpm import PredictNoise, ddpm_loss, drawn_timesteps
from raycp.training.loop import StageTraining
from raycp.training.stages import Diffusion, diffusion_of, purifier_in, stage_loss, trained_purifier

SCHEDULES = ["linear", "cosine"]
UNET = {"block_out_channels": [8, 8], "norm_num_groups": 4}
SIGMAS = [0.25, 0.5, 1.0]


def stage_of(schedule: str = "cosine", **changes: Any) -> DDPMStage:
    return parse_config(
        DDPMStage, {"stage": "ddpm", "steps": 4, "batch_size": 8, "schedule": schedule, **changes}
    )


def constants(schedule: str) -> Diffusion:
    diffusion = diffusion_of(stage_of(schedule), {})
    assert diffusion is not None
    return diffusion


def products(schedule: str) -> Tensor:
    abar_T = constants(schedule).alphas_cumprod_T
    assert abar_T is not None
    return abar_T


def images(seed: int = 0) -> LoadedImages:
    rng = np.random.default_rng(seed)
    return LoadedImages(rng.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, 20))


def small_unet(config: DDPMStage) -> nn.Module:
    torch.manual_seed(0)
    return make_unet(config, 1, 8, 8)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_smallest_loss_on_gaussian_data(schedule: str, sigma: float) -> None:
    """For N(mu, S^2) the best prediction is E[n | x_t], and its loss `abar S^2/(abar S^2 + 1 - abar)`.

    The mean of 2^18 squared normals is further from 1 than 5 standard errors, 1.4%, once in 1.7 million times.
    """
    mu, S, abar_T = 0.4, 0.3, products(schedule)
    t = first_timestep(abar_T, 2 * sigma)
    abar = float(abar_T[t])
    variance = abar * S**2 + 1 - abar

    def best(x_t: Tensor, t_B: Tensor) -> Tensor:
        assert torch.equal(t_B, torch.full((4096,), t))
        return (1 - abar) ** 0.5 * (x_t - abar**0.5 * mu) / variance

    x, noise = torch.randn(2, 4096, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    loss_B = ddpm_loss(best, mu + S * x, noise, torch.full((4096,), t), abar_T)
    assert loss_B.shape == (4096,)
    smallest = abar * S**2 / variance
    assert float(loss_B.mean()) == pytest.approx(smallest, rel=0.014)

    def nearly(factor: float) -> PredictNoise:
        return lambda x_t, t_B: factor * best(x_t, t_B)

    for factor in (0.9, 1.1):  # E[loss] grows by (factor - 1)^2 E[best^2] = 0.01 (1 - smallest)
        more = ddpm_loss(nearly(factor), mu + S * x, noise, torch.full((4096,), t), abar_T).mean()
        assert float(more - loss_B.mean()) == pytest.approx(0.01 * (1 - smallest), rel=0.2)


def test_every_image_has_its_own_step() -> None:
    abar_T = products("cosine")
    x, noise = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    t_B = torch.tensor([0, 1500, 3999])
    seen: list[Tensor] = []

    def nothing(x_t: Tensor, asked_B: Tensor) -> Tensor:
        assert torch.equal(asked_B, t_B)
        seen.append(x_t)
        return torch.zeros_like(x_t)

    loss_B = ddpm_loss(nothing, x, noise, t_B, abar_T)
    assert torch.allclose(loss_B, noise.square().mean(dim=(1, 2, 3)))
    for i, t in enumerate(t_B.tolist()):
        abar = float(abar_T[t])
        torch.testing.assert_close(seen[0][i], abar**0.5 * x[i] + (1 - abar) ** 0.5 * noise[i])


class Aware(nn.Module):
    """A small network of four pixels and the step, called as a U-Net is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4)
        )

    def forward(self, x_BCHW: Tensor, t_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert t_B.dtype == torch.int64
        step_B1 = (t_B / 1000 - 1.4)[:, None]
        return (x_BCHW + self.layers(torch.cat([x_BCHW.flatten(1), step_B1], dim=1)).view_as(x_BCHW),)


def test_a_trained_ddpm_purifies_to_the_posterior_mean_of_two_images() -> None:
    """For the images v and -v that is `v tanh(v . x/s^2)`, x the noisy image and s its noise, model units.

    Trained as `raycp train` does, on the steps up to sigma = 1. The errors were 0.07, 0.10 and 0.20 of the length of v;
    before, they are above 0.6. The clean image is 0.23, 0.65 and 0.88 away from the mean, zero 0.97, 0.74 and 0.45.
    """
    pixels = np.array([[64, 191], [191, 64]], dtype=np.uint8)  # -0.5 and 0.5
    batches = Batches(LoadedImages(np.stack([pixels, 255 - pixels])[:, None], np.zeros(2)), 256, 0, (0, 0))
    v = torch.from_numpy(pixels)[None, None].float() / 127.5 - 1
    config = stage_of(steps=600, batch_size=256, learning_rate=1e-2, max_sigma=1.0)
    network = Aware()
    diffusion = constants("cosine")
    x = torch.cat([v.expand(2000, -1, -1, -1), -v.expand(2000, -1, -1, -1)])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))

    def errors(trained: nn.Module) -> Tensor:
        purify = trained_purifier(trained, diffusion)
        relative = []
        for s in (0.5, 1.0, 2.0):
            noisy = x + s * noise
            mean = v * ((v * noisy).sum(dim=(1, 2, 3), keepdim=True) / s**2).tanh()
            with torch.no_grad():
                relative.append((purify(noisy, s) - mean).norm() / x.norm())
        return torch.stack(relative)

    assert (errors(network) > 0.6).all(), errors(network)
    training = StageTraining(config, network, network, stage_loss(config, network, None, {}, batches))
    for _ in training.run():
        pass
    after = errors(training.average)
    assert (after < torch.tensor([0.1, 0.15, 0.3])).all(), after


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_are_equally_likely_up_to_the_one_that_the_largest_noise_needs(schedule: str) -> None:
    abar_T = products(schedule)
    for largest, last in ((None, len(abar_T) - 1), (2.0, {"linear": 396, "cosine": 2809}[schedule])):
        uniform_B = (torch.arange(last + 1, dtype=torch.float64) + 0.5) / (last + 1)
        assert torch.equal(drawn_timesteps(uniform_B, abar_T, largest), torch.arange(last + 1))
        ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
        assert drawn_timesteps(ends, abar_T, largest).tolist() == [0, last]


class Recorded(nn.Module):
    """Predicts nothing, and keeps the steps it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def forward(self, x_BCHW: Tensor, t_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.steps += t_B.tolist()
        return (torch.zeros_like(x_BCHW),)


def drawn(config: DDPMStage, step: int, workers: int = 1) -> tuple[list[int], Tensor]:
    """Steps and losses of a whole batch, of all workers and parts in their order."""
    network, losses = Recorded(), []
    for rank in range(workers):
        batches = Batches(
            images(), config.batch_size, 0, (1, 2), rank, workers, flip=True, parts=config.accumulate
        )
        loss = stage_loss(config, network, None, {}, batches)
        losses += [loss(step, part) for part in range(config.accumulate)]
    return network.steps, torch.cat(losses)


def test_what_is_drawn_depends_on_the_step_alone() -> None:
    steps, losses = drawn(stage_of(), 3)
    for config, workers in ((stage_of(), 2), (stage_of(accumulate=4), 2), (stage_of(accumulate=2), 1)):
        again, same = drawn(config, 3, workers)
        assert again == steps and torch.equal(same, losses)
    assert drawn(stage_of(), 4)[0] != steps
    expected = (Batches(images(), 8, 0, (1, 2))(3).uniform_B * 2810).long()
    assert drawn(stage_of(max_sigma=1.0), 3)[0] == expected.tolist()
    assert max(steps) > 2810  # of the whole schedule


def test_a_resumed_stage_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    def begun() -> StageTraining:
        config = stage_of(steps=5, max_sigma=1.0, **UNET)
        network = small_unet(config)
        loss = stage_loss(config, network, None, {}, Batches(images(), 8, 0, (1, 2)))
        return StageTraining(config, network, network, loss)

    whole, first, second = begun(), begun(), begun()
    losses = list(whole.run())
    head = list(itertools.islice(first.run(), 3))
    torch.save(first.state(), tmp_path / "state.pt")
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    assert head + list(second.run()) == losses
    for name, value in whole.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value)


def saved(folder: Path, schedule: str) -> nn.Module:
    """The network of a stage, its model in `folder`/models/ddpm."""
    config = stage_of(schedule, **UNET)
    network = small_unet(config).eval().requires_grad_(False)
    save_model(Storage(str(folder)), "ddpm", network, constants(schedule), None, (8, 8), None, {"stage": {}})
    return network


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_folder_purifies_as_the_trained_network_does(tmp_path: Path, schedule: str) -> None:
    """Bit for bit: certification, validation, and a classifier stage that has it as its purifier."""
    network = saved(tmp_path, schedule)
    bundle = read_denoiser(DenoiserModel(path=str(tmp_path / "models" / "ddpm")))
    certified = build_purifier(
        DDPMPurifier(kind="ddpm", model=DenoiserModel(path="")), build_denoiser(bundle)
    )
    trained = trained_purifier(network, constants(schedule))
    parent = build_trained(bundle)
    assert parent.diffusion is not None and parent.diffusion.alphas_cumprod_T is not None
    assert torch.equal(parent.diffusion.alphas_cumprod_T, products(schedule))
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for sigma in SIGMAS:
        purified = trained(2 * x_BCHW - 1, 2 * sigma)
        assert torch.equal(purifier_in(parent)(2 * x_BCHW - 1, 2 * sigma), purified)
        assert torch.equal(certified(x_BCHW, sigma), (purified + 1) / 2)
        assert purified.abs().max() == 1 and purified.abs().min() < 0.5  # some are clipped


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_diffusers_reads_the_folder_and_predicts_the_same_image(tmp_path: Path, schedule: str) -> None:
    """The library diffusers rounds the cosine schedule to float32; the linear one is the same to the last bit."""
    from diffusers import DDPMScheduler, UNet2DModel

    network = saved(tmp_path, schedule)
    folder = tmp_path / "models" / "ddpm"
    unet: Any = UNet2DModel.from_pretrained(folder, subfolder="unet")
    scheduler: Any = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    theirs_T, ours_T = scheduler.alphas_cumprod.double(), products(schedule)
    if schedule == "linear":
        assert torch.equal(theirs_T, ours_T)
    torch.testing.assert_close(theirs_T, ours_T, rtol=1e-3, atol=1e-9)
    assert scheduler.config.prediction_type == "epsilon"
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for sigma in SIGMAS:
        t = first_timestep(ours_T, 2 * sigma)
        x_t = float(ours_T[t]) ** 0.5 * x_BCHW
        with torch.no_grad():
            predicted = scheduler.step(unet(x_t, t).sample, t, x_t).pred_original_sample
        torch.testing.assert_close(
            trained_purifier(network, constants(schedule))(x_BCHW, 2 * sigma), predicted, atol=2e-4, rtol=0
        )


def test_a_published_ddpm_purifies_with_its_own_conditioning(tmp_path: Path) -> None:
    """improved-diffusion: steps times 1000/T, and a variance that is predicted too, which is left out."""
    from raycp.models.diffusers_unet import make_unet as published_unet

    torch.manual_seed(0)
    network = published_unet(
        {
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 2,
            "block_out_channels": (8,),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",),
        }
    )
    cosine = {"num_train_timesteps": 4000, "beta_schedule": "squaredcos_cap_v2"}
    save_denoiser(tmp_path, network, "ddpm", 0.25, **cosine)
    bundle = read_denoiser(DenoiserModel(path=str(tmp_path)))
    certified = build_purifier(
        DDPMPurifier(kind="ddpm", model=DenoiserModel(path="")), build_denoiser(bundle)
    )
    x_BCHW = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    purified = purifier_in(build_trained(bundle))(2 * x_BCHW - 1, 1.0)
    assert torch.equal(certified(x_BCHW, 0.5), (purified + 1) / 2)


def test_the_linear_schedule() -> None:
    abar_T = linear_alphas_cumprod(1000, 1e-4, 0.02)
    exact_T = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(abar_T, exact_T, rtol=2e-5, atol=0)
    assert abar_T.dtype == torch.float64
    for schedule in SCHEDULES:
        assert float(noise_levels(products(schedule))[-1]) > 2 * DDPM_SIGMA_MAX


def test_a_card_and_a_configuration_say_the_shape(tmp_path: Path) -> None:
    (config,) = train_config({"stage": "ddpm", "steps": 1}).stages
    assert isinstance(config, DDPMStage)
    assert (config.schedule, config.max_sigma, config.block_out_channels) == ("cosine", None, (16, 32))
    saved(tmp_path, "linear")
    written = json.loads((tmp_path / "models" / "ddpm" / "scheduler" / "scheduler_config.json").read_text())
    assert written["_class_name"] == "DDPMScheduler"
    assert {key: written[key] for key in ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")} == {
        "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02,
    }  # fmt: skip

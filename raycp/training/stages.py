"""The stages: what network each trains, on which loss, from which earlier models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.config.stages import (
    CalibrateStage,
    ClassifierStage,
    ConsistencyStage,
    DDPMStage,
    DenoiserStage,
    FinetuneStage,
    StageConfig,
)
from raycp.maths import cosine_alphas_cumprod, karras_grid, linear_alphas_cumprod
from raycp.training import distances
from raycp.training.batches import Batches
from raycp.training.calibration import CalibrationWeights, calibration_loss
from raycp.training.classifier_losses import consistency_regularised_loss, gaussian_loss
from raycp.training.ddpm import ddpm_loss, drawn_timesteps, noise_prediction, one_step_denoiser
from raycp.training.distances import Distance
from raycp.training.losses import Model, consistency_training_loss, distillation_loss, edm_loss, finetune_loss
from raycp.training.networks import consistency_model, edm_model, features_of


@dataclass(frozen=True)
class Diffusion:
    """Constants of a denoiser, a DDPM or a consistency model, model units.

    Attributes:
        sigma_data: standard deviation of the data; not of a DDPM.
        num_steps: times N of a consistency model's grid; None for a denoiser.
        sigma_min, sigma_max, rho: of that grid.
        conditioning_scale: what the network's noise conditioning is multiplied by; see `NoiseSchedule`.
        betas: of a DDPM, the arguments of a diffusers `DDPMScheduler`; None for the others.
        alphas_cumprod_T: the products abar that they determine, float64, on the CPU.
    """

    sigma_data: float = 0.5
    num_steps: int | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    conditioning_scale: float = 1.0
    betas: Mapping[str, Any] | None = None
    alphas_cumprod_T: Tensor | None = field(default=None, compare=False)

    @cached_property
    def grid_N(self) -> Tensor:
        """The times of a consistency model, ascending, float64 [N]."""
        assert self.num_steps is not None
        return karras_grid(self.num_steps, self.sigma_min, self.sigma_max, self.rho)

    def snapped(self, sigma_B: Tensor) -> Tensor:
        """The grid time nearest to each noise level (the lower of two equally near), float64 [B]."""
        grid_N = self.grid_N.to(sigma_B.device)
        return grid_N[(sigma_B[:, None] - grid_N).abs().argmin(dim=1)]


@dataclass(frozen=True)
class Trained:
    """A model that a stage may build on."""

    network: nn.Module
    diffusion: Diffusion | None = None
    """None for a classifier."""
    recipe: Mapping[str, Any] | None = None
    """Of a classifier that has more between pixels and network than raycp's own, what it was built from."""


Earlier = Mapping[str, Trained]
"""Models of earlier stages and of other trainings, by name."""


def diffusion_of(config: StageConfig, earlier: Earlier) -> Diffusion | None:
    """The constants of the model that a stage trains; None for a classifier."""
    if isinstance(config, ClassifierStage):
        return None
    if isinstance(config, DenoiserStage):
        assert config.sigma_data is not None
        return Diffusion(config.sigma_data)
    if isinstance(config, DDPMStage):
        return _ddpm(config.schedule)
    if isinstance(config, ConsistencyStage):
        sigma_data, scale = config.sigma_data, 1.0
        if config.start is not None:
            before = earlier[config.start].diffusion
            assert before is not None
            sigma_data, scale = before.sigma_data, before.conditioning_scale
        elif config.teacher is not None:
            teacher = earlier[config.teacher]
            assert teacher.diffusion is not None
            sigma_data = teacher.diffusion.sigma_data
            if not fitted_to_times(
                teacher
            ):  # the student sees the same conditioning: 250 ln(t) scale = ln(t)/4 ...
                scale = teacher.diffusion.conditioning_scale / 1000
        assert sigma_data is not None
        grid = config.num_steps, config.sigma_min, config.sigma_max, config.rho
        return Diffusion(sigma_data, *grid, conditioning_scale=scale)
    return earlier[config.start].diffusion


def _ddpm(schedule: Literal["linear", "cosine"]) -> Diffusion:
    """A DDPM of the schedule of Ho et al. (2020), linear, or of that of Nichol & Dhariwal (2021), cosine."""
    if schedule == "linear":
        steps, first, last = 1000, 1e-4, 0.02
        abar_T = linear_alphas_cumprod(steps, first, last)
        name, ends = "linear", {"beta_start": first, "beta_end": last}
    else:
        steps, name, ends = 4000, "squaredcos_cap_v2", {}
        abar_T = cosine_alphas_cumprod(steps)
    betas = {"num_train_timesteps": steps, "beta_schedule": name, **ends}
    return Diffusion(betas=betas, alphas_cumprod_T=abar_T)


def fitted_to_times(teacher: Trained) -> bool:
    """Whether a student inherits from this denoiser by `inherit`, into a network that diffusers fully describes.

    From others it inherits all weights as they are, and with them the scale of their noise conditioning.
    """
    assert teacher.diffusion is not None
    return hasattr(teacher.network, "time_embedding") and teacher.diffusion.conditioning_scale == 1


def stage_loss(
    config: StageConfig,
    network: nn.Module,
    target: nn.Module | None,
    earlier: Earlier,
    batches: Batches,
    lpips: Distance | None = None,
) -> Callable[[int, int], Tensor]:
    """The loss of a stage: (step, part of the share) -> [B]; `lpips` is the distance of its ImageNet backbone."""
    if isinstance(config, ClassifierStage):
        return _classifier_loss(config, network, earlier, batches)
    diffusion = diffusion_of(config, earlier)
    assert diffusion is not None
    if isinstance(config, DenoiserStage):
        return _denoising_loss(config, _edm(network, diffusion), diffusion.sigma_data, batches)
    if isinstance(config, DDPMStage):
        return _noise_prediction_loss(config, network, diffusion, batches)
    if isinstance(config, CalibrateStage):
        return _calibration_loss(config, network, diffusion, earlier[config.classifier].network, batches)
    model = _consistency(network, diffusion)
    distance = _distance(config, earlier, lpips)
    if isinstance(config, ConsistencyStage):
        assert target is not None
        teacher = None
        if config.method == "distillation":
            assert config.teacher is not None
            taught = earlier[config.teacher]
            assert taught.diffusion is not None
            teacher = _edm(taught.network, taught.diffusion)
        following = _consistency(target, diffusion)
        return _consistency_loss(model, following, teacher, distance, diffusion.grid_N, batches)
    levels = _levels(config.sigmas)

    def finetuning(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        if config.continuous:
            sigma_B = batch.uniform_B * levels.max()
        else:
            sigma_B = _one_of(levels, batch.uniform_B)
        time_B = diffusion.snapped(sigma_B) if config.time == "snapped" else sigma_B
        return finetune_loss(model, distance, 2 * batch.x_BCHW - 1, batch.noise_BCHW, sigma_B, time_B)

    return finetuning


def _denoising_loss(
    config: DenoiserStage, denoise: Model, sigma_data: float, batches: Batches
) -> Callable[[int, int], Tensor]:
    def denoising(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        sigma_B = (config.log_mean + config.log_std * batch.normal_B).exp()
        return edm_loss(denoise, 2 * batch.x_BCHW - 1, batch.noise_BCHW, sigma_B, sigma_data)

    return denoising


def _noise_prediction_loss(
    config: DDPMStage, network: nn.Module, diffusion: Diffusion, batches: Batches
) -> Callable[[int, int], Tensor]:
    abar_T = diffusion.alphas_cumprod_T
    assert abar_T is not None
    predict_noise = noise_prediction(network, diffusion.conditioning_scale)
    largest = None if config.max_sigma is None else 2 * config.max_sigma

    def predicting(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        t_B = drawn_timesteps(batch.uniform_B, abar_T, largest)
        return ddpm_loss(predict_noise, 2 * batch.x_BCHW - 1, batch.noise_BCHW, t_B, abar_T)

    return predicting


def _consistency_loss(
    model: Model,
    following: Model,
    teacher: Model | None,
    distance: Distance,
    cpu_grid_N: Tensor,
    batches: Batches,
) -> Callable[[int, int], Tensor]:
    def consistent(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        grid_N = cpu_grid_N.to(batch.x_BCHW.device)
        step_B = (batch.uniform_B * (len(grid_N) - 1)).long()
        drawn = 2 * batch.x_BCHW - 1, batch.noise_BCHW, grid_N, step_B
        if teacher is None:
            return consistency_training_loss(model, following, distance, *drawn)
        return distillation_loss(model, following, teacher, distance, *drawn)

    return consistent


def _calibration_loss(
    config: CalibrateStage, network: nn.Module, diffusion: Diffusion, classifier: nn.Module, batches: Batches
) -> Callable[[int, int], Tensor]:
    model, levels = _model(network, diffusion), _levels(config.sigmas)
    weights = CalibrationWeights(config.denoising_weight, config.brier_weight, config.anti_consistency_weight)

    def denoise(x_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        return model(x_BCHW, sigma_B if diffusion.num_steps is None else diffusion.snapped(sigma_B))

    def calibrated(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        drawn = batch.label_B, batch.noises_mBCHW, _one_of(levels, batch.uniform_B)
        return calibration_loss(
            denoise, classifier, 2 * batch.x_BCHW - 1, *drawn, diffusion.sigma_data, weights
        )

    return calibrated


def _levels(sigmas: Sequence[float]) -> Tensor:
    """Noise levels in model units, float64."""
    return 2 * torch.tensor(sigmas, dtype=torch.float64)


def _one_of(levels: Tensor, uniform_B: Tensor) -> Tensor:
    """A level for each image, float64 [B]."""
    return levels.to(uniform_B.device)[(uniform_B * len(levels)).long()]


def _classifier_loss(
    config: ClassifierStage, network: nn.Module, earlier: Earlier, batches: Batches
) -> Callable[[int, int], Tensor]:
    sigma, smoothing = config.noise_sigma, config.label_smoothing

    def plain(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        losses = [
            gaussian_loss(network, batch.x_BCHW, batch.label_B, noise_BCHW, sigma, smoothing)
            for noise_BCHW in batch.noises_mBCHW
        ]
        return torch.stack(losses).mean(dim=0)

    def regularised(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        weights = config.consistency_weight, config.entropy_weight
        return consistency_regularised_loss(
            network, batch.x_BCHW, batch.label_B, batch.noises_mBCHW, sigma, *weights
        )

    def seeded(loss: Callable[[int, int], Tensor]) -> Callable[[int, int], Tensor]:
        def of_step(step: int, part: int = 0) -> Tensor:
            torch.manual_seed(batches.seed(step, part))  # dropout, the same after an interruption
            return loss(step, part)

        return of_step

    if config.consistency_weight:
        return seeded(regularised)
    if config.purifier is None:
        return seeded(plain)
    purify = purifier_in(earlier[config.purifier])

    def purified(step: int, part: int = 0) -> Tensor:
        batch = batches(step, part)
        losses = []
        for noise_BCHW in batch.noises_mBCHW:
            with torch.no_grad():
                x_BCHW = purify(2 * (batch.x_BCHW + sigma * noise_BCHW) - 1, 2 * sigma)
            losses.append(
                F.cross_entropy(network(x_BCHW), batch.label_B, label_smoothing=smoothing, reduction="none")
            )
        return torch.stack(losses).mean(dim=0)

    return seeded(purified)


def trained_purifier(
    network: nn.Module, diffusion: Diffusion, exact: bool = False
) -> Callable[[Tensor, float], Tensor]:
    """How a trained network purifies images [B, C, H, W] at a noise level, both in model units.

    A consistency model is conditioned on the grid time nearest to the noise level, or on that level itself (`exact`).
    """
    if diffusion.alphas_cumprod_T is not None:
        predict_noise = noise_prediction(network, diffusion.conditioning_scale)
        return one_step_denoiser(predict_noise, diffusion.alphas_cumprod_T)
    model = _model(network, diffusion)

    def purify(x_BCHW: Tensor, sigma: float) -> Tensor:
        time = torch.tensor(sigma, dtype=torch.float64)  # in float32 the boundary condition would be missed
        if diffusion.num_steps is not None and not exact:
            time = diffusion.snapped(time[None])[0]
        return model(x_BCHW, time)

    return purify


def purifier_in(trained: Trained) -> Callable[[Tensor, float], Tensor]:
    """How an earlier model purifies, see `trained_purifier`."""
    assert trained.diffusion is not None
    return trained_purifier(trained.network, trained.diffusion)


def purifier_of(
    config: StageConfig, network: nn.Module, diffusion: Diffusion
) -> Callable[[Tensor, float], Tensor]:
    """How the network of a stage purifies, see `trained_purifier`."""
    return trained_purifier(network, diffusion, isinstance(config, FinetuneStage) and config.time == "exact")


def _model(network: nn.Module, diffusion: Diffusion) -> Model:
    """Of a denoiser or a consistency model."""
    return (_edm if diffusion.num_steps is None else _consistency)(network, diffusion)


def _edm(network: nn.Module, diffusion: Diffusion) -> Model:
    return edm_model(network, diffusion.sigma_data, diffusion.conditioning_scale)


def _consistency(network: nn.Module, diffusion: Diffusion) -> Model:
    constants = diffusion.sigma_data, diffusion.sigma_min, diffusion.conditioning_scale
    return consistency_model(network, *constants)


def _distance(config: ConsistencyStage | FinetuneStage, earlier: Earlier, lpips: Distance | None) -> Distance:
    if config.loss == "lpips":
        if not isinstance(config.perceptual, str):
            assert lpips is not None
            return lpips
        classifier = earlier[config.perceptual].network
        return distances.lpips_on(lambda x_BCHW: features_of(classifier, x_BCHW))
    return {"l1": distances.l1, "l2": distances.l2}[config.loss]

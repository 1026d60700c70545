"""The stages: what network each trains, on which loss, from which earlier models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.config.train import (
    ClassifierStage,
    ConsistencyStage,
    DenoiserStage,
    FinetuneStage,
    StageConfig,
)
from raycp.maths import karras_grid
from raycp.training import distances
from raycp.training.batches import Batches
from raycp.training.distances import Distance
from raycp.training.losses import Model, distillation_loss, edm_loss, finetune_loss
from raycp.training.networks import consistency_model, edm_model, features_of

Networks = Mapping[str, nn.Module]
"""Trained networks of earlier stages, by the stage's name."""


@dataclass(frozen=True)
class Diffusion:
    """Constants that the denoiser and the consistency stages share.

    Attributes:
        sigma_data: standard deviation of the data, model units.
        grid_N: times of the consistency model, ascending, float64, model units; None without that stage.
        sigma_min: first time of the grid.
    """

    sigma_data: float
    grid_N: Tensor | None
    sigma_min: float

    def snapped(self, sigma_B: Tensor) -> Tensor:
        """The grid time nearest to each noise level (the lower of two equally near), float64 [B]."""
        assert self.grid_N is not None
        grid_N = self.grid_N.to(sigma_B.device)
        return grid_N[(sigma_B[:, None] - grid_N).abs().argmin(dim=1)]


def diffusion_of(stages: Mapping[str, StageConfig]) -> Diffusion:
    """The constants that a training's stages imply."""
    denoiser, consistency = stages.get("denoiser"), stages.get("consistency")
    sigma_data = denoiser.sigma_data if isinstance(denoiser, DenoiserStage) else 0.5
    if not isinstance(consistency, ConsistencyStage):
        return Diffusion(sigma_data, None, 0.002)
    grid_N = karras_grid(consistency.num_steps, consistency.sigma_min, consistency.sigma_max, consistency.rho)
    return Diffusion(sigma_data, grid_N, consistency.sigma_min)


def stage_loss(
    config: StageConfig,
    network: nn.Module,
    target: nn.Module | None,
    earlier: Networks,
    diffusion: Diffusion,
    batches: Batches,
) -> Callable[[int], Tensor]:
    """The loss of a stage: step -> [B]."""
    if isinstance(config, ClassifierStage):

        def classify(step: int) -> Tensor:
            batch = batches(step)
            logits_BK = network(2 * batch.x_BCHW - 1)
            return F.cross_entropy(
                logits_BK, batch.label_B, label_smoothing=config.label_smoothing, reduction="none"
            )

        return classify
    if isinstance(config, DenoiserStage):
        denoise = edm_model(network, config.sigma_data)

        def denoising(step: int) -> Tensor:
            batch = batches(step)
            sigma_B = (config.log_mean + config.log_std * batch.normal_B).exp()
            return edm_loss(denoise, 2 * batch.x_BCHW - 1, batch.noise_BCHW, sigma_B, config.sigma_data)

        return denoising
    model = _consistency(network, diffusion)
    distance = _distance(config.loss, earlier)
    if isinstance(config, ConsistencyStage):
        assert target is not None and diffusion.grid_N is not None
        cpu_grid_N = diffusion.grid_N
        teacher = edm_model(earlier["denoiser"], diffusion.sigma_data)
        following = _consistency(target, diffusion)

        def distilling(step: int) -> Tensor:
            batch = batches(step)
            grid_N = cpu_grid_N.to(batch.x_BCHW.device)
            step_B = (batch.uniform_B * (len(grid_N) - 1)).long()
            return distillation_loss(
                model, following, teacher, distance, 2 * batch.x_BCHW - 1, batch.noise_BCHW, grid_N, step_B
            )

        return distilling
    levels = 2 * torch.tensor(config.sigmas, dtype=torch.float64)

    def finetuning(step: int) -> Tensor:
        batch = batches(step)
        sigma_B = levels.to(batch.uniform_B.device)[(batch.uniform_B * len(levels)).long()]
        time_B = diffusion.snapped(sigma_B) if config.time == "snapped" else sigma_B
        return finetune_loss(model, distance, 2 * batch.x_BCHW - 1, batch.noise_BCHW, sigma_B, time_B)

    return finetuning


def purifier_of(
    config: StageConfig, network: nn.Module, diffusion: Diffusion
) -> Callable[[Tensor, float], Tensor]:
    """How a trained network purifies images [B, C, H, W] at a noise level, both in model units."""
    if isinstance(config, DenoiserStage):
        denoise = edm_model(network, diffusion.sigma_data)
        return lambda x, sigma: denoise(x, torch.tensor(sigma))
    model = _consistency(network, diffusion)
    exact = isinstance(config, FinetuneStage) and config.time == "exact"
    return lambda x, sigma: model(
        x, torch.tensor(sigma) if exact else diffusion.snapped(torch.tensor([sigma]))[0]
    )


def _consistency(network: nn.Module, diffusion: Diffusion) -> Model:
    return consistency_model(network, diffusion.sigma_data, diffusion.sigma_min)


def _distance(name: str, earlier: Networks) -> Distance:
    if name == "lpips":
        classifier = earlier["classifier"]
        return distances.lpips_on(lambda x_BCHW: features_of(classifier, x_BCHW))
    return {"l1": distances.l1, "l2": distances.l2}[name]

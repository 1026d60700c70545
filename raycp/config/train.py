"""The configuration of `raycp train`: stages that are trained one after the other in one Ray Train job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raycp.config.base import Float, Frozen
from raycp.config.certify import Sigma
from raycp.config.data import DataConfig

Positive = Annotated[Float, Field(gt=0)]
Distance = Literal["lpips", "l1", "l2"]


class _Stage(Frozen):
    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(128, ge=1)
    """Images per step, over all workers."""
    optimizer: Literal["adamw", "radam"] = "adamw"
    learning_rate: Positive = 2e-3
    """Peak rate; warmed up linearly, then decayed to 0 by half a cosine."""
    warmup_steps: int = Field(20, ge=0)
    weight_decay: Annotated[Float, Field(ge=0)] = 0.0
    """Decoupled from the gradient."""
    ema_decay: Annotated[Float, Field(ge=0, lt=1)] = 0.99
    """Decay of the average of the weights, which is what is kept."""
    clip_norm: Positive = 1.0
    """Largest norm of the gradient."""
    max_shift: int = Field(0, ge=0)
    """Random shifts of the images, at most this many pixels each way."""


class ClassifierStage(_Stage):
    """A residual classifier on clean images."""

    stage: Literal["classifier"]
    widths: tuple[int, ...] = Field((16, 32), min_length=1)
    """Channels of its stages."""
    blocks: int = Field(1, ge=1)
    """Residual blocks per stage."""
    groups: int = Field(8, ge=1)
    """Groups of its normalisations."""
    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = 0.05


class DenoiserStage(_Stage):
    """An EDM denoiser (Karras et al. 2022), whose network the consistency model inherits."""

    stage: Literal["denoiser"]
    block_out_channels: tuple[int, ...] = Field((16, 32), min_length=1)
    """Channels of the U-Net at each resolution."""
    layers_per_block: int = Field(1, ge=1)
    norm_num_groups: int = Field(8, ge=1)
    sigma_data: Positive = 0.5
    """Standard deviation of the data, [-1,1] units."""
    log_mean: Float = -1.2
    """P_mean: mean of ln sigma, [-1,1] units."""
    log_std: Positive = 1.2
    """P_std: standard deviation of ln sigma."""


class ConsistencyStage(_Stage):
    """Consistency distillation from the denoiser (Song et al. 2023, Algorithm 2)."""

    stage: Literal["consistency"]
    num_steps: int = Field(18, ge=2)
    """Times N of the grid."""
    sigma_min: Positive = 0.002
    """Smallest time, [-1,1] units."""
    sigma_max: Positive = 80.0
    """Largest time, [-1,1] units."""
    rho: Positive = 7.0
    loss: Distance = "lpips"
    target_decay: Annotated[Float, Field(ge=0, lt=1)] = 0.95
    """Decay of the target network."""


class FinetuneStage(_Stage):
    """Consistency fine-tuning (Li et al. 2024): the purified image shall look like the clean one."""

    stage: Literal["finetune"]
    sigmas: tuple[Sigma, ...] = Field((0.25, 0.5, 1.0), min_length=1)
    """Noise levels, pixel units, drawn uniformly."""
    time: Literal["snapped", "exact"] = "snapped"
    """The time the network is conditioned on; the noise always has the exact level."""
    loss: Distance = "lpips"


StageConfig = Annotated[
    ClassifierStage | DenoiserStage | ConsistencyStage | FinetuneStage, Field(discriminator="stage")
]


class TrainEngine(Frozen):
    """Where training runs."""

    address: str | None = None
    """Address of a running Ray cluster; null starts a local one."""
    workers: int = Field(2, ge=1)
    """Data-parallel workers."""
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: Annotated[Float, Field(ge=0)] = 0.0
    checkpoint_steps: int = Field(500, ge=1)
    """Steps between two checkpoints; every stage also ends with one."""
    max_failures: int = Field(2, ge=0)
    """Lost workers after which the job goes on from its last checkpoint."""


class TrainConfig(Frozen):
    """Everything `raycp train` needs to know."""

    data: DataConfig
    """Training images."""
    validation: DataConfig | None = None
    """Held-out images, on which each stage is measured at its end."""
    validation_sigmas: tuple[Sigma, ...] = (0.25, 0.5, 1.0)
    """Noise levels, pixel units, at which purification is measured."""
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    """Trained in this order; each leaves RUN/models/NAME."""
    seed: int = Field(0, ge=0, lt=2**63)
    engine: TrainEngine = TrainEngine()

    @model_validator(mode="after")
    def _complete(self) -> TrainConfig:
        names = [stage.stage for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stages must not repeat, got {names}.")
        self._check_levels()
        for position, stage in enumerate(self.stages):
            for needed in _needs(stage):
                if needed not in names[:position]:
                    raise ValueError(
                        f"stages: {stage.stage} needs the stage {needed} before it, got {names}."
                    )
            if stage.batch_size % self.engine.workers:
                raise ValueError(
                    f"stages: the batch_size of {stage.stage}, {stage.batch_size}, must be a multiple of "
                    f"engine.workers, {self.engine.workers}."
                )
        return self

    def _check_levels(self) -> None:
        """The consistency model must have been trained at the noise it is asked to take off."""
        for consistency in self.stages:
            if not isinstance(consistency, ConsistencyStage):
                continue
            low, high = consistency.sigma_min, consistency.sigma_max
            if low >= high:
                raise ValueError(f"stages: sigma_min must be below sigma_max, got {low:g} and {high:g}.")
            tuned = [
                sigma for stage in self.stages if isinstance(stage, FinetuneStage) for sigma in stage.sigmas
            ]
            for sigma in (*tuned, *(self.validation_sigmas if self.validation else ())):
                if not low <= 2 * sigma <= high:
                    raise ValueError(
                        f"stages: sigma {sigma:g} is {2 * sigma:g} in [-1,1] units, outside the consistency model's "
                        f"sigma_min {low:g} to sigma_max {high:g}."
                    )


def _needs(stage: _Stage) -> list[str]:
    """The stages whose models this one uses."""
    needed = {ConsistencyStage: ["denoiser"], FinetuneStage: ["consistency"]}.get(type(stage), [])
    perceptual = isinstance(stage, ConsistencyStage | FinetuneStage) and stage.loss == "lpips"
    return [*needed, *(["classifier"] if perceptual else [])]

"""The configuration of `raycp train`: stages that are trained one after the other in one Ray Train job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from raycp.config.base import Float, Frozen, Location
from raycp.config.certify import Sigma
from raycp.config.data import DataConfig, FolderData, ParquetData
from raycp.config.models import ClassifierConfig
from raycp.config.perceptual import Backbone
from raycp.config.stages import (
    DDPM_SIGMA_MAX,
    CalibrateStage,
    ClassifierStage,
    ConsistencyStage,
    DDPMStage,
    FinetuneStage,
    ModelName,
    Positive,
    StageConfig,
    needs,
)


class Streaming(Frozen):
    """Training images stay in their files, for sets that do not fit into memory.

    Each worker reads and decodes its share ahead of the steps, through Ray Data. Every image occurs once per epoch.
    """

    window: int = Field(16384, ge=1)
    """Images that are shuffled together, roughly: those of a few row groups; a reader holds them as they are stored."""


class TrainEngine(Frozen):
    """Where training runs."""

    address: str | None = None
    """Address of a running Ray cluster; null starts a local one."""
    dashboard: bool = False
    """Start the Ray dashboard with the local cluster."""
    workers: int = Field(2, ge=1)
    """Data-parallel workers."""
    min_workers: int | None = Field(None, ge=1)
    """Elastic training: go on with as few as this while nodes are missing, up to `workers`; null: always `workers`."""
    cpus_per_worker: Positive = 1.0
    gpus_per_worker: Annotated[Float, Field(ge=0)] = 0.0
    checkpoint_steps: int = Field(500, ge=1)
    """Steps between two checkpoints; every stage also ends with one."""
    log_steps: int = Field(20, ge=1)
    """Steps between two points of the loss curve, each a mean over them."""
    validation_steps: int | None = Field(None, ge=1)
    """Steps between two validations; null: at the end of each stage alone."""
    start_timeout: Annotated[Float, Field(ge=0)] = 0.0
    """Seconds to wait for nodes, such as an autoscaler's, that the workers need; 0: the cluster must have them."""
    max_failures: int = Field(2, ge=0)
    """Losses of workers at work after which the job goes on from its last checkpoint; as many at the start again."""
    readers: int = Field(2, ge=1)
    """With streaming: tasks of each worker that read and decode, a window each, on what the training leaves idle."""

    @model_validator(mode="after")
    def _elastic_upwards(self) -> TrainEngine:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers must be at most workers, {self.workers}, got {self.min_workers}.")
        return self

    @property
    def counts(self) -> range:
        """The numbers of workers that there may be."""
        return range(self.workers if self.min_workers is None else self.min_workers, self.workers + 1)


class TrainedModel(Frozen):
    """A model that was trained before: a directory that `raycp train` left, or one of the same form."""

    path: Location


def _form(model: Any) -> str:
    """A mapping on the way in, a model on the way back: a classifier's section has a kind."""
    has_kind = "kind" in model if isinstance(model, Mapping) else hasattr(model, "kind")
    return "section" if has_kind else "trained"


ParentModel = Annotated[
    Annotated[TrainedModel, Tag("trained")] | Annotated[ClassifierConfig, Tag("section")],
    Discriminator(_form),
]


class TrainConfig(Frozen):
    """Everything `raycp train` needs to know."""

    data: DataConfig
    """Training images."""
    streaming: Streaming | None = None
    """Leave them in their files, which all nodes see under the same path; null reads them once, into memory."""
    validation: DataConfig | None = None
    """Held-out images, on which each stage is measured while it trains (engine.validation_steps) and at its end."""
    validation_sigmas: tuple[Sigma, ...] = (0.25, 0.5, 1.0)
    """Noise levels, pixel units, at which purification is measured."""
    validation_classifier: ModelName = "classifier"
    """The classifier that looks at purified images, where there is one."""
    validation_perceptual: Backbone | None = None
    """Backbone of the LPIPS that is measured; null: the features of validation_classifier, where there is one."""
    validation_draws: int = Field(4, ge=1)
    """Draws of noise for each image and noise level."""
    models: dict[ModelName, ParentModel] = {}
    """Models of other trainings that stages may name, and classifiers as a run has them in its section `classifier`."""
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    """Trained in this order; each leaves RUN/models/NAME."""
    seed: int = Field(0, ge=0, lt=2**63)
    engine: TrainEngine = TrainEngine()

    @model_validator(mode="after")
    def _complete(self) -> TrainConfig:
        if self.streaming is not None and not isinstance(self.data, ParquetData | FolderData):
            raise ValueError(
                f"streaming must be null for data.name {self.data.name}, which is only read whole; parquet and "
                "folder data can stream."
            )
        names = [*self.models, *(stage.name for stage in self.stages)]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(
                f"stages and models: {repeated[0]} must not repeat, got {names}. Give a stage another name."
            )
        for position, stage in enumerate(self.stages):
            before = {earlier.name: earlier.stage for earlier in self.stages[:position]}
            for key, kinds in needs(stage).items():
                needed = getattr(stage, key)
                if needed not in before and needed not in self.models:
                    raise ValueError(
                        f"stages: {key} of {stage.name} is {needed}, which must be a stage before it or one of models, "
                        f"got {[*self.models, *before]}."
                    )
                if before.get(needed, kinds[0]) not in kinds:
                    raise ValueError(
                        f"stages: {key} of {stage.name} must be a {' or '.join(kinds)} stage; {needed} is a "
                        f"{before[needed]} stage."
                    )
            self._divides(stage)
        problem = level_problem(self, {})
        if problem:
            raise ValueError(problem)
        return self

    def _divides(self, stage: StageConfig) -> None:
        """Every worker must get the same share, whatever number of them there may be."""
        for workers in self.engine.counts:
            if stage.batch_size % workers:
                number = f"engine.workers, {workers}"
                if self.engine.min_workers is not None:
                    number = (
                        f"every number from engine.min_workers to workers, {_spelled(self.engine.counts)}"
                    )
                raise ValueError(
                    f"stages: the batch_size of {stage.name}, {stage.batch_size}, must be a multiple of {number}, for "
                    f"example {_nearest(stage.batch_size, math.lcm(*self.engine.counts))}."
                )
            if stage.batch_size // workers % stage.accumulate:
                raise ValueError(
                    f"stages: the share of a worker in the batch of {stage.name}, {stage.batch_size} / {workers}, must "
                    f"be a multiple of accumulate, {stage.accumulate}."
                )


def _spelled(counts: range) -> str:
    return ", ".join(str(count) for count in counts)


def _nearest(value: int, factor: int) -> int:
    """The multiple of `factor` nearest to `value`, but not 0."""
    return max(factor, round(value / factor) * factor)


def level_problem(config: TrainConfig, parents: Mapping[str, tuple[float, float]]) -> str | None:
    """What a consistency model or a DDPM is asked to take off without having been trained at it; None if nothing.

    Args:
        config: of the training.
        parents: sigma_min and sigma_max, [-1,1] units, of the models of those kinds among `config.models`.
    """
    bounds = dict(parents)
    for stage in config.stages:
        asked: list[tuple[str, float]] = []
        if isinstance(stage, ConsistencyStage):
            model = stage.name
            bounds[model] = (stage.sigma_min, stage.sigma_max)
        elif isinstance(stage, DDPMStage):
            model = stage.name
            bounds[model] = (0.0, 2 * (stage.max_sigma or DDPM_SIGMA_MAX))
        elif isinstance(stage, FinetuneStage | CalibrateStage) and stage.start in bounds:
            model = stage.name
            bounds[model] = bounds[stage.start]
            asked = [(f"sigmas of {model}", sigma) for sigma in stage.sigmas]
        elif isinstance(stage, ClassifierStage) and stage.purifier in bounds:
            model = stage.purifier
            asked = [(f"noise_sigma of {stage.name}", stage.noise_sigma)]
        else:
            continue
        if config.validation is not None and not isinstance(stage, ClassifierStage):
            asked += [("validation_sigmas", sigma) for sigma in config.validation_sigmas]
        low, high = bounds[model]
        for key, sigma in asked:
            if not low <= 2 * sigma <= high:
                return (
                    f"stages: {key} has {sigma:g}, {2 * sigma:g} in [-1,1] units, outside {low:g} to "
                    f"{high:g}, the noise that {model} is trained on; allowed are {low / 2:g} to {high / 2:g}."
                )
    return None

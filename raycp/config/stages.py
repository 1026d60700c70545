"""The stages of `raycp train`: what each trains, from which models, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raycp.config.base import Float, Frozen
from raycp.config.certify import Sigma
from raycp.config.perceptual import Backbone

Positive = Annotated[Float, Field(gt=0)]
Distance = Literal["lpips", "l1", "l2"]
DDPM_SIGMA_MAX = 78.0
"""Largest noise of a DDPM, pixel units: the linear schedule ends there (78.7), the cosine schedule far beyond."""


ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
"""A stage's model, or one that was trained before (`models`)."""


Perceptual = ModelName | Backbone


class _Stage(Frozen):
    name: ModelName
    """Of the model it leaves, RUN/models/NAME; by default the kind of stage."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    batch_size: int = Field(128, ge=1)
    """Images per step, over all workers."""
    optimizer: Literal["adamw", "radam", "muon"] = "adamw"
    """muon (Jordan et al. 2024) learns most in few steps; it moves the kernels of convolutions, and AdamW the rest."""
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
    flip: bool = False
    """Random reflections of the images, left to right."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a worker goes through its share of a batch, to save memory; the gradient is that of the whole."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the networks under autocast; weights and optimiser stay float32."""
    channels_last: bool = False
    """Memory format of the network."""

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_kind(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("name") is None and "stage" in raw:
            return {**raw, "name": raw["stage"]}
        return raw


_RESIDUAL = {"widths": (16, 32), "blocks": 1, "groups": 8}


class ClassifierStage(_Stage):
    """A classifier: on clean images, on noisy ones, or on purified ones."""

    stage: Literal["classifier"]
    start: ModelName | None = None
    """The classifier to go on from, of any kind; null: a residual network of the shape below, with random weights."""
    noise_sigma: Annotated[Float, Field(ge=0)] = 0.0
    """Gaussian noise it is trained on (Cohen et al. 2019), pixel units; 0: none."""
    purifier: ModelName | None = None
    """Purifies the noisy images before the classifier sees them; null: none."""
    copies: int = Field(1, ge=1)
    """Noisy copies of each image."""
    consistency_weight: Annotated[Float, Field(ge=0)] = 0.0
    """lambda of the consistency regularisation over the copies (Jeong & Shin 2020); 0: none."""
    entropy_weight: Annotated[Float, Field(ge=0)] = 0.5
    """eta of the consistency regularisation."""
    widths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    """Channels of the stages of a new network; by default 16, 32."""
    blocks: int | None = Field(None, ge=1)
    """Its residual blocks per stage; by default 1."""
    groups: int | None = Field(None, ge=1)
    """Groups of its normalisations; by default 8."""
    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    """Unused with consistency regularisation."""

    @model_validator(mode="before")
    @classmethod
    def _default_shape(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("start") is not None:
            return raw
        return {**raw, **{key: value for key, value in _RESIDUAL.items() if raw.get(key) is None}}

    @model_validator(mode="after")
    def _shape_of_a_new_network(self) -> ClassifierStage:
        given = [key for key in _RESIDUAL if getattr(self, key) is not None]
        if self.start is not None and given:
            raise ValueError(
                f"{given[0]} must be left out where there is a start, {self.start}, whose network is trained on; got "
                f"{getattr(self, given[0])}."
            )
        if self.widths and self.groups and any(width % self.groups for width in self.widths):
            raise ValueError(f"widths must be multiples of groups, {self.groups}, got {list(self.widths)}.")
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """Widths, blocks and groups of a new network."""
        return {key: getattr(self, key) for key in _RESIDUAL}

    @model_validator(mode="after")
    def _noise_where_it_is_needed(self) -> ClassifierStage:
        if self.noise_sigma == 0 and (
            self.copies > 1 or self.purifier is not None or self.consistency_weight
        ):
            raise ValueError(
                "noise_sigma must be above 0 where there is a purifier, several copies or consistency_weight."
            )
        if self.consistency_weight and (self.copies < 2 or self.purifier is not None):
            raise ValueError(
                "consistency_weight compares several noisy copies: copies must be at least 2 and purifier null, "
                f"got copies {self.copies} and purifier {self.purifier}."
            )
        return self


_UNET = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "sigma_data": 0.5}


class _UNetStage(_Stage):
    """A stage that makes a U-Net of random weights; null stands for the default, or for what a teacher has."""

    block_out_channels: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    """Channels of the U-Net at each resolution; by default 16, 32."""
    layers_per_block: int | None = Field(None, ge=1)
    """By default 1."""
    norm_num_groups: int | None = Field(None, ge=1)
    """Groups of its normalisations; by default 8."""

    @model_validator(mode="before")
    @classmethod
    def _default_shape(cls, raw: Any) -> Any:
        teacher = cls.model_fields.get("teacher")
        if not isinstance(raw, dict) or raw.get("start") is not None:
            return raw
        if teacher is None or raw.get("teacher", teacher.default) is None:
            keys = [key for key in _UNET if key in cls.model_fields and raw.get(key) is None]
            return {**raw, **{key: _UNET[key] for key in keys}}
        return raw

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Self:
        channels, groups = self.block_out_channels, self.norm_num_groups
        if channels is not None and groups is not None and any(width % groups for width in channels):
            raise ValueError(
                f"block_out_channels must be multiples of norm_num_groups, {groups}, got {list(channels)}."
            )
        return self


class _PreconditionedStage(_UNetStage):
    """Its U-Net is scaled by the noise level and the spread of the data (Karras et al. 2022)."""

    sigma_data: Positive | None = None
    """Standard deviation of the data, [-1,1] units; by default 0.5."""


class DenoiserStage(_PreconditionedStage):
    """An EDM denoiser (Karras et al. 2022), whose network the consistency model inherits."""

    stage: Literal["denoiser"]
    log_mean: Float = -1.2
    """P_mean: mean of ln sigma, [-1,1] units."""
    log_std: Positive = 1.2
    """P_std: standard deviation of ln sigma."""


class DDPMStage(_UNetStage):
    """A DDPM (Ho et al. 2020): a network that predicts the noise, for one-step denoising (Carlini et al. 2022)."""

    stage: Literal["ddpm"]
    schedule: Literal["linear", "cosine"] = "cosine"
    """cosine: 4,000 steps (Nichol & Dhariwal 2021); linear: 1,000 steps, betas from 1e-4 to 0.02 (Ho et al. 2020)."""
    max_sigma: Annotated[Float, Field(gt=0, le=DDPM_SIGMA_MAX)] | None = None
    """Largest noise it is trained on, pixel units: steps beyond are never drawn; null: all steps of the schedule."""


class ConsistencyStage(_PreconditionedStage):
    """A consistency model (Song et al. 2023, Algorithm 2 or 3); the shape of its network is that of its teacher."""

    stage: Literal["consistency"]
    start: ModelName | None = None
    """The consistency model to go on from; null: the weights of the teacher, or random ones."""
    teacher: ModelName | None = "denoiser"
    """The EDM denoiser that it starts from, and is distilled from; null, for method training: random weights."""
    method: Literal["distillation", "training"] = "distillation"
    """distillation: along the teacher's ODE; training: along the noise itself (Song et al. 2023, Algorithm 3)."""
    num_steps: int = Field(18, ge=2)
    """Times N of the grid."""
    sigma_min: Positive = 0.002
    """Smallest time, [-1,1] units."""
    sigma_max: Positive = 80.0
    """Largest time, [-1,1] units."""
    rho: Positive = 7.0
    loss: Distance = "lpips"
    perceptual: Perceptual = "classifier"
    """Whose features lpips compares: a classifier of the domain, by name, or an ImageNet backbone."""
    target_decay: Annotated[Float, Field(ge=0, lt=1)] = 0.95
    """Decay of the target network."""

    @model_validator(mode="after")
    def _from_a_teacher_or_from_nothing(self) -> ConsistencyStage:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min must be below sigma_max, got {self.sigma_min:g} and {self.sigma_max:g}."
            )
        if self.teacher is None and self.method == "distillation":
            raise ValueError(
                "teacher must name a denoiser for method distillation; only training does without."
            )
        if self.start and self.teacher and self.method == "training":
            raise ValueError(
                f"teacher must be null for method training from start, {self.start}: nothing would be taken from it; "
                f"got {self.teacher}."
            )
        inherited = self.start or self.teacher
        given = [key for key in _UNET if getattr(self, key) is not None]
        if inherited and given:
            key = "start" if self.start else "teacher"
            raise ValueError(
                f"{given[0]} must be left out where there is a {key}, {inherited}, whose network is inherited; "
                f"got {getattr(self, given[0])}. For a network of its own: method training and teacher null."
            )
        return self


class FinetuneStage(_Stage):
    """Consistency fine-tuning (Li et al. 2024): the purified image shall look like the clean one."""

    stage: Literal["finetune"]
    start: ModelName = "consistency"
    """The consistency model to fine-tune."""
    sigmas: tuple[Sigma, ...] = Field((0.25, 0.5, 1.0), min_length=1)
    """Noise levels, pixel units, drawn uniformly."""
    continuous: bool = False
    """Draw the noise level uniformly between 0 and the largest of `sigmas` instead, as in the paper's ablation."""
    time: Literal["snapped", "exact"] = "snapped"
    """The time the network is conditioned on; the noise always has the exact level."""
    loss: Distance = "lpips"
    perceptual: Perceptual = "classifier"
    """Whose features lpips compares: a classifier of the domain, by name, or an ImageNet backbone."""


class CalibrateStage(_Stage):
    """Diffusion calibration (after Jeong & Shin 2023): consistent where a classifier recovers the image, else diverse.

    Leaves a model of the kind that it starts from. docs/calibration.md says what of it is a reconstruction.
    """

    stage: Literal["calibrate"]
    start: ModelName = "denoiser"
    """The EDM denoiser or consistency model to fine-tune."""
    classifier: ModelName = "classifier"
    """The classifier that guides it, frozen."""
    sigmas: tuple[Sigma, ...] = Field((0.25, 0.5, 1.0), min_length=1)
    """Noise levels, pixel units, drawn uniformly."""
    copies: int = Field(2, ge=2)
    """Noisy copies of each image, compared with each other."""
    denoising_weight: Annotated[Float, Field(ge=0)] = 1.0
    """Of the squared error of the denoised image, with the EDM weighting."""
    brier_weight: Annotated[Float, Field(ge=0)] = 1.0
    """Of the Brier score of the classifier on denoised images against the label."""
    anti_consistency_weight: Annotated[Float, Field(ge=0)] = 1.0
    """Of the agreement of copies on a wrong class, where the image is not recoverable."""

    @model_validator(mode="after")
    def _guided(self) -> CalibrateStage:
        if self.brier_weight == self.anti_consistency_weight == 0:
            raise ValueError(
                "brier_weight or anti_consistency_weight must be above 0, got 0 and 0: the classifier would not guide "
                "anything; a denoiser stage trains on the squared error alone."
            )
        return self


StageConfig = Annotated[
    ClassifierStage | DenoiserStage | DDPMStage | ConsistencyStage | FinetuneStage | CalibrateStage,
    Field(discriminator="stage"),
]


_CALIBRATED = ("denoiser", "consistency", "finetune", "calibrate")


def needs(stage: StageConfig) -> dict[str, tuple[str, ...]]:
    """The keys that name models this stage uses, and the kinds of stage that make them."""
    if isinstance(stage, ClassifierStage):
        kinds = {"start": ("classifier",), "purifier": (*_CALIBRATED, "ddpm")}
        return {key: kind for key, kind in kinds.items() if getattr(stage, key) is not None}
    if isinstance(stage, ConsistencyStage):
        kinds = {"start": ("consistency", "finetune"), "teacher": ("denoiser",)}
        needed = {key: kind for key, kind in kinds.items() if getattr(stage, key) is not None}
    elif isinstance(stage, FinetuneStage):
        needed = {"start": ("consistency", "finetune")}
    elif isinstance(stage, CalibrateStage):
        return {"start": _CALIBRATED, "classifier": ("classifier",)}
    else:
        return {}
    features = {"perceptual": ("classifier",)} if isinstance(stage.perceptual, str) else {}
    return needed | (features if stage.loss == "lpips" else {})


def backbone_of(stage: StageConfig) -> Backbone | None:
    """The ImageNet backbone of a stage's loss, if it has one."""
    if isinstance(stage, ConsistencyStage | FinetuneStage) and stage.loss == "lpips":
        return stage.perceptual if isinstance(stage.perceptual, Backbone) else None
    return None

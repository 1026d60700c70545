"""The configuration of `raycp certify`, `raycp predict` and `raycp evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raycp.config.base import Float, Frozen
from raycp.config.data import DataConfig
from raycp.config.evaluate import EvaluateProtocol
from raycp.config.models import ClassifierConfig, PurifierConfig

_LEAST_ALPHA = 1e-9
DEFAULT_RADII = (0.0, 0.25, 0.5, 0.75, 1.0)

Sigma = Annotated[Float, Field(gt=0)]
Probability = Annotated[Float, Field(gt=0, lt=1)]


class Sequential(Frozen):
    """When the rules other than `fixed` look at the counts, and when they stop. Fixed before the first sample."""

    first_look: int = Field(100, ge=1)
    """Samples at the first look."""
    growth: Annotated[Float, Field(gt=1, le=10)] = 1.15
    """Ratio of the samples at two looks."""
    looks: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(None, min_length=1)
    """Samples at every look, the last one num_estimation; null: from first_look and growth."""
    last_share: Annotated[Float, Field(gt=0, le=1)] | None = None
    """Share of alpha kept for the last look; null: 0.3 for decide, 0.5 for anytime."""
    exchange: Annotated[Float, Field(gt=0)] = 1.0
    """decide gives a radius up once going on costs more than this many times N samples per certificate gained."""
    tolerance: Annotated[Float, Field(ge=0)] = 0.05
    """anytime and e_process stop once at most this much radius is to be gained by going on to N; unit: sigma."""
    step: Annotated[Float, Field(gt=0, le=1)] = 0.01
    """Distance of the radii that decide and anytime can certify, beside those of the table; unit: sigma."""

    def share_of_last_look(self, rule: str) -> float:
        """The share of alpha in force."""
        if self.last_share is not None:
            return self.last_share
        return 0.3 if rule == "decide" else 0.5


OF_EVERY_SAMPLE = ("sigmas", "noise", "seed")
"""Keys of the section `certify` that commands without certificates use, too."""


class CertifyProtocol(Frozen):
    """Cohen et al. 2019 (arXiv 1902.02918), CERTIFY, and its sequential variants."""

    sigmas: tuple[Sigma, ...] = Field((0.25, 0.5, 1.0), min_length=1)
    """Standard deviations of the smoothing noise, pixel units (images in [0,1])."""
    num_selection: int = Field(100, ge=1)
    """N0: samples that select the class."""
    num_estimation: int = Field(100_000, ge=1)
    """N: fresh samples that bound its probability."""
    alpha: Probability = 0.001
    """Failure probability of one certificate."""
    rule: Literal["fixed", "decide", "anytime", "e_process"] = "fixed"
    """fixed: N samples for every image; decide: until every radius of the table is decided; anytime: until the radius
    is known to a tolerance; e_process: as anytime, and num_estimation may be raised later."""
    sequential: Sequential = Sequential()
    """Looks and stopping of the rules other than fixed."""
    bound: Literal["one_sided", "two_class"] = "one_sided"
    """one_sided: p_B <= 1 - p_A (published tables); two_class: both bounded, alpha/2 each. Choose before looking."""
    skip_wrong: bool = False
    """Draw no estimation samples for images whose selected class is not their label."""
    radii: tuple[Annotated[Float, Field(ge=0)], ...] | None = None
    """L2 radii of the table, pixel units; null: 0, .25, .5, .75, 1.0 less those that N cannot certify."""
    noise: Literal["sound", "float"] = "sound"
    """sound: integer Gaussian on the 1/255 grid; float: the literal x + sigma n in float32 (unsound in theory)."""
    seed: int = Field(0, ge=0, lt=2**64)
    """Key of every random number of the run."""

    @model_validator(mode="after")
    def _no_repeats(self) -> CertifyProtocol:
        if len(set(self.sigmas)) != len(self.sigmas):
            raise ValueError(f"sigmas must not repeat a value, got {list(self.sigmas)}.")
        return self

    @model_validator(mode="after")
    def _one_sided_when_sequential(self) -> CertifyProtocol:
        if self.rule != "fixed" and self.bound != "one_sided":
            raise ValueError(
                f"bound: {self.bound} goes with rule: fixed alone; rule: {self.rule} tests p_A by itself. Set bound to "
                "one_sided."
            )
        if self.rule in ("decide", "anytime") and self.alpha < _LEAST_ALPHA:
            raise ValueError(
                f"alpha must be at least {_LEAST_ALPHA:g} with rule: {self.rule}, whose exact sums are rounded at "
                f"1e-11, got {self.alpha:g}. Take a larger one, or rule: fixed."
            )
        if self.sequential.looks is not None and self.rule == "e_process":
            raise ValueError("sequential.looks must be null with rule: e_process, which has no last look.")
        return self


class PredictProtocol(Frozen):
    """Cohen et al. 2019, PREDICT: the class of the smoothed classifier, or abstention."""

    num_samples: int = Field(1_000, ge=1)
    """Samples per image."""
    alpha: Probability = 0.001
    """Probability of returning a class other than the smoothed classifier's."""


class Numerics(Frozen):
    """How the base classifier is executed: part of the function that is certified."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda exactly when engine.gpus_per_replica is above 0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the networks under autocast; noise and quantisation stay exact."""
    batch_size: int | Literal["auto"] = "auto"
    """The one batch shape of the run; auto measures on the first replica and records the choice."""
    threads: int = Field(1, ge=1)
    """CPU threads per replica."""
    channels_last: bool | None = None
    """Memory format of the networks; null: on a GPU, where it is faster, and not on a CPU, where it was slower."""
    compile: bool = False
    """torch.compile the networks."""

    @model_validator(mode="after")
    def _positive_batch(self) -> Numerics:
        if self.batch_size != "auto" and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 or auto, got {self.batch_size}.")
        return self


class Engine(Frozen):
    """Where and how fast the work runs. Nothing here changes a certificate."""

    address: str | None = None
    """Address of a running Ray cluster (`auto`, `host:port`); null starts a local one."""
    replicas: int | None = Field(None, ge=1)
    """Most replicas at a time; null: as many as the cluster has room for."""
    min_replicas: int | None = Field(None, ge=1)
    """Replicas asked for even where there is no room for them yet, so that an autoscaler brings it; null: one."""
    cpus_per_replica: Annotated[Float, Field(gt=0)] = 1.0
    gpus_per_replica: Annotated[Float, Field(ge=0)] = 0.0
    local_cpus: int | None = Field(None, ge=1)
    """CPUs of the local cluster; null: all of this machine."""
    dashboard: bool = False
    """Start the Ray dashboard with the local cluster."""
    tasks_in_flight: int = Field(2, ge=1, le=8)
    """Tasks a replica holds at a time: one running, the others waiting."""
    task_seconds: Annotated[Float, Field(gt=0)] = 2.0
    """Duration the task size is steered to."""
    max_attempts: int = Field(3, ge=1)
    """Tries of one block before its error ends the run."""
    start_timeout: Annotated[Float, Field(gt=0)] = 300.0
    """Seconds to wait for the first replica."""
    idle_seconds: Annotated[Float, Field(gt=0)] = 15.0
    """After this long without work, at the tail of a run, a replica gives its place back to the cluster."""
    flush_seconds: Annotated[Float, Field(gt=0)] = 5.0
    """Seconds between two ledger files."""

    @model_validator(mode="after")
    def _from_fewest_to_most(self) -> Engine:
        if self.min_replicas is not None and self.replicas is not None and self.min_replicas > self.replicas:
            raise ValueError(
                f"min_replicas must be at most replicas, {self.replicas}, got {self.min_replicas}."
            )
        return self


class Composition(Frozen):
    """ACES (Horvath et al. 2022, arXiv 2204.00487): where the base classifier is unsure, a core classifier answers."""

    threshold: Annotated[Float, Field(ge=0, le=1)]
    """Entropy of the base classifier's softmax on a noisy image, in units of log K, up to which it counts as sure. The
    smoothed classifier answers where that holds with probability above 1/2."""
    core: ClassifierConfig
    """Answers elsewhere; sees the image itself, without noise and purifier."""


class RunConfig(Frozen):
    """Everything `raycp certify` needs to know; `predict` and `evaluate` are for the commands of these names."""

    data: DataConfig
    purifier: PurifierConfig
    classifier: ClassifierConfig
    certify: CertifyProtocol = CertifyProtocol()
    predict: PredictProtocol = PredictProtocol()
    evaluate: EvaluateProtocol = EvaluateProtocol()
    composition: Composition | None = None
    """Certify and predict a composition with a core classifier; null: the smoothed classifier alone. `evaluate`
    measures purifier and classifier, in which it has no part."""
    numerics: Numerics = Numerics()
    engine: Engine = Engine()

    @property
    def of_evaluation(self) -> RunConfig:
        """What an evaluation by this configuration is of: its images, and no composition."""
        data, evaluate = self.data, self.evaluate
        if evaluate.select is not None:
            data = data.model_copy(update={"select": evaluate.select})
            evaluate = evaluate.model_copy(update={"select": None})
        return self.model_copy(update={"data": data, "evaluate": evaluate, "composition": None})

    @model_validator(mode="after")
    def _composition_by_the_fixed_rule(self) -> RunConfig:
        if self.composition is None:
            return self
        for key, allowed in (("rule", "fixed"), ("bound", "one_sided")):
            given = getattr(self.certify, key)
            if given != allowed:
                raise ValueError(
                    f"certify.{key} must be {allowed} with a composition, got {given}: its certificate is proved for "
                    "one-sided bounds on N samples of selector and classifier, at alpha/2 each."
                )
        return self

"""Denoisers, purifiers and classifiers: what they are and where their weights lie."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raycp.config.base import Float, Frozen, Location

# `package.module:function`.
Factory = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class DenoiserModel(Frozen):
    """A diffusers `UNet2DModel` directory, with or without the pipeline around it."""

    path: Location
    """Folder with config.json and safetensors weights, or a pipeline folder with unet/ and scheduler/."""
    parametrisation: Literal["edm", "consistency", "ddpm"] | None = None
    """How the network's output becomes an image; null reads it from scheduler/scheduler_config.json."""
    sigma_data: Float | None = Field(None, gt=0)
    """Standard deviation of the data in [-1,1]; null: the scheduler's, else 0.5."""
    sigma_min: Float | None = Field(None, gt=0)
    """Smallest noise level of the model, [-1,1] units; null: the scheduler's, else 0.002."""
    sigma_max: Float | None = Field(None, gt=0)
    """Largest noise level of the model, [-1,1] units; null: the scheduler's, else 80."""
    rho: Float | None = Field(None, gt=0)
    """Exponent of the noise grid; null: the scheduler's, else 7."""
    class_label: Annotated[int, Field(ge=0)] | Literal["none", "mean", "predicted"] | None = None
    """What a class-conditional network is conditioned on: one class; none; the mean of all; or, for each sample, the
    class that the classifier gives what the mean purifies. null for unconditional networks."""

    @model_validator(mode="after")
    def _ordered(self) -> DenoiserModel:
        if self.sigma_min and self.sigma_max and self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min must be below sigma_max, got {self.sigma_min} and {self.sigma_max}.")
        return self


class NoPurifier(Frozen):
    """Plain randomized smoothing (Cohen et al. 2019): the classifier sees the noisy image."""

    kind: Literal["none"]


class DDPMPurifier(Frozen):
    """One-step DDPM denoising (Carlini et al. 2022, arXiv 2206.10550)."""

    kind: Literal["ddpm"]
    model: DenoiserModel
    timestep: Literal["search", "closed_form"] = "search"
    """search: the first step whose noise is at least 2 sigma; closed_form: DensePure's rounded cosine formula."""
    clip: bool = True
    """Clip the denoised image to [-1,1], as Carlini et al. do."""


class EDMPurifier(Frozen):
    """One-step denoising D(x; 2 sigma) by an EDM network (Karras et al. 2022, arXiv 2206.00364)."""

    kind: Literal["edm"]
    model: DenoiserModel
    clip: bool = False
    """Clip the denoised image to [-1,1]."""


class PFODEPurifier(Frozen):
    """The EDM probability-flow ODE from 2 sigma down to 0 by Heun's method."""

    kind: Literal["pf_ode"]
    model: DenoiserModel
    num_steps: int = Field(18, ge=2)
    """Noise levels of the whole grid from sigma_min to sigma_max; the solution starts inside it."""
    start: Literal["snapped", "exact"] = "snapped"
    """snapped: start at the grid level nearest to 2 sigma (published); exact: at 2 sigma itself."""
    clip: bool = False
    """Clip the denoised image to [-1,1]."""


class ConsistencyPurifier(Frozen):
    """One step of a consistency model (Li et al. 2024, arXiv 2407.00623)."""

    kind: Literal["consistency"]
    model: DenoiserModel
    time: Literal["snapped", "exact"] = "snapped"
    """snapped: condition on the grid time nearest to 2 sigma (published); exact: on 2 sigma itself."""
    num_steps: int | None = Field(None, ge=2)
    """Number of grid times N; null: the scheduler's num_train_timesteps, else 18."""
    clip: bool = False
    """Clip the purified image to [-1,1]."""


class DensePurePurifier(Frozen):
    """Draws of the reverse diffusion of each sample, and the majority of their classes.

    DensePure, Xiao et al. 2023, arXiv 2211.00322. The model is a ddpm or an edm.
    """

    kind: Literal["densepure"]
    model: DenoiserModel
    num_votes: int = Field(10, ge=1, le=1000)
    """K: draws of the reverse process per sample."""
    num_steps: int = Field(2, ge=2)
    """b: steps of each draw; a sample costs `1 + K (b - 1)` evaluations of the model, K of the classifier."""
    timestep: Literal["closed_form", "search"] = "closed_form"
    """Where a ddpm starts, see kind ddpm; edm: always the cosine schedule of 4,000 steps in closed form."""
    variance: Literal["learned", "small", "large"] = "learned"
    """Of a step: learned, as the model says; small, beta~, of data without variance; large, beta, of variance 1."""
    clip: bool = True
    """Clip the image that every step predicts to [-1,1]."""


class DiffSmoothPurifier(Frozen):
    """One-step denoising, then the mean softmax of the classifier over local Gaussian copies.

    DiffSmooth, Zhang et al. 2023, arXiv 2308.14333. The model is a ddpm or an edm, the classifier one that was trained
    under noise.
    """

    kind: Literal["diffsmooth"]
    model: DenoiserModel
    num_copies: int = Field(5, ge=1, le=1000)
    """m: copies of the denoised image."""
    local_sigma: Annotated[Float, Field(gt=0)] = 0.25
    """Standard deviation of their noise, pixel units: what the classifier was trained on, or 0.01 to 0.02 more."""
    copies: Literal["fresh", "fixed"] = "fresh"
    """fresh: noise of their own for each sample; fixed: the same m noises for all samples of the run (published)."""
    timestep: Literal["search", "closed_form"] = "search"
    """Of a ddpm; see kind ddpm."""
    clip: bool = True
    """Clip the denoised image to [-1,1], before the copies."""


class PythonPurifier(Frozen):
    """The user's own purifier, made by a function of their package; see docs/bring-your-own.md."""

    kind: Literal["python"]
    factory: Factory
    """`package.module:function`, importable where the replicas run; called with kwargs, returns a function from noisy
    images [B,C,H,W] (pixel units, not clipped) and sigma to purified images of the same shape, or a RandomPurifier."""
    kwargs: dict[str, Any] = {}
    weights: Location | None = None
    """A safetensors file or a torch file that holds tensors only, for what is an nn.Module; null keeps its own."""
    state_key: str | None = None
    """Key under which a torch file keeps its state_dict."""
    strip_prefix: str = ""
    """Prefix to take off every key, for example `module.`."""
    clip: bool = False
    """Clip the purified image to [0,1]."""


PurifierConfig = Annotated[
    NoPurifier
    | DDPMPurifier
    | EDMPurifier
    | PFODEPurifier
    | ConsistencyPurifier
    | DensePurePurifier
    | DiffSmoothPurifier
    | PythonPurifier,
    Field(discriminator="kind"),
]


class Resize(Frozen):
    """Resize inside the base classifier, after purification."""

    size: int = Field(ge=1)
    """Height and width, pixels."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bicubic"
    antialias: bool = True


class _Classifier(Frozen):
    resize: Resize | None = None
    """Resize the image first; null keeps its size."""
    mean: tuple[Float, ...] | None = None
    """Per-channel mean of pixels in [0,1], subtracted before the network; null: no normalisation."""
    std: tuple[Float, ...] | None = None
    """Per-channel standard deviation; given exactly when mean is."""

    @model_validator(mode="after")
    def _normalisation(self) -> _Classifier:
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std must be given together, with one value per channel each.")
        if self.std and min(self.std) <= 0:
            raise ValueError(f"std must be greater than 0 in every channel, got {list(self.std)}.")
        return self


class TimmClassifier(_Classifier):
    """A network of the timm library."""

    kind: Literal["timm"]
    name: str
    """Model name in timm, for example `resnet18`."""
    num_classes: int = Field(ge=2)
    in_channels: int = Field(3, ge=1)
    weights: Location | None = None
    """A safetensors (or weights-only torch) file; null with `pretrained` lets timm find its own weights."""
    pretrained: bool = False
    """Let timm load its published weights from its cache."""
    kwargs: dict[str, Any] = {}
    """Further arguments of `timm.create_model`."""

    @model_validator(mode="after")
    def _some_weights(self) -> TimmClassifier:
        if (self.weights is None) != self.pretrained:
            raise ValueError("give either weights (a file) or pretrained: true, exactly one of them.")
        return self


class DirectoryClassifier(_Classifier):
    """A classifier directory as `raycp train` writes it, of whatever kind the classifier is."""

    kind: Literal["directory"]
    path: Location


class PythonClassifier(_Classifier):
    """Any torch module made by a function of the user's own package."""

    kind: Literal["python"]
    factory: Factory
    """`package.module:function`, importable where the replicas run; called with kwargs, returns an nn.Module
    from images [B,C,H,W] (after resize and normalisation) to logits [B,K]."""
    kwargs: dict[str, Any] = {}
    num_classes: int = Field(ge=2)
    weights: Location | None = None
    """A safetensors file or a torch file that holds tensors only; null keeps what the function made."""
    state_key: str | None = None
    """Key under which a torch file keeps its state_dict."""
    strip_prefix: str = ""
    """Prefix to take off every key, for example `module.`."""


class CifarResNetClassifier(_Classifier):
    """ResNet-20 to 110 for CIFAR (He et al. 2016), of akamaster/pytorch_resnet_cifar10; the file tells which."""

    kind: Literal["cifar_resnet"]
    weights: Location
    """A `.th` file, or the same tensors as safetensors."""
    mean: tuple[Float, ...] | None = (0.485, 0.456, 0.406)
    """As the published networks were trained."""
    std: tuple[Float, ...] | None = (0.229, 0.224, 0.225)


class WideResNetClassifier(_Classifier):
    """Wide-ResNet-28-10 and its like for CIFAR, of meliketoy/wide-resnet.pytorch; the file tells which."""

    kind: Literal["wide_resnet"]
    weights: Location
    """A published `.t7` file, which holds the whole network pickled (none of it is run), or a state_dict."""
    mean: tuple[Float, ...] | None = (0.4914, 0.4822, 0.4465)
    """As in the evaluations of DensePure and of Li et al. (2024)."""
    std: tuple[Float, ...] | None = (0.2471, 0.2435, 0.2616)
    """Likewise; the repository itself trains with (0.2023, 0.1994, 0.2010)."""


class SmoothingResNetClassifier(_Classifier):
    """ResNet-110 and its like for CIFAR, of locuslab/smoothing and what came after it; the file tells which."""

    kind: Literal["smoothing_resnet"]
    weights: Location
    """A `checkpoint.pth.tar`, or its state_dict as torch or safetensors file."""
    mean: tuple[Float, ...] | None = None
    """Null, with std: what the file holds under `0.means` and `0.sds`, else the published (0.4914, 0.4822, 0.4465)."""
    std: tuple[Float, ...] | None = None
    """Published: (0.2023, 0.1994, 0.2010); [1, 1, 1] for the models of Salman et al. (2019) that only centre."""


class TorchvisionClassifier(_Classifier):
    """A classification network of torchvision."""

    kind: Literal["torchvision"]
    name: str
    """Model name in torchvision, for example `resnet50`."""
    num_classes: int = Field(ge=2)
    weights: Location
    """A safetensors (or weights-only torch) file."""
    state_key: str | None = None
    """Key under which a torch file keeps its state_dict."""
    strip_prefix: str = ""
    """Prefix to take off every key, for example `1.module.`."""
    kwargs: dict[str, Any] = {}
    """Further arguments of `torchvision.models.get_model`."""


class TransformersClassifier(_Classifier):
    """An image classifier of the transformers library, in a folder that `save_pretrained` wrote."""

    kind: Literal["transformers"]
    path: Location
    """Folder with config.json, preprocessor_config.json and model.safetensors (whole or in shards)."""
    resize: Resize | None = None
    """Null: as preprocessor_config.json says, the whole image to the size of the network's input."""
    mean: tuple[Float, ...] | None = None
    """Null, with std: as preprocessor_config.json says."""
    truncate: bool = False
    """Cut pixels to whole 255ths, towards zero, before the resize, as Li et al. (2024) do; Carlini et al. do not."""


ClassifierConfig = Annotated[
    TimmClassifier
    | DirectoryClassifier
    | TransformersClassifier
    | TorchvisionClassifier
    | CifarResNetClassifier
    | WideResNetClassifier
    | SmoothingResNetClassifier
    | PythonClassifier,
    Field(discriminator="kind"),
]

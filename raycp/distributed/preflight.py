"""What is wrong with a training before it starts: models of other trainings and images that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from raycp.config import locations
from raycp.config.stages import (
    ClassifierStage,
    ConsistencyStage,
    DDPMStage,
    DenoiserStage,
    StageConfig,
    needs,
)
from raycp.config.train import ParentModel, TrainConfig, TrainedModel, level_problem
from raycp.data import ImageSet
from raycp.data.stored import StoredImages
from raycp.distributed.trained_models import takes_model_units
from raycp.errors import DataError, ModelError, StorageError, UnsafeFileError
from raycp.maths import noise_levels
from raycp.models import Bundle, build_classifier, check_models, read_classifier, read_model
from raycp.models.place import local_folder
from raycp.models.scheduler import alphas_cumprod

Images = ImageSet | StoredImages

_KIND_OF_STAGE = {
    "classifier": "classifier",
    "denoiser": "edm",
    "ddpm": "ddpm",
    "consistency": "consistency",
    "finetune": "consistency",
    "calibrate": "edm",  # or a consistency model: it may be named only where both may
}
_WORDS = {
    "classifier": "a classifier",
    "edm": "an EDM denoiser",
    "consistency": "a consistency model",
    "ddpm": "a DDPM denoiser",
}


def read_parents(config: TrainConfig) -> dict[str, Bundle]:
    """The models of other trainings, by name.

    Raises:
        ModelError: files are missing or damaged, or a weight is NaN or infinite.
        StorageError: an object store does not answer.
        UnsafeFileError: a file would run code.
    """
    parents = {}
    for name, model in config.models.items():
        key = f"models.{name}.path" if isinstance(model, TrainedModel) else f"models.{name}"
        try:
            bundle = _read(model)
        except (ModelError, StorageError, UnsafeFileError) as err:
            raise type(err)(f"{key}: {err}") from err
        if bad := bundle.not_finite:
            raise ModelError(
                f"{key}: {len(bad)} of {len(bundle.state)} tensors in {_place(model)} hold NaN or infinite weights, "
                f"first {bad[0]}; take another model."
            )
        parents[name] = bundle
    return parents


def _read(model: ParentModel) -> Bundle:
    if not isinstance(model, TrainedModel):
        return read_classifier(model)
    if not local_folder(model.path).is_dir():
        raise ModelError(f"there is no directory {model.path}.")
    return read_model(model.path)


def _place(model: ParentModel) -> str:
    """Where a model is; of one without files, what it is."""
    return next(iter(locations(model).values()), f"of kind {getattr(model, 'kind', None)}")


def require_fit(
    config: TrainConfig, parents: dict[str, Bundle], images: Images, held_out: ImageSet | None
) -> None:
    """Check the models of other trainings, the networks to be made and the held-out images against the training images.

    Raises:
        ModelError: a model is of another kind, resolution, number of channels or classes than its use asks for, or a
            consistency model does not know a noise level; the message names the key, the model and both values.
        DataError: held-out images differ in shape or have classes that training images lack.
    """
    classes = images.num_classes
    for name, bundle in parents.items():
        _require_shape(f"models.{name} ({_place(config.models[name])})", bundle, images)
    for key, used, kinds in _uses(config):
        name = _origin(config, used)
        if name not in parents or (name != used and not key.startswith("stages: perceptual")):
            continue
        bundle, what = parents[name], f"{key} is models.{name} ({_place(config.models[name])})"
        found = _kind(bundle)
        if found not in kinds:
            allowed = " or ".join(_WORDS[kind] for kind in kinds)
            raise ModelError(f"{what}, {_WORDS[found]}; it must be {allowed}. Name another model.")
        if found == "classifier":
            _require_classifier(what, bundle, key, images)
    problem = level_problem(
        config, {n: _bounds(b) for n, b in parents.items() if _kind(b) in ("consistency", "ddpm")}
    )
    if problem:
        raise ModelError(problem)
    for stage in config.stages:
        _require_trainable(stage, images, classes)
    if held_out is not None:
        if held_out.shape != images.shape:
            raise DataError(
                f"validation: the images are {_size(held_out)}, but the training images (data) are {_size(images)}; "
                "they must agree."
            )
        if int(held_out.labels.max()) >= classes:
            raise DataError(
                f"validation: there is an image of class {int(held_out.labels.max())}, but the training images (data) "
                f"have classes 0 to {classes - 1} only; choose both from one data set."
            )


def _uses(config: TrainConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(key, name of the model, kinds it may be of) for every place that names a model."""
    for stage in config.stages:
        for key, kinds in needs(stage).items():
            allowed = tuple(dict.fromkeys(_KIND_OF_STAGE[kind] for kind in kinds))
            yield f"stages: {key} of {stage.name}", getattr(stage, key), allowed
    if config.validation is not None:
        yield "validation_classifier", config.validation_classifier, ("classifier",)


def _origin(config: TrainConfig, name: str) -> str:
    """Where a classifier's network is from: what its stage starts from, and so on back; else its own name."""
    starts = {stage.name: stage.start for stage in config.stages if isinstance(stage, ClassifierStage)}
    while (start := starts.get(name)) is not None:
        name = start
    return name


def _kind(bundle: Bundle) -> str:
    return str(bundle.recipe["schedule"]["parametrisation"]) if "schedule" in bundle.recipe else "classifier"


def _bounds(bundle: Bundle) -> tuple[float, float]:
    schedule = bundle.recipe["schedule"]
    if _kind(bundle) == "ddpm":
        levels_T = noise_levels(alphas_cumprod(schedule["betas"]))
        return float(levels_T[0]), float(levels_T[-1])
    return schedule["sigma_min"], schedule["sigma_max"]


def _require_shape(what: str, bundle: Bundle, images: Images) -> None:
    network = bundle.recipe.get("network")
    if network is None and not takes_model_units(bundle.recipe):
        _require_logits(what, bundle, images)
        return
    if network is None:
        channels, size = bundle.recipe["in_channels"], bundle.recipe["arguments"]["image_size"]
    else:
        channels, size = network["in_channels"], network["sample_size"]
    size = (size, size) if isinstance(size, int) else size
    if channels == images.shape[0] and (size is None or tuple(size) == images.shape[1:]):
        return
    height, width = size or ("any", "any")
    raise ModelError(
        f"{what} is for images of {channels} channel(s), {height}x{width} pixels, but the training images (data) are "
        f"{_size(images)}; take a model of this resolution, or train one."
    )


def _require_logits(what: str, bundle: Bundle, images: Images) -> None:
    """One image through a classifier that finds its own way from pixels to the input of its network."""
    try:
        check_models(lambda x, _: x, None, build_classifier(bundle), torch.zeros(images.shape), [0.0])
    except ModelError as err:
        raise ModelError(f"{what}, a classifier, does not take the training images (data): {err}") from err


def _require_logits_in_training(what: str, bundle: Bundle, images: Images) -> None:
    """Some networks (Inception, GoogLeNet) have further outputs in train mode, which nothing here would look at."""
    with torch.no_grad():
        found = build_classifier(bundle).train()(torch.zeros(2, *images.shape))
    if not isinstance(found, torch.Tensor):
        raise ModelError(
            f"{what}, whose network returns a {type(found).__name__} in train mode; a classifier that is trained "
            "further must return logits alone. Leave its auxiliary outputs out (kwargs), or take another one."
        )


def _require_classifier(what: str, bundle: Bundle, key: str, images: Images) -> None:
    recipe = bundle.recipe
    if key.startswith("stages: perceptual"):  # its features are compared, not its classes
        if not takes_model_units(recipe):
            raise ModelError(
                f"{what}, a classifier of kind {recipe['kind']} with mean {recipe['mean']} and std {recipe['std']}; "
                "features are compared of raycp's own residual networks, mean and std 0.5. Name one of them, or an "
                "ImageNet backbone."
            )
        return
    if key.startswith("stages: start") and not takes_model_units(recipe):
        _require_logits_in_training(what, bundle, images)
    has, named = recipe["num_classes"], images.class_names is not None
    if has < images.num_classes or (named and has != images.num_classes):
        raise ModelError(
            f"{what}, with {has} classes, but the training images (data) have {images.num_classes}; take a "
            "classifier of these classes."
        )


def _require_trainable(stage: StageConfig, images: Images, classes: int) -> None:
    """Whether a new network of the stage's shape takes the images."""
    if isinstance(stage, ClassifierStage) and classes < 2:
        raise DataError(f"stages: {stage.name} needs images of at least 2 classes, got {classes} (data).")
    if (
        not isinstance(stage, DenoiserStage | DDPMStage | ConsistencyStage)
        or stage.block_out_channels is None
    ):
        return
    factor = 2 ** (len(stage.block_out_channels) - 1)
    if any(side % factor for side in images.shape[1:]):
        raise ModelError(
            f"stages: block_out_channels of {stage.name} has {len(stage.block_out_channels)} resolutions, which halve "
            f"the images {len(stage.block_out_channels) - 1} times: their sides must be multiples of {factor}, got "
            f"{_size(images)}."
        )


def _size(images: Images) -> str:
    channels, height, width = images.shape
    return f"{channels} channel(s), {height}x{width} pixels"

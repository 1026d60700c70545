"""An evaluation: what a certification job reads, and the networks of the metrics, checked on the driver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raycp.config import RunConfig
from raycp.config.evaluate import ClassifierFeatures
from raycp.distributed.evaluation_replica import EvaluationSpec
from raycp.distributed.job import Job, prepare_job
from raycp.errors import ConfigError, ModelError
from raycp.models import Bundle
from raycp.models.bundle import sha256_of
from raycp.models.features import build_features, features_name, read_features
from raycp.models.weights import read_tensors
from raycp.runs import make_manifest
from raycp.training.perceptual import lpips_distance

_CACHED = "torchvision's"
"""Stands for the hash of the backbone that torchvision keeps, whose name is checked against its content when read."""


@dataclass(frozen=True)
class EvaluationJob:
    """What `raycp evaluate` will measure.

    Attributes:
        job: images, purifier and classifier.
        features: the feature network; None: no FID.
        dimensions: of its features.
        perceptual: the LPIPS backbone's weights, where a file is named.
    """

    job: Job
    features: Bundle | None
    dimensions: int
    perceptual: dict[str, np.ndarray] | None

    @property
    def keep(self) -> int:
        """Number of leading images in the optimal transport."""
        return min(len(self.job.images), self.job.config.evaluate.transport_images)

    @property
    def spec(self) -> EvaluationSpec:
        """What a replica is built from."""
        plain = self.job.spec
        return EvaluationSpec(
            **{name: getattr(plain, name) for name in type(plain).__dataclass_fields__},
            features=self.features,
            perceptual=self.perceptual,
            keep=self.keep,
        )

    def with_batch_size(self, batch_size: int) -> EvaluationJob:
        """The job with its batch shape fixed."""
        return replace(self, job=self.job.with_batch_size(batch_size))

    def manifest(self) -> dict[str, Any]:
        """The content of config.json; the batch size must be fixed."""
        plain = self.job.manifest()
        backbone = self.job.config.evaluate.perceptual
        perceptual = None
        if backbone is not None:
            perceptual = (
                _CACHED if self.perceptual is None else sha256_of({"net": backbone.net}, self.perceptual)
            )
        weights = {
            "features": None if self.features is None else self.features.sha256,
            "perceptual": perceptual,
        }
        made = make_manifest(
            "evaluate", self.job.config, plain["weights"] | weights, plain["data"], self.job.num_classes
        )
        return made | {"networks": self.networks()}

    def networks(self) -> dict[str, str]:
        """What FID (`features`) and LPIPS (`perceptual`) see images with, in words; empty: nothing."""
        return {"features": self._features_name(), "perceptual": self._perceptual_name()}

    def _features_name(self) -> str:
        if self.features is None:
            return ""
        return (
            f"{features_name(self.features.recipe)}, {self.dimensions} features, {self.features.sha256[:8]}"
        )

    def _perceptual_name(self) -> str:
        backbone = self.job.config.evaluate.perceptual
        if backbone is None:
            return ""
        return f"{backbone.net}, " + (f"resized to {backbone.resize}" if backbone.resize else "not resized")


def prepare_evaluation(config: RunConfig) -> EvaluationJob:
    """Read and check all that an evaluation needs.

    Raises:
        ConfigError: there are too few images for a FID.
        RaycpError: see `prepare_job`; or the networks of the metrics are missing or damaged.
    """
    job = prepare_job("evaluate", config)
    wanted = config.evaluate
    features, dimensions = None, 0
    if wanted.features is not None:
        source = wanted.features
        if isinstance(source, ClassifierFeatures):
            features = job.classifier if source.classifier is None else read_features(source.classifier)
        else:
            features = read_features(source)
        network = build_features(features)
        dimensions = network.dimensions
        if not bool(network(job.first_image()[None]).isfinite().all()):
            raise ModelError(
                "evaluate.features: the network's features of the first image are NaN or infinite; look for NaN in its "
                "weights, or take another network."
            )
        if len(job.images) <= dimensions:
            raise ConfigError(
                f"evaluate.features: a FID in {dimensions} features needs more images than features, got "
                f"{len(job.images)} (data.select, or evaluate.select): the covariance of fewer has no full rank, and "
                "the distance says more about their number than about the images. Select more images, take a network "
                "with fewer features, or set evaluate.features to null."
            )
    perceptual = None
    if wanted.perceptual is not None:
        backbone = wanted.perceptual
        state = None
        key = "evaluate.perceptual.weights"
        if backbone.weights is not None:
            tensors = read_tensors(backbone.weights, key=key)
            key = f"{key}: {backbone.weights}"
            state = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
            perceptual = {name: tensor.numpy() for name, tensor in state.items()}
        first = 2 * job.first_image()[None] - 1
        lpips_distance(backbone.net, state, backbone.resize, key)(first, first)
    return EvaluationJob(job, features, dimensions, perceptual)

"""A job: configuration, images and weights read and checked on the driver, before any cluster is asked for anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from raycp.certify.boundaries import BoundaryTable, boundary_tables
from raycp.certify.composition import CompositionPredictRule, CompositionRule
from raycp.certify.planner import Planner
from raycp.certify.radii import largest_radii, table_radii
from raycp.certify.rules import FixedRule, PredictRule, Rule
from raycp.certify.sequential import sequential_rule
from raycp.config import Composition, EvaluateProtocol, RunConfig, resolved
from raycp.config.missing import require_files
from raycp.config.models import PythonPurifier
from raycp.data import ImageSet, load_images, require_grid
from raycp.distributed.replica import Replica, ReplicaSpec
from raycp.errors import DataError, ModelError
from raycp.models import Bundle, check_core, check_models, hashes, read_classifier, read_purifier
from raycp.runs import RunDirectory, make_manifest
from raycp.runs.boundaries import read_boundaries
from raycp.runs.manifest import Kind, num_outcomes
from raycp.sampling.base_classifier import choose_device
from raycp.sampling.discrete_gaussian import discrete_gaussian
from raycp.sampling.purifier_check import check_purifier

_EXAMPLES_PER_SIGMA = 8


@dataclass(frozen=True)
class Job:
    """What one command will compute.

    Attributes:
        kind: `certify`, `predict` or `evaluate`.
        config: with device and memory format resolved; the batch size may still be `auto`.
        images: the selected images.
        purifier, classifier: weights, and how to build what they go into; no purifier for plain smoothing.
        num_classes: K.
        slack: per sigma, the distance of the drawn noise from the Gaussian.
        radii: of the table.
        dropped_radii: default radii that N cannot certify.
        tables: the boundaries of a decide or anytime run.
        caps: values of N before an extension, under e_process.
        core: weights of a composition's core; None for a smoothed classifier alone.
    """

    kind: Kind
    config: RunConfig
    images: ImageSet
    purifier: Bundle | None
    classifier: Bundle
    num_classes: int
    slack: dict[float, float]
    radii: list[float]
    dropped_radii: list[float]
    tables: dict[float, BoundaryTable] | None = None
    caps: tuple[int, ...] = ()
    core: Bundle | None = None

    @property
    def spec(self) -> ReplicaSpec:
        """What a replica is built from."""
        return ReplicaSpec(
            config=resolved(self.config),
            purifier=self.purifier,
            classifier=self.classifier,
            images=self.images.images,
            image_index=self.images.indices,
            num_classes=self.num_classes,
            device=self.config.numerics.device,
            core=self.core,
        )

    @property
    def rule(self) -> Rule:
        """The sampling rule."""
        composed = self.core is not None
        if self.kind == "predict":
            return (CompositionPredictRule if composed else PredictRule)(self.config.predict)
        protocol = self.config.certify
        if composed:
            return CompositionRule(protocol, self.slack, self.radii)
        if protocol.rule == "fixed":
            return FixedRule(protocol, self.slack, self.radii)
        return sequential_rule(protocol, self.slack, self.radii, self.tables, self.caps)

    @property
    def core_answers(self) -> int:
        """How often a composition's core is asked: once for each image and sigma; otherwise 0."""
        return 0 if self.core is None else len(self.images) * len(self.config.certify.sigmas)

    def planner(self, nearest_first: bool = False) -> Planner:
        """A planner with nothing drawn yet."""
        images = self.images
        sigmas = self.config.certify.sigmas
        outcomes = num_outcomes(self.num_classes, self.core is not None)
        return Planner(sigmas, images.labels, images.indices, self.rule, outcomes, nearest_first)

    def with_batch_size(self, batch_size: int) -> Job:
        """The job with its batch shape fixed."""
        numerics = self.config.numerics.model_copy(update={"batch_size": batch_size})
        return replace(self, config=self.config.model_copy(update={"numerics": numerics}))

    def of_run(self, run: RunDirectory) -> Job:
        """The job with what its run began with: boundary tables and, under e_process, the values of N before.

        Raises:
            StorageError: the stored tables are missing or damaged.
        """
        recorded = run.manifest.get("boundaries")
        tables = None if recorded is None else read_boundaries(run.storage, recorded)
        return replace(self, tables=tables, caps=tuple(run.manifest.get("caps", ())))

    def manifest(self) -> dict[str, Any]:
        """The content of config.json; the batch size must be fixed."""
        assert self.config.numerics.batch_size != "auto"
        names = self.images.class_names
        return make_manifest(
            self.kind,
            self.config,
            weights=hashes(
                purifier=self.purifier,
                classifier=self.classifier,
                **({} if self.core is None else {"core": self.core}),
            ),
            data={
                "sha256": self.images.sha256,
                "source": self.images.source,
                "shape": list(self.images.images.shape[1:]),
                "image_index": self.images.indices.tolist(),
                "class_names": None if names is None else list(names),
            },
            num_classes=self.num_classes,
        ) | {
            "radii": self.radii,
            "slack": {str(sigma): value for sigma, value in self.slack.items()},
            "reach": {
                str(sigma): value
                for sigma, value in largest_radii(
                    self.config.certify, self.slack, self.core is not None
                ).items()
            },
        }

    def checked(self) -> Job:
        """This job, after one image went through the base classifier on this machine's CPU.

        Raises:
            ModelError: the networks do not fit the images or each other, or a user's purifier breaks its contract.
        """
        replica = self.on_cpu()
        if isinstance(self.config.purifier, PythonPurifier):
            check_purifier(
                replica.base_classifier,
                self.on_cpu().base_classifier,
                self.first_image(),
                self.config.certify.sigmas,
                self.config.purifier.factory,
            )
        check_models(
            replica.base_classifier.some_purified,
            replica.denoiser,
            replica.classifier,
            self.first_image(),
            self.config.certify.sigmas,
        )
        if replica.core is not None:
            check_core(replica.core, self.first_image())
        return self

    def first_image(self) -> torch.Tensor:
        """Float32 [C, H, W] in [0, 1]."""
        stored = self.images.images[0]
        image = torch.from_numpy(np.array(stored)).float()
        return image / 255 if stored.dtype == np.uint8 else image

    def examples(self) -> dict[str, np.ndarray]:
        """One noisy and purified sample of the first few images at each sigma, for looking at; see `RunResults`."""
        wanted = range(min(_EXAMPLES_PER_SIGMA, len(self.images)))
        replica = self.on_cpu()
        replica.prepare(len(wanted))
        sigmas = self.config.certify.sigmas
        parts = [replica.examples(sigma, wanted) for sigma in sigmas]
        images = np.tile(np.array(wanted), len(sigmas))
        clean = self.images.images[images]
        return {
            "sigma": np.repeat(np.array(sigmas, dtype=np.float64), len(wanted)),
            "image_index": self.images.indices[images],
            "label": self.images.labels[images],
            "predicted": np.concatenate([part.predicted for part in parts]),
            "clean": clean if clean.dtype == np.uint8 else _displayed(clean),
            "noisy": _displayed(np.concatenate([part.noisy for part in parts])),
            "purified": _displayed(np.concatenate([part.purified for part in parts])),
        }

    def on_cpu(self, plain: bool = True) -> Replica:
        """A replica in this process; `plain` in float32 and not compiled, whatever the run is."""
        changes: dict[str, Any] = {"device": "cpu"}
        if plain:
            changes |= {"compile": False, "dtype": "float32"}
        config = self.config.model_copy(update={"numerics": self.config.numerics.model_copy(update=changes)})
        return Replica(replace(self.spec, config=resolved(config), device="cpu"))


def prepare_job(kind: Kind, config: RunConfig) -> Job:
    """Read and check all that a run needs.

    Raises:
        MissingFilesError: files that the configuration names are not there; all of them, and where they come from.
        DataError, ModelError, ConfigError: what is missing, damaged or does not fit, by name.
    """
    if kind == "evaluate":
        config = config.of_evaluation
    require_files(
        config if kind == "evaluate" else config.model_copy(update={"evaluate": EvaluateProtocol()})
    )
    images = load_images(config.data)
    sigmas = config.certify.sigmas
    slack = dict.fromkeys(sigmas, 0.0)
    if config.certify.noise == "sound":
        images = require_grid(images)
        values = int(np.prod(images.images.shape[1:]))
        slack = {sigma: discrete_gaussian(sigma).slack(values) for sigma in sigmas}
    composed = config.composition is not None
    radii, dropped = table_radii(config.certify, slack, composed) if kind == "certify" else ([], [])
    sequential = kind == "certify" and config.certify.rule in ("decide", "anytime")
    device = choose_device(config.numerics, config.engine.gpus_per_replica)
    channels_last = config.numerics.channels_last
    chosen = {"device": device, "channels_last": device == "cuda" if channels_last is None else channels_last}
    numerics = config.numerics.model_copy(update=chosen)
    purifier = read_purifier(config.purifier)
    classifier = read_classifier(config.classifier)
    num_classes = int(classifier.recipe["num_classes"])
    if images.labels.max() >= num_classes:
        worst = int(images.labels.argmax())
        raise DataError(
            f"image {images.indices[worst]} of {images.source} has label {images.labels[worst]}, but the classifier "
            f"has {num_classes} classes (0 to {num_classes - 1}): data and classifier do not belong together."
        )
    core = None if config.composition is None else _read_core(config.composition, num_classes)
    job = Job(
        kind=kind,
        config=config.model_copy(update={"numerics": numerics}),
        images=images,
        purifier=purifier,
        classifier=classifier,
        num_classes=num_classes,
        slack=slack,
        radii=radii,
        dropped_radii=dropped,
        tables=boundary_tables(config.certify, slack, radii) if sequential else None,
        core=core,
    )
    return job.checked()


def _read_core(composition: Composition, num_classes: int) -> Bundle:
    core = read_classifier(composition.core)
    found = int(core.recipe["num_classes"])
    if found != num_classes:
        raise ModelError(
            f"composition.core has {found} classes and classifier {num_classes}: core and classifier must know the "
            "same classes, in the same order."
        )
    return core


def _displayed(images: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] units to uint8, clipped: for the eye only."""
    shown: np.ndarray = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return shown

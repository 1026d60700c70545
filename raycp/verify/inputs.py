"""The images and weights that are there now, against those the run was made from."""

from __future__ import annotations

from dataclasses import dataclass

from raycp.data import ImageSet, load_images, require_grid
from raycp.errors import DataError, ModelError, UnsafeFileError
from raycp.models import Bundle, hashes, read_classifier, read_purifier
from raycp.verify.checks import Check
from raycp.verify.record import Record


@dataclass(frozen=True)
class Weights:
    """What a replica is built from; no purifier for plain smoothing, no core without a composition."""

    purifier: Bundle | None
    classifier: Bundle
    core: Bundle | None


def check_data(record: Record) -> tuple[ImageSet | None, Check]:
    """The selected images if they are those of the run."""
    recorded, check = record.manifest["data"], Check("data")
    try:
        images = load_images(record.config.data)
        if record.protocol.noise == "sound":
            images = require_grid(images)
    except (DataError, UnsafeFileError) as err:
        check.failures.append(f"data: {err}")
        return None, check
    check.verdict = f"{len(images)} images of {images.source}, SHA-256 {images.sha256[:12]}"
    if images.sha256 != recorded["sha256"]:
        check.failures.append(
            f"data: SHA-256 of images and labels is {images.sha256[:12]}, recorded {recorded['sha256'][:12]}"
        )
    if images.indices.tolist() != record.image_index:
        check.failures.append("data: config.json lists other image_index than the selection gives")
    if list(images.images.shape[1:]) != recorded["shape"]:
        check.failures.append(
            f"data: images of shape {list(images.images.shape[1:])}, recorded {recorded['shape']}"
        )
    return (images if check.passed else None), check


def check_weights(record: Record) -> tuple[Weights | None, Check]:
    """The weights if they are those of the run."""
    config, recorded, check = record.config, record.manifest["weights"], Check("weights")
    try:
        purifier = read_purifier(config.purifier)
        classifier = read_classifier(config.classifier)
        core = None if config.composition is None else read_classifier(config.composition.core)
    except (ModelError, UnsafeFileError) as err:
        check.failures.append(f"weights: {err}")
        return None, check
    found = hashes(purifier=purifier, classifier=classifier, **({} if core is None else {"core": core}))
    for name, digest in found.items():
        if digest != recorded.get(name):
            check.failures.append(
                f"weights: SHA-256 of the {name} is {digest}, recorded {recorded.get(name)}"
            )
    for bundle in (classifier, core):
        classes = record.manifest["num_classes"] if bundle is None else int(bundle.recipe["num_classes"])
        if classes != record.manifest["num_classes"]:
            check.failures.append(f"weights: {classes} classes, recorded {record.manifest['num_classes']}")
    check.verdict = ", ".join(f"{name} {digest[:12]}" for name, digest in found.items() if digest)
    return (Weights(purifier, classifier, core) if check.passed else None), check

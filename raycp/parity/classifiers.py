"""Classifiers: pixels in [0, 1] to logits."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from raycp.config.models import CifarResNetClassifier, TransformersClassifier
from raycp.models import build_classifier, read_classifier
from raycp.parity.evaluation import calls_of
from raycp.parity.fixture import Case


def cifar_resnet(case: Case, folder: Path) -> dict[str, Tensor]:
    """The logits of pixels, normalised inside the classifier."""
    config = CifarResNetClassifier(kind="cifar_resnet", weights=str(case.checkpoint))
    logits = build_classifier(read_classifier(config))(_pixels(case))
    return {"logits": logits, "predicted_class": logits.argmax(dim=1)}


def image_classifier(case: Case, folder: Path) -> dict[str, Tensor]:
    """The logits of pixels that are normalised as floats, and of those that the image processor made of integers."""
    config = TransformersClassifier(kind="transformers", path=str(case.checkpoint))
    classifier = build_classifier(read_classifier(config))
    with calls_of(classifier.network) as calls:
        from_pixels = classifier(_pixels(case))
    logits = classifier.network(case.tensor("pixel_values"))
    return {
        "pixel_values": calls[0].arguments[0],
        "logits": logits,
        "logits_float_pixels": from_pixels,
        "predicted_class": logits.argmax(dim=1),
    }


def _pixels(case: Case) -> Tensor:
    return case.tensor("images_uint8").float() / 255

"""Reading a model directory whatever it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from raycp.config.models import DenoiserModel, DirectoryClassifier
from raycp.models.bundle import Bundle
from raycp.models.classifier import read_classifier
from raycp.models.diffusers_denoiser import read_denoiser
from raycp.models.place import local_folder


def read_model(path: str, functions: Collection[Mapping[str, Any]] = ()) -> Bundle:
    """The model in a directory that `raycp train` left, or one of the same form: a denoiser or a classifier.

    Args:
        path: of the directory.
        functions: that it may name, see `stored_section`.

    Raises:
        ModelError: files are missing or damaged.
    """
    if (local_folder(path) / "unet").is_dir():
        return read_denoiser(DenoiserModel(path=path))
    return read_classifier(DirectoryClassifier(kind="directory", path=path), functions)

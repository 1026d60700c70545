"""Reading a model whatever it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from raycp.config.models import DenoiserModel, DirectoryClassifier, NoPurifier, PurifierConfig, PythonPurifier
from raycp.models.bundle import Bundle
from raycp.models.classifier import read_classifier
from raycp.models.diffusers_denoiser import read_denoiser
from raycp.models.place import local_folder
from raycp.models.python_purifier import read_python_purifier


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


def read_purifier(config: PurifierConfig) -> Bundle | None:
    """The model inside a purifier, or the user's own purifier; None for plain smoothing.

    Raises:
        ModelError: files are missing, damaged or of another architecture, or the user's code is no purifier.
        UnsafeFileError: a torch file would run code.
    """
    if isinstance(config, NoPurifier):
        return None
    if isinstance(config, PythonPurifier):
        return read_python_purifier(config)
    return read_denoiser(config.model)

"""Files that a configuration names and that are not there: all of them at once, and where they come from."""

from __future__ import annotations

import re
from pathlib import Path

from raycp.config.base import Frozen, locations
from raycp.errors import MissingFilesError
from raycp.published import missing_help

_DATA_SETS = {
    "cifar10": "CIFAR-10, binary version, from https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "CIFAR-100, binary version, from https://www.cs.toronto.edu/~kriz/cifar.html",
    "mnist": "MNIST: torchvision.datasets.MNIST(FOLDER, download=True) leaves its files in FOLDER/MNIST/raw",
    "fashion_mnist": "Fashion-MNIST, from https://github.com/zalandoresearch/fashion-mnist",
    "kmnist": "KMNIST, from https://github.com/rois-codh/kmnist",
    "downsampled_imagenet": "Downsampled ImageNet, npz, from https://image-net.org/download-images (wants an account)",
}
_OF_A_TRAINING = re.compile(r"(?P<run>.+)/models/(?P<stage>[^/]+)")


def require_files(config: Frozen) -> None:
    """Look for all files and folders that a configuration names; what lies in an object store is left to its reader.

    A single one of which nothing is known is left to its reader, too, which knows best what it should be.

    Raises:
        MissingFilesError: some are not there; a line for each says where it comes from.
    """
    missing = {
        key: place
        for key, place in locations(config).items()
        if "://" not in place and not Path(place).expanduser().exists()
    }
    origins = {key: _origin(config, key, place) for key, place in missing.items()}
    if not missing or (len(missing) == 1 and not any(origins.values())):
        return
    lines = []
    for key, place in missing.items():
        origin = origins[key]
        lines.append(f"  {key}: {place}" + (f"\n      {origin}" if origin else ""))
    count = "One file or folder" if len(missing) == 1 else f"{len(missing)} files or folders"
    raise MissingFilesError(f"{count} of this configuration not found here:\n" + "\n".join(lines))


def _origin(config: Frozen, key: str, place: str) -> str | None:
    section, _, _ = key.partition(".")
    if section in ("data", "validation"):
        return _DATA_SETS.get(getattr(config, section).name)
    if published := missing_help(place):
        return published
    if trained := _OF_A_TRAINING.fullmatch(place):
        return f"The model {trained['stage']} of a training: `raycp train CONFIG --out {trained['run']}`."
    return None

"""Files that a configuration names and that are not there: all of them at once, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from raycp.config.base import Frozen, locations
from raycp.config.suite import LogFiles
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
_LOG_REPOSITORIES = {
    name.rpartition("/")[2]: f"https://github.com/{name}"
    for name in (
        "locuslab/smoothing",
        "jh-jeong/smoothing-consistency",
        "jh-jeong/smoothmix",
        "Hadisalman/smoothing-adversarial",
        "eth-sri/ACES",
        "eth-sri/acr-weakness",
    )
}
"""Repositories with certification logs, by the folder that a clone of them has."""
_LEFT_OUT = {"evaluate.features.weights": "FID", "evaluate.perceptual.weights": "LPIPS"}
_OF_A_TRAINING = re.compile(r"(?P<run>.+)/models/(?P<stage>[^/]+)")


def require_files(config: Frozen) -> None:
    """Look for all files and folders that a configuration names; what lies in an object store is left to its reader.

    A single one of which nothing is known is left to its reader, too, which knows best what it should be.

    Raises:
        MissingFilesError: some are not there; a line for each says where it comes from.
    """
    missing = _missing(config)
    if len(missing) == 1 and not any(_origin(config, key, place) for key, place in missing.items()):
        return
    lines = [_line(config, key, place) for key, place in missing.items()]
    _raise(lines, "this configuration", len(missing))


def require_files_of_methods(
    methods: Mapping[str, Frozen], logs: Mapping[str, LogFiles] | None = None
) -> None:
    """Look for the files of several configurations before the first one is worked on.

    Args:
        methods: configurations by name.
        logs: published logs by the name of their row.

    Raises:
        MissingFilesError: some are not there; a line for each says which methods need it and where it comes from.
    """
    users: dict[tuple[str, str], list[str]] = {}
    for name, config in methods.items():
        for found in _missing(config).items():
            users.setdefault(found, []).append(name)
    lines = [
        _line(methods[names[0]], key, place, f" ({_names(names, methods)})")
        for (key, place), names in users.items()
    ]
    absent = [(name, *found) for name, log in (logs or {}).items() for found in missing_logs(log).items()]
    lines += [_log_line(f"logs.{name}.{key}", place) for name, key, place in absent]
    ready = set(methods) - {name for names in users.values() for name in names}
    if lines and ready:
        lines.append(
            f"Nothing is missing for {_names([name for name in methods if name in ready], methods)}."
        )
    _raise(lines, "this suite", len(users) + len(absent))


def missing_logs(log: LogFiles) -> dict[str, str]:
    """The files of published logs that are not there, by their keys; they are read from this machine alone."""
    return {key: place for key, place in locations(log).items() if not Path(place).expanduser().is_file()}


def _log_line(key: str, place: str) -> str:
    parts = Path(place).parts
    clones = [at for at, part in enumerate(parts) if part in _LOG_REPOSITORIES]
    origin = (
        f"\n      `git clone {_LOG_REPOSITORIES[parts[clones[-1]]]} {Path(*parts[: clones[-1] + 1])}`"
        if clones
        else ""
    )
    return f"  {key}: {place}{origin}"


def _names(names: Sequence[str], methods: Mapping[str, Frozen]) -> str:
    return "all methods" if len(names) == len(methods) > 1 else ", ".join(names)


def _missing(config: Frozen) -> dict[str, str]:
    return {
        key: place
        for key, place in locations(config).items()
        if "://" not in place and not Path(place).expanduser().exists()
    }


def _line(config: Frozen, key: str, place: str, whose: str = "") -> str:
    origin = _origin(config, key, place)
    return f"  {key}{whose}: {place}" + (f"\n      {origin}" if origin else "")


def _raise(lines: Sequence[str], what: str, number: int) -> None:
    if number:
        count = "One file or folder" if number == 1 else f"{number} files or folders"
        raise MissingFilesError(f"{count} of {what} not found here:\n" + "\n".join(lines))


def _origin(config: Frozen, key: str, place: str) -> str | None:
    section, _, _ = key.partition(".")
    if section in ("data", "validation"):
        return _DATA_SETS.get(getattr(config, section).name)
    if published := missing_help(place):
        return published
    if key in _LEFT_OUT:
        return f"`--set {key.rpartition('.')[0]}=null` leaves {_LEFT_OUT[key]} out."
    if trained := _OF_A_TRAINING.fullmatch(place):
        return f"The model {trained['stage']} of a training: `raycp train CONFIG --out {trained['run']}`."
    return None

"""What identifies a run: resolved config, hashes, versions, and a fingerprint of all a certificate depends on."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from raycp.config import RunConfig, differences, parse_config, resolved, without_locations
from raycp.config.certify import OF_EVERY_SAMPLE
from raycp.errors import StorageError

FORMAT = 1
"""Changes when the same configuration would give other counts or other columns."""

Kind = Literal["certify", "predict", "evaluate"]

_PACKAGES = (
    "raycp", "torch", "ray", "numpy", "scipy", "pyarrow", "diffusers", "timm", "torchvision", "transformers",
)  # fmt: skip


def make_manifest(
    kind: Kind,
    config: RunConfig,
    weights: Mapping[str, str | None],
    data: Mapping[str, Any],
    num_classes: int,
) -> dict[str, Any]:
    """The content of config.json.

    Args:
        kind: what the run computes.
        config: with `numerics.device` and `numerics.batch_size` resolved to the values in force.
        weights: SHA-256 over the tensors of each model (`purifier`, `classifier`; of a composition `core`; for an
            evaluation `features` and `perceptual`), None where there is none.
        data: `sha256` of the selected images, `source`, `image_index`, `class_names`.
        num_classes: K.
    """
    identity = _identity(kind, config, weights, data["sha256"])
    return {
        "kind": kind,
        "format": FORMAT,
        "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        "config": resolved(config),
        "weights": dict(weights),
        "data": dict(data),
        "num_classes": num_classes,
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
    }


def is_composed(manifest: Mapping[str, Any]) -> bool:
    """Whether a run is of a composition, by the content of its config.json."""
    return (manifest.get("config") or {}).get("composition") is not None


def recorded_batch_size(manifest: Mapping[str, Any]) -> int:
    """The batch size that a run took, by the content of its config.json.

    Raises:
        StorageError: the file does not say; a run writes it in numbers, whatever it was asked for.
    """
    config = parse_config(RunConfig, manifest["config"], source="the recorded configuration")
    batch_size = config.numerics.batch_size
    if batch_size == "auto":
        raise StorageError(
            "the recorded configuration has numerics.batch_size: auto, which no run writes: its config.json was "
            "changed. Put the number back, or take another --out."
        )
    return batch_size


def num_outcomes(num_classes: int, composed: bool) -> int:
    """Outcomes that the counts of a run are over: classes or, of a composition, choices and classes."""
    return num_classes * (2 if composed else 1)


def manifest_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per difference between two manifests that enters the fingerprint."""
    parts = []
    for manifest in (old, new):
        config = parse_config(RunConfig, manifest["config"], source="the recorded configuration")
        identity = _identity(manifest["kind"], config, manifest["weights"], manifest["data"]["sha256"])
        parts.append(
            {
                "kind": identity["kind"],
                **identity["config"],
                "weights": identity["weights"],
                "data.sha256": identity["data"],
                "format": manifest["format"],
            }
        )
    return differences(parts[0], parts[1])


def _identity(
    kind: Kind, config: RunConfig, weights: Mapping[str, str | None], data_sha256: str
) -> dict[str, Any]:
    """Everything a row depends on; places of files and the engine are left out."""
    content = without_locations(config)
    del content["engine"]
    for other in {"predict", "evaluate"} - {kind}:
        del content[other]
    # So that runs of before there were any keep their fingerprint.
    if config.composition is None:
        del content["composition"]
    if kind == "evaluate" and config.evaluate.select is None:
        del content["evaluate"]["select"]
    if kind == "certify":
        if config.certify.rule == "e_process":  # it has no last look: more samples may always be added
            del content["certify"]["num_estimation"]
    else:
        content["certify"] = {key: content["certify"][key] for key in OF_EVERY_SAMPLE}
    return {"format": FORMAT, "kind": kind, "config": content, "weights": dict(weights), "data": data_sha256}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # an editable checkout that was never installed
            found[package] = "unknown"
    return found


def _git_commit() -> str | None:
    """Commit of the checkout that raycp runs from; None if it is not one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None

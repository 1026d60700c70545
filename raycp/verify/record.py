"""config.json of a run, and where its files are now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raycp.config import CertifyProtocol, RunConfig, differences, parse_config, resolved, without_locations
from raycp.config.base import with_overrides
from raycp.errors import ConfigError, StorageError
from raycp.runs.manifest import FORMAT, make_manifest
from raycp.storage import Storage
from raycp.verify.checks import Check

CONFIG = "config.json"
_REQUIRED = {
    "kind": str, "format": int, "fingerprint": str, "config": dict, "weights": dict, "data": dict, "num_classes": int,
    "versions": dict, "radii": list, "slack": dict, "reach": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What a run says of itself.

    Attributes:
        storage: the run directory.
        manifest: content of config.json.
        config: the recorded configuration, with files looked for where they are now.
    """

    storage: Storage
    manifest: dict[str, Any]
    config: RunConfig

    @property
    def protocol(self) -> CertifyProtocol:
        """N0, N, alpha and the rule."""
        return self.config.certify

    @property
    def image_index(self) -> list[int]:
        """Indices of the run's images in their data set."""
        return list(self.manifest["data"]["image_index"])


def read_record(path: str, overrides: Sequence[str] = ()) -> Record:
    """Read config.json.

    Args:
        path: the run directory, local or remote.
        overrides: `dotted.key=value` for files that have moved.

    Raises:
        StorageError: there is no certify run, or its config.json cannot be used.
        ConfigError: an override changes more than where files are.
    """
    storage = Storage(path)
    name = storage.path(CONFIG)
    data = storage.read(CONFIG)
    if data is None:
        raise StorageError(f"{storage.path()} holds no run: there is no {CONFIG}.")
    try:
        manifest = json.loads(data)
    except ValueError as err:
        raise StorageError(f"{name} is damaged: {err}.") from err
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind in ("predict", "evaluate"):
        holds = "predictions" if kind == "predict" else "an evaluation"
        raise StorageError(f"{storage.path()} holds {holds}; raycp verify checks runs of raycp certify.")
    if kind == "imported":
        raise StorageError(
            f"{storage.path()} holds an imported log: it has no counts, so there is nothing that a certificate could "
            "be derived from anew. `raycp logs audit` on the log itself tells what can be told."
        )
    wrong = [
        key
        for key, kind in _REQUIRED.items()
        if not isinstance(manifest, dict) or not isinstance(manifest.get(key), kind)
    ]
    if not wrong:
        data_of = manifest["data"]
        numbers = [*_list(data_of, "shape"), *_list(data_of, "image_index"), *_list(manifest, "caps", [])]
        wrong = [repr(value) for value in numbers if not isinstance(value, int)]
    if wrong or kind != "certify":
        raise StorageError(f"{name} is not the config.json of a certify run ({', '.join(wrong) or 'kind'}).")
    try:
        recorded = parse_config(RunConfig, manifest["config"], source=name)
    except ConfigError as err:
        raise StorageError(f"{name} cannot be used: {err}") from err
    return Record(storage, manifest, _relocated(recorded, overrides))


def _list(content: dict[str, Any], key: str, default: list[int] | None = None) -> list[Any]:
    value = content.get(key, default)
    return value if isinstance(value, list) else [f"{key} is no list"]


def check_record(record: Record) -> Check:
    """Whether the fingerprint is that of the content."""
    manifest = record.manifest
    check = Check("config", f"the content has the fingerprint {manifest['fingerprint'][:12]}")
    if manifest["format"] != FORMAT:
        check.failures.append(f"format is {manifest['format']}; this raycp knows format {FORMAT}")
    if record.config.numerics.batch_size == "auto" or record.config.numerics.device == "auto":
        check.failures.append(
            "numerics.batch_size and numerics.device must be recorded as they were, not as auto"
        )
    content = make_manifest(
        "certify", record.config, manifest["weights"], manifest["data"], manifest["num_classes"]
    )
    if content["fingerprint"] != manifest["fingerprint"]:
        check.failures.append(
            f"fingerprint: recorded {manifest['fingerprint'][:12]}, of the content {content['fingerprint'][:12]}: "
            "the configuration, a hash of weights or data, or the fingerprint was changed"
        )
    return check


def _relocated(recorded: RunConfig, overrides: Sequence[str]) -> RunConfig:
    config = parse_config(RunConfig, with_overrides(resolved(recorded), overrides))
    old, new = without_locations(recorded), without_locations(config)
    del old["engine"], new["engine"]
    changed = differences(old, new)
    if changed:
        raise ConfigError(
            f"--set may only say where files are now, but it changes {changed[0]}. A run is verified as it was made."
        )
    return config

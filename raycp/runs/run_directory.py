"""A run directory: config.json, the ledger, the results; made once, resumed, never overwritten by another run."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa

from raycp.certify.boundaries import BoundaryTable
from raycp.certify.rules import UNDECIDED
from raycp.errors import RunMismatchError, StorageError
from raycp.runs.boundaries import digest, write_boundaries
from raycp.runs.ledger import Ledger
from raycp.runs.manifest import is_composed, manifest_differences, num_outcomes
from raycp.runs.tables import DamagedTableError, from_parquet, to_parquet
from raycp.sampling.blocks import Phase
from raycp.storage import Storage

CONFIG = "config.json"
EXAMPLES = "examples.npz"
IMPORTED = "imported"
"""The kind of a directory that `raycp logs import` wrote: results without counts, made by other code."""
RESULTS = {
    "certify": "certificates.parquet",
    "predict": "predictions.parquet",
    "evaluate": "evaluation.parquet",
    IMPORTED: "certificates.parquet",
}


class RunDirectory:
    """One run on disk. Hold `storage.locked()` while writing."""

    def __init__(self, storage: Storage, manifest: Mapping[str, Any]) -> None:
        self.storage = storage
        self.manifest = dict(manifest)
        self.results_name = RESULTS[manifest["kind"]]

    def ledger(
        self, image_index_M: np.ndarray, cuts: Mapping[Phase, Collection[int]] | None = None
    ) -> Ledger:
        """The ledger of counts; ranges of samples are not joined across `cuts`."""
        outcomes = num_outcomes(self.manifest["num_classes"], is_composed(self.manifest))
        return Ledger(self.storage, self.manifest["fingerprint"], image_index_M, outcomes, cuts)

    def write_results(self, table: pa.Table) -> None:
        """Write the derived table; it is made from the ledger and may be written again."""
        self.storage.write(self.results_name, to_parquet(table))

    def write_examples(self, examples: Mapping[str, np.ndarray]) -> None:
        """Write example images, see `RunResults.examples`."""
        sink = io.BytesIO()
        np.savez_compressed(sink, **dict(examples))  # type: ignore[arg-type]
        self.storage.write(EXAMPLES, sink.getvalue())

    def has_examples(self) -> bool:
        """Whether example images were written."""
        return self.storage.read(EXAMPLES) is not None


def recorded_manifest(storage: Storage) -> dict[str, Any] | None:
    """The content of config.json; None if the directory holds no run.

    Raises:
        StorageError: the file is damaged, or the directory holds something else.
    """
    data = storage.read(CONFIG)
    if data is None:
        if not storage.is_empty():
            raise StorageError(
                f"{storage.path()} is not empty and holds no {CONFIG}: it is not a run directory. Take another --out."
            )
        return None
    try:
        manifest = json.loads(data)
    except ValueError as err:
        raise StorageError(f"{storage.path(CONFIG)} is damaged: {err}.") from err
    required = {"kind", "fingerprint", "config", "data"}
    if not isinstance(manifest, dict) or not required <= manifest.keys() or manifest["kind"] not in RESULTS:
        raise StorageError(f"{storage.path(CONFIG)} is not the config.json of a certification run.")
    return manifest


def refuse_imported(recorded: Mapping[str, Any] | None, storage: Storage) -> None:
    """Refuse to work in a directory that holds an imported log.

    Raises:
        RunMismatchError: it does.
    """
    if recorded is not None and recorded["kind"] == IMPORTED:
        raise RunMismatchError(
            f"{storage.path()} holds an imported log, which nothing can be added to. Take another --out."
        )


def open_run(
    storage: Storage, manifest: Mapping[str, Any], tables: Mapping[float, BoundaryTable] | None = None
) -> RunDirectory:
    """Begin a run in an empty directory, or go on with the one that is there.

    Args:
        storage: the directory.
        manifest: content of config.json; may hold another num_estimation than the recorded one under e_process.
        tables: the boundary tables of a run that has some.

    Raises:
        RunMismatchError: the directory holds a run with another fingerprint; the message lists the differences.
    """
    recorded = recorded_manifest(storage)
    refuse_imported(recorded, storage)
    if recorded is None:
        if tables is not None:
            write_boundaries(storage, tables)
            manifest = {**manifest, "boundaries": digest(tables)}
        storage.write(CONFIG, json.dumps(manifest, indent=2).encode())
        return RunDirectory(storage, manifest)
    if recorded["fingerprint"] != manifest["fingerprint"]:
        lines = "\n".join(f"  {line}" for line in manifest_differences(recorded, manifest))
        raise RunMismatchError(
            f"{storage.path()} holds a run with another configuration:\n{lines}\n{_spent(recorded, manifest)}"
            "Take another --out, or go back to the recorded values."
        )
    old, new = (m["config"]["certify"]["num_estimation"] for m in (recorded, manifest))
    if manifest["kind"] == "certify" and old != new:
        recorded = _extended(recorded, manifest)
        storage.write(CONFIG, json.dumps(recorded, indent=2).encode())
    return RunDirectory(storage, recorded)


def _spent(recorded: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Why samples cannot be added to a run whose N was fixed, where that is what was tried."""
    if not recorded["kind"] == manifest["kind"] == "certify":
        return ""
    old, new = recorded["config"]["certify"], manifest["config"]["certify"]
    if new["num_estimation"] <= old["num_estimation"] or old["rule"] != new["rule"]:
        return ""
    return (
        f"A run under certify.rule = {old['rule']} cannot be extended: it spends all of alpha by its "
        f"{old['num_estimation']:,} samples, and more samples after a look at these would raise the failure "
        "probability above alpha. A run under certify.rule = e_process may be extended.\n"
    )


def _extended(recorded: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an e_process run that goes on to another N; the values of N before stay among its looks."""
    old, new = recorded["config"]["certify"], manifest["config"]["certify"]
    if new["num_estimation"] < old["num_estimation"]:
        raise RunMismatchError(
            f"certify.num_estimation = {new['num_estimation']:,} is below the {old['num_estimation']:,} this run has "
            "looked at already; it may only grow."
        )
    caps = [*recorded.get("caps", []), old["num_estimation"]]
    config = {**recorded["config"], "certify": new}
    return {
        **recorded,
        "config": config,
        "caps": caps,
        "reach": manifest["reach"],
        "radii": manifest["radii"],
    }


@dataclass(frozen=True)
class RunResults:
    """What a run directory holds for readers.

    Attributes:
        name: last part of the path.
        config: the content of config.json.
        certificates: the table of results so far (predictions for a predict run).
        examples: arrays over E examples: sigma f64, image_index, label, predicted i64, clean, noisy, purified
            uint8 [E, C, H, W]; None if there are none.
        num_images: images of the run.
        complete: whether every (sigma, image) is decided.
    """

    name: str
    path: str
    config: dict[str, Any]
    certificates: pa.Table
    examples: dict[str, np.ndarray] | None
    num_images: int
    complete: bool


def read_run(path: str) -> RunResults:
    """Read a run directory, local or remote.

    Raises:
        StorageError: there is no run, or no results yet, or a file is damaged.
    """
    storage = Storage(path)
    manifest = recorded_manifest(storage)
    if manifest is None:
        raise StorageError(f"{storage.path()} holds no run: there is no {CONFIG}.")
    if manifest["kind"] == "evaluate":
        raise StorageError(
            f"{storage.path()} holds an evaluation, not a certification: `raycp show {storage.path()}` prints it, by "
            "itself or beside other evaluations."
        )
    name = RESULTS[manifest["kind"]]
    data = storage.read(name)
    if data is None and manifest["kind"] == IMPORTED:
        raise StorageError(f"{storage.path()} has lost its {name}; import the log again.")
    if data is None:
        raise StorageError(
            f"{storage.path()} has no {name} yet; run `raycp {manifest['kind']}` with --out {storage.path()} to go on."
        )
    try:
        table = from_parquet(data)
        if "stop_reason" not in table.column_names:
            raise DamagedTableError("it has no column stop_reason")
    except DamagedTableError as err:
        again = f"run `raycp {manifest['kind']}` again with --out {storage.path()}; nothing is drawn anew"
        raise StorageError(
            f"{storage.path(name)} is damaged ({err}). It is derived: delete it and "
            f"{'import the log again' if manifest['kind'] == IMPORTED else again}."
        ) from err
    num_images = len(manifest["data"]["image_index"])
    return RunResults(
        name=storage.path().partition("?")[0].rstrip("/").rpartition("/")[2],
        path=storage.path(),
        config=manifest,
        certificates=table,
        examples=_read_examples(storage),
        num_images=num_images,
        # An imported log may not say its sigma.
        complete=len(table) == num_images * max(1, len(manifest["config"]["certify"]["sigmas"]))
        and UNDECIDED not in table.column("stop_reason").to_pylist(),
    )


def _read_examples(storage: Storage) -> dict[str, np.ndarray] | None:
    data = storage.read(EXAMPLES)
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as err:
        raise StorageError(f"{storage.path(EXAMPLES)} is damaged ({err}); delete it.") from err

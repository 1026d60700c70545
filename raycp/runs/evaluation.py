"""The result of an evaluation: `evaluation.parquet`, one row per (sigma, image)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raycp.errors import StorageError
from raycp.runs.run_directory import RESULTS, recorded_manifest
from raycp.runs.tables import DamagedTableError, from_parquet, to_parquet
from raycp.storage import Storage

NAME = RESULTS["evaluate"]
CSV = "evaluation.csv"
_TERM = "mean over the images: the metric; null: not measured"
SCHEMA = pa.schema(
    [
        pa.field("sigma", pa.float64(), nullable=False, metadata={"unit": "pixel units; 0: the clean image itself"}),
        pa.field("image_index", pa.int64(), nullable=False, metadata={"unit": "index in the data set"}),
        pa.field("label", pa.int64(), nullable=False, metadata={"unit": "class"}),
        pa.field("correct", pa.float64(), nullable=False, metadata={"unit": "share of the draws"}),
        pa.field("l2", pa.float64(), metadata={"unit": "L2 distance to the clean image, pixel units, mean over draws"}),
        pa.field("squared_l2", pa.float64(), metadata={"unit": "its square, pixel units, mean over draws"}),
        pa.field("lpips", pa.float64(), metadata={"unit": "mean over draws"}),
        pa.field("fid_term", pa.float64(), metadata={"unit": _TERM}),
        pa.field("optimal_transport_term", pa.float64(), metadata={"unit": f"pixel units; {_TERM}"}),
        pa.field("numerics", pa.string(), nullable=False, metadata={"unit": "numerics class of the samples"}),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class EvaluationResults:
    """An evaluation that was read.

    Attributes:
        name: last part of the path.
        config: the content of config.json.
        table: one row per (sigma, image); see `SCHEMA`.
    """

    name: str
    path: str
    config: dict[str, Any]
    table: pa.Table


def write_evaluation(storage: Storage, manifest: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Write the table; NaN in a column that may be null becomes null.

    Args:
        storage: the directory.
        manifest: goes into the file's schema metadata.
        columns: by name, arrays of equal length.
    """
    described = {"fingerprint": str(manifest["fingerprint"]), "raycp": json.dumps(dict(manifest))}
    arrays = [
        pa.array(np.asarray(columns[field.name]), type=field.type, from_pandas=field.nullable)
        for field in SCHEMA
    ]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(described))
    storage.write(NAME, to_parquet(table))


def read_evaluation(path: str) -> EvaluationResults:
    """Read the result of an evaluation, local or remote.

    Raises:
        StorageError: there is no evaluation, or no result yet, or the file is damaged.
    """
    storage = Storage(path)
    manifest = recorded_manifest(storage)
    if manifest is None or manifest["kind"] != "evaluate":
        raise StorageError(
            f"{storage.path()} holds no evaluation: `raycp evaluate CONFIG --out DIR` makes one."
        )
    data = storage.read(NAME)
    if data is None:
        raise StorageError(
            f"{storage.path()} has no {NAME} yet; run `raycp evaluate` with --out {storage.path()} to go on."
        )
    try:
        table = from_parquet(data, SCHEMA)
    except DamagedTableError as err:
        raise StorageError(
            f"{storage.path(NAME)} is damaged ({err}). It is derived: delete it and give the command again that "
            "made it; nothing is measured anew."
        ) from err
    return EvaluationResults(storage.name, storage.path(), manifest, table)


def is_evaluation(path: str) -> bool:
    """Whether a directory holds an evaluation, finished or not."""
    storage = Storage(path)
    if storage.read("config.json") is None:
        return False
    try:
        manifest = recorded_manifest(storage)
    except StorageError:  # a training, for example: whoever reads it says what is wrong
        return False
    return manifest is not None and manifest["kind"] == "evaluate"

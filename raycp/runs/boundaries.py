"""The boundary tables of a run, stored with it: what decided its images, whatever computes such tables later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raycp.certify.boundaries import BoundaryTable
from raycp.errors import StorageError
from raycp.runs.tables import DamagedTableError, from_parquet, to_parquet
from raycp.storage import Storage

BOUNDARIES = "boundaries.parquet"

_SCHEMA = pa.schema(
    [
        pa.field("sigma", pa.float64(), nullable=False, metadata={"unit": "pixel units, images in [0,1]"}),
        pa.field("radius", pa.float64(), nullable=False, metadata={"unit": "L2, pixel units"}),
        pa.field("looks", pa.list_(pa.int64()), nullable=False, metadata={"unit": "estimation samples"}),
        pa.field("efficacy", pa.list_(pa.int64()), nullable=False, metadata={"unit": "votes that certify"}),
        pa.field(
            "futility", pa.list_(pa.int64()), metadata={"unit": "votes that give up; null: not decided"}
        ),
    ]
)


def digest(tables: Mapping[float, BoundaryTable]) -> str:
    """SHA-256 over all numbers of the tables."""
    sha = hashlib.sha256()
    for sigma in sorted(tables):
        table = tables[sigma]
        arrays = (table.looks_J, table.radii_G, table.efficacy_GJ, table.decided_R, table.futility_RJ)
        for array in (np.array([sigma]), *arrays):
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            sha.update(f"{little.dtype.str}{little.shape}".encode() + little.tobytes())
    return sha.hexdigest()


def write_boundaries(storage: Storage, tables: Mapping[float, BoundaryTable]) -> None:
    """Write the tables of a run."""
    rows = []
    for sigma, table in tables.items():
        futility = dict(zip(table.decided_R.tolist(), table.futility_RJ.tolist(), strict=True))
        for position, radius in enumerate(table.radii_G.tolist()):
            efficacy = table.efficacy_GJ[position].tolist()
            rows.append((sigma, radius, table.looks_J.tolist(), efficacy, futility.get(position)))
    columns = [
        pa.array(column, type=field.type)
        for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
    ]
    storage.write(BOUNDARIES, to_parquet(pa.Table.from_arrays(columns, schema=_SCHEMA)))


def read_boundaries(storage: Storage, expected_digest: str) -> dict[float, BoundaryTable]:
    """Read the tables of a run.

    Raises:
        StorageError: the file is missing, damaged, or not what the run began with.
    """
    name = storage.path(BOUNDARIES)
    data = storage.read(BOUNDARIES)
    if data is None:
        raise StorageError(
            f"{name} is missing: without it the counts of this run cannot be judged. Restore it."
        )
    try:
        rows = from_parquet(data, _SCHEMA).to_pylist()
    except DamagedTableError as err:
        raise StorageError(f"{name} is damaged ({err}). Restore it from a copy.") from err
    tables = {}
    for sigma in dict.fromkeys(row["sigma"] for row in rows):
        own = [row for row in rows if row["sigma"] == sigma]
        looks = np.array(own[0]["looks"], dtype=np.int64)
        decided = [position for position, row in enumerate(own) if row["futility"] is not None]
        futility = [own[position]["futility"] for position in decided]
        tables[sigma] = BoundaryTable(
            sigma=sigma,
            looks_J=looks,
            radii_G=np.array([row["radius"] for row in own], dtype=np.float64),
            efficacy_GJ=np.array([row["efficacy"] for row in own], dtype=np.int64),
            decided_R=np.array(decided, dtype=np.int64),
            futility_RJ=np.array(futility, dtype=np.int64).reshape(len(futility), len(looks)),
        )
    if digest(tables) != expected_digest:
        raise StorageError(
            f"{name} is not the one this run began with (its SHA-256 differs). Restore it from a copy."
        )
    return tables

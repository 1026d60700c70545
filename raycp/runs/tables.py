"""Arrow schemas of a run's tables, with units, and the way between rows and Parquet bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raycp.certify.units import Outcome
from raycp.runs.manifest import is_composed


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit})


_KEY = [
    _field("sigma", pa.float64(), "pixel units, images in [0,1]"),
    _field("image_index", pa.int64(), "index in the data set"),
    _field("label", pa.int64(), "class"),
]
_COST = [
    _field("stop_reason", pa.string(), "complete | skipped_wrong | decided | tolerance | undecided"),
    _field("samples", pa.int64(), "noisy samples the row is made from, all phases"),
    _field("seconds", pa.float64(), "time on the device"),
    _field("numerics", pa.string(), "numerics class under which all samples were drawn"),
]
CERTIFICATES = pa.schema(
    [
        *_KEY,
        _field("selected", pa.int64(), "class with most selection samples"),
        _field("predicted", pa.int64(), "class; -1 = abstain"),
        _field("radius", pa.float64(), "L2, pixel units, rounded down; 0 when abstaining"),
        pa.field(
            "grid_radius",
            pa.float64(),
            metadata={"unit": "largest certified radius of the table; null: none"},
        ),
        _field("p_A_lower", pa.float64(), "probability"),
        _field("p_B_upper", pa.float64(), "probability"),
        _field("n_A", pa.int64(), "estimation samples of the selected class"),
        _field("n", pa.int64(), "estimation samples"),
        _field("n0", pa.int64(), "selection samples N0"),
        _field("correct", pa.bool_(), "predicted == label"),
        *_COST,
    ]
)
PREDICTIONS = pa.schema(
    [
        *_KEY,
        _field("predicted", pa.int64(), "class; -1 = abstain"),
        _field("n_A", pa.int64(), "samples of the most frequent class"),
        _field("n_B", pa.int64(), "samples of the second most frequent class"),
        _field("n", pa.int64(), "samples"),
        _field("correct", pa.bool_(), "predicted == label"),
        *_COST,
    ]
)
SCHEMAS = {"certify": CERTIFICATES, "predict": PREDICTIONS}
_CORE_CLASS = _field("core_class", pa.int64(), "class that the core gives the image; -1: not known")
_OF_COMPOSITIONS = {
    "certify": [
        _field(
            "case", pa.string(), "what decides: certified | core (the selector's choice) | agreement | none"
        ),
        _CORE_CLASS,
        _field(
            "certified_class",
            pa.int64(),
            "smoothed classifier: class with most selection samples, n_A is of it",
        ),
        _field("choice", pa.string(), "choice with most selection samples: certified | core | unknown"),
        _field("n_S", pa.int64(), "estimation samples of that choice"),
        _field("p_S_lower", pa.float64(), "probability"),
    ],
    "predict": [
        _CORE_CLASS,
        _field("n_certified", pa.int64(), "samples on which the selector chooses the certified classifier"),
    ],
}
_UNITS_OF_COMPOSITIONS = {
    "selected": "class of the composition by the selection samples: of the core where `choice` is core",
    "samples": "noisy samples the row is made from, all phases, and one for the core",
}


def schema_of(kind: str, composed: bool) -> pa.Schema:
    """The columns of a run's table; of a composition with those that say what it follows from."""
    if not composed:
        return SCHEMAS[kind]
    units = _UNITS_OF_COMPOSITIONS
    fields = [
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field
        for field in SCHEMAS[kind]
    ]
    return pa.schema([*fields, *_OF_COMPOSITIONS[kind]])


class DamagedTableError(Exception):
    """Bytes that are not a whole Parquet file; the message says why. Whoever knows the file's name names it."""


def result_table(
    kind: str,
    outcomes: Sequence[Outcome],
    labels_M: np.ndarray,
    image_index_M: np.ndarray,
    metadata: Mapping[str, Any],
) -> pa.Table:
    """The table of decided images, sorted by (sigma, position of the image in the run).

    Args:
        kind: `certify` or `predict`.
        outcomes: decided units in any order.
        labels_M, image_index_M: of the run's images.
        metadata: goes into the file's schema metadata; `fingerprint` and the run's `config.json` content.
    """
    schema = schema_of(kind, is_composed(metadata))
    ordered = sorted(outcomes, key=lambda outcome: (outcome.sigma, outcome.image))
    images = np.array([outcome.image for outcome in ordered], dtype=np.int64)
    common = {
        "sigma": [outcome.sigma for outcome in ordered],
        "image_index": image_index_M[images],
        "label": labels_M[images],
        "samples": [outcome.num_samples for outcome in ordered],
        "seconds": [outcome.seconds for outcome in ordered],
        "numerics": [outcome.numerics for outcome in ordered],
    }
    columns = [
        pa.array(
            common[field.name]
            if field.name in common
            else [getattr(outcome.row, field.name) for outcome in ordered],
            type=field.type,
        )
        for field in schema
    ]
    described = {"fingerprint": str(metadata["fingerprint"]), "raycp": json.dumps(dict(metadata))}
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(described))


def to_parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def from_parquet(
    data: bytes, schema: pa.Schema | None = None, read_dictionary: Sequence[str] = ()
) -> pa.Table:
    """The table of a Parquet file, whole, with its pages' checksums verified where they have some.

    Args:
        data: content of the file.
        schema: the columns it must have, if given.
        read_dictionary: text columns of `schema` to keep as codes.

    Raises:
        DamagedTableError: the bytes are not such a file.
    """
    try:
        if schema is not None and not pq.read_schema(pa.BufferReader(data)).equals(schema):
            raise DamagedTableError("its columns are other ones")
        file = pq.ParquetFile(
            pa.BufferReader(data), read_dictionary=list(read_dictionary), page_checksum_verification=True
        )
        table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        raise DamagedTableError(str(err).splitlines()[0]) from err
    if len(table) != file.metadata.num_rows:
        raise DamagedTableError(f"{len(table)} rows instead of {file.metadata.num_rows}")
    return table

"""What an evaluation measured, durable: `measurements/*.parquet`, one row per noisy sample, and one per clean image."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raycp.errors import LedgerError
from raycp.runs.tables import DamagedTableError, from_parquet, to_parquet
from raycp.storage import Storage

FOLDER = "measurements"
_BYTES = {"unit": "float32, little-endian"}
_SCHEMA = pa.schema(
    [
        pa.field(
            "sigma", pa.float64(), nullable=False, metadata={"unit": "pixel units; 0: the clean image itself"}
        ),
        pa.field("image", pa.int64(), nullable=False, metadata={"unit": "position in the run"}),
        pa.field("draw", pa.int64(), nullable=False),
        pa.field("predicted", pa.int64(), nullable=False),
        pa.field("squared_l2", pa.float64(), nullable=False, metadata={"unit": "pixel units"}),
        pa.field("lpips", pa.float64()),
        pa.field("features", pa.binary(), metadata=_BYTES),
        pa.field("purified", pa.binary(), metadata=_BYTES),
        pa.field("numerics", pa.string(), nullable=False),
    ]
)
_KEY = ["sigma", "image", "draw"]


class Measurements:
    """The measurements of one evaluation.

    Args:
        storage: its directory.
        fingerprint: of the evaluation; every file carries it.
    """

    def __init__(self, storage: Storage, fingerprint: str) -> None:
        self._storage = storage
        self._fingerprint = fingerprint
        self._writer = uuid.uuid4().hex[:8]
        self._written = 0

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write a part file; durable when this returns. Arrays are stored as their bytes."""
        plain = [
            {name: v.astype("<f4").tobytes() if isinstance(v, np.ndarray) else v for name, v in row.items()}
            for row in rows
        ]
        schema = _SCHEMA.with_metadata({"fingerprint": self._fingerprint})
        name = f"{FOLDER}/part-{self._written:06d}-{self._writer}.parquet"
        self._storage.write(name, to_parquet(pa.Table.from_pylist(plain, schema=schema)))
        self._written += 1

    def done(self, draws: int) -> set[tuple[float, int]]:
        """The (sigma, image) pairs that are there with all their draws; sigma 0, the clean image, has one."""
        found: dict[tuple[float, int], set[int]] = {}
        for part in self._parts(_KEY):
            for sigma, image, draw in zip(*(part.column(name).to_pylist() for name in _KEY), strict=True):
                found.setdefault((sigma, image), set()).add(draw)
        return {key for key, there in found.items() if len(there) == (draws if key[0] else 1)}

    def read(self, sigma: float, num_images: int, draws: int) -> Columns:
        """Everything at one noise level, each sample once, in order.

        Raises:
            LedgerError: a file is damaged, of another run, or contradicts another.
        """
        parts = [part.filter(pc.equal(part.column("sigma"), sigma)) for part in self._parts(_SCHEMA.names)]
        table = pa.concat_tables(parts).sort_by([(name, "ascending") for name in _KEY]).combine_chunks()
        image, draw = (table.column(name).to_numpy() for name in ("image", "draw"))
        new = np.append(True, (image[1:] != image[:-1]) | (draw[1:] != draw[:-1]))
        twice = np.flatnonzero(~new)
        values = table.drop_columns(["numerics"])
        for row in twice.tolist():
            if values.slice(row - 1, 1).to_pylist() != values.slice(row, 1).to_pylist():
                raise LedgerError(
                    f"{self._storage.path(FOLDER)} holds two measurements of the same sample (image {image[row]}, "
                    f"sigma {sigma:g}, draw {draw[row]}) that differ: two drivers measured on different machines. "
                    "Move the folder away and start again."
                )
        table = table.filter(pa.array(new))
        assert len(table) == num_images * draws, (len(table), num_images, draws)
        return Columns(table)

    def _parts(self, names: Sequence[str]) -> Iterator[pa.Table]:
        for name in self._storage.names(FOLDER):
            try:
                table = from_parquet(self._storage.read(name) or b"", _SCHEMA)
            except DamagedTableError as err:
                raise LedgerError(
                    f"{self._storage.path(name)} is damaged ({err}). Move it away and resume: only the samples in it "
                    "are measured again."
                ) from err
            fingerprint = (table.schema.metadata or {}).get(b"fingerprint", b"none").decode(errors="replace")
            if fingerprint != self._fingerprint:
                raise LedgerError(
                    f"{self._storage.path(name)} belongs to another evaluation (fingerprint {fingerprint[:12]}, this "
                    f"one {self._fingerprint[:12]}). Move it away."
                )
            yield table.replace_schema_metadata(None).select(list(names))


class Columns:
    """The samples of one noise level, sorted by image and draw."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.image: npt.NDArray[np.int64] = table.column("image").to_numpy()
        self.predicted: npt.NDArray[np.int64] = table.column("predicted").to_numpy()
        self.squared_l2: npt.NDArray[np.float64] = table.column("squared_l2").to_numpy()
        self.numerics: npt.NDArray[np.object_] = table.column("numerics").to_numpy(zero_copy_only=False)

    @property
    def lpips(self) -> npt.NDArray[np.float64] | None:
        """Float64 [n]; None where it was not measured."""
        column = self._table.column("lpips")
        found: npt.NDArray[np.float64] | None = None if column.null_count else column.to_numpy()
        return found

    def rows(self, name: str) -> npt.NDArray[np.float32]:
        """Of the samples that have `features` or `purified`, these rows: float32, one per sample."""
        stored = self._table.column(name).drop_null().to_pylist()
        return np.stack([np.frombuffer(item, dtype="<f4") for item in stored])

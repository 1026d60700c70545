"""The ledger of counts: what was drawn, durable before anything is made of it.

`counts/*.parquet`, one row per range of samples: sigma, image_index, phase, first, num_samples, the class counts (as
parallel lists of classes and counts, without zeros, above 32 classes; otherwise a dense list), numerics class, seconds.
Part files are written every few seconds and merged into one from time to time. A merged file may for a moment stand
beside the parts it replaces; readers take each sample once. Pages carry checksums: a flipped bit is not a count.
"""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raycp.certify.units import Counted
from raycp.errors import LedgerError
from raycp.runs.tables import DamagedTableError, from_parquet
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage

FOLDER = "counts"
MOST_DENSE_CLASSES = 32
_PARTS_BEFORE_COMPACTION = 64
_ROWS_AT_ONCE = 4096

_SCHEMA = pa.schema(
    [
        pa.field("sigma", pa.float64(), nullable=False, metadata={"unit": "pixel units, images in [0,1]"}),
        pa.field("image_index", pa.int64(), nullable=False, metadata={"unit": "index in the data set"}),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("first", pa.int64(), nullable=False, metadata={"unit": "sample"}),
        pa.field("num_samples", pa.int64(), nullable=False),
        pa.field("classes", pa.list_(pa.int32()), metadata={"unit": "null: counts is dense"}),
        pa.field("counts", pa.list_(pa.int64()), nullable=False),
        pa.field("numerics", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False, metadata={"unit": "time on the device"}),
    ]
)
_REPEATED = ["phase", "numerics"]
"""Columns of few different texts, kept as codes in memory."""


class Ledger:
    """The counts of one run.

    Args:
        storage: the run directory.
        fingerprint: of the run; every file carries it, and a file of another run is refused.
        image_index_M: dataset indices of the run's images, int64 [M].
        num_classes: K; 2K outcomes for a composition.
        cuts: per phase, sample numbers across which ranges are not joined.
    """

    def __init__(
        self,
        storage: Storage,
        fingerprint: str,
        image_index_M: np.ndarray,
        num_classes: int,
        cuts: Mapping[Phase, Collection[int]] | None = None,
    ) -> None:
        self._storage = storage
        self._fingerprint = fingerprint
        self._image_index = image_index_M
        self._position = {int(index): position for position, index in enumerate(image_index_M)}
        self._num_classes = num_classes
        self._cuts = {phase: frozenset((cuts or {}).get(phase, ())) for phase in Phase}
        self._writer = uuid.uuid4().hex[:8]
        self._num_written = 0
        self._num_parts = 0

    def append(self, counted: Sequence[Counted]) -> None:
        """Write a part file with these blocks, adjacent ranges joined; durable when this returns."""
        self._write("part", merge(sorted(counted, key=_range_key), self._cuts))
        self._num_parts += 1
        if self._num_parts >= _PARTS_BEFORE_COMPACTION:
            self.compact()

    def compact(self) -> None:
        """Replace all files by one."""
        names = self._storage.names(FOLDER)
        if len(names) > 1:
            self._write("merged", merge(self._read(names), self._cuts))
            for name in names:
                self._storage.delete(name)
            pa.default_memory_pool().release_unused()  # it would keep what the sorting took, for good
        self._num_parts = 0

    def read(self) -> Iterator[list[Counted]]:
        """All blocks, one list per (sigma, image) and numerics class, free of overlaps.

        Where a unit was drawn under several classes (a resume on another machine), their lists follow each other,
        the one with most samples first; each holds exact counts of another function.

        Raises:
            LedgerError: a file is damaged, of another run, or contradicts another; the message names it.
        """
        for _, unit in groupby(self._read(self._storage.names(FOLDER)), key=_unit_key):
            by_class: dict[str, list[Counted]] = {}
            for item in unit:
                by_class.setdefault(item.numerics, []).append(item)
            yield from sorted(
                by_class.values(),
                key=lambda items: (-sum(i.block.num_samples for i in items), items[0].numerics),
            )

    def _read(self, names: Sequence[str]) -> Iterator[Counted]:
        """Blocks of all files, streams together and in order of samples, each sample once."""
        for _, rows in groupby(self._sorted_rows(names), key=lambda row: _stream_key(row[0])):
            distinct: list[tuple[Counted, str]] = []
            for item, name in rows:
                if distinct and distinct[-1][0].block == item.block:
                    self._require_same_counts(item, name, *distinct[-1])
                else:
                    distinct.append((item, name))
            yield from disjoint([item for item, _ in distinct])

    def _require_same_counts(self, item: Counted, name: str, other: Counted, other_name: str) -> None:
        if (item.counts_K == other.counts_K).all():
            return
        block = item.block
        raise LedgerError(
            f"{self._storage.path(name)} and {self._storage.path(other_name)} hold different counts of the same "
            f"samples (image {self._image_index[block.image]}, sigma {item.sigma}, samples {block.first} to "
            f"{block.first + block.num_samples - 1}). One of them was changed or drawn by another function; move both "
            "away and resume, their samples are drawn again."
        )

    def _sorted_rows(self, names: Sequence[str]) -> Iterator[tuple[Counted, str]]:
        """Rows of all files with the file's name; sorted in Arrow, so that only a chunk at a time is Python objects."""
        tables = [
            table.append_column("file", pa.array(np.full(len(table), position, dtype=np.int32)))
            for position, table in enumerate(self._table(name) for name in names)
        ]
        if not tables:
            return
        rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        del tables
        # Arrow does not sort dictionaries; of classes and phases only the grouping matters, so their codes will do.
        keys = rows.select(["sigma", "image_index", "first", "num_samples"])
        for name in _REPEATED:
            keys = keys.append_column(name, rows.column(name).combine_chunks().indices)
        ascending = [(key, "ascending") for key in ("sigma", "image_index", "numerics", "phase", "first")]
        order = pc.sort_indices(keys, sort_keys=[*ascending, ("num_samples", "descending")])
        for start in range(0, len(order), _ROWS_AT_ONCE):
            chunk = rows.take(order.slice(start, _ROWS_AT_ONCE))
            for row in chunk.to_pylist():
                name = names[row["file"]]
                try:
                    yield self._parse(row), name
                except (KeyError, ValueError, IndexError, TypeError) as err:
                    raise LedgerError(self._damaged(name, f"{err} in the row {row}")) from err

    def _table(self, name: str) -> pa.Table:
        try:
            table = from_parquet(self._storage.read(name) or b"", _SCHEMA, _REPEATED)
        except DamagedTableError as err:
            raise LedgerError(self._damaged(name, str(err))) from err
        found = (table.schema.metadata or {}).get(b"fingerprint", b"none").decode(errors="replace")
        if found != self._fingerprint:
            raise LedgerError(
                f"{self._storage.path(name)} belongs to another run (fingerprint {found[:12]}, this run "
                f"{self._fingerprint[:12]}). Move it away."
            )
        return table.replace_schema_metadata(None)

    def _damaged(self, name: str, reason: str) -> str:
        return (
            f"{self._storage.path(name)} is damaged ({reason}). Move it away and resume: only the samples in it are "
            "drawn again."
        )

    def _parse(self, row: dict[str, object]) -> Counted:
        counts = np.array(row["counts"], dtype=np.int64)
        if row["classes"] is not None:
            classes = np.array(row["classes"], dtype=np.int64)
            if (classes < 0).any():
                raise ValueError("a class below 0")
            dense = np.zeros(self._num_classes, dtype=np.int64)
            dense[classes] = counts
            counts = dense
        block = Block(
            self._position[int(str(row["image_index"]))],
            Phase[str(row["phase"]).upper()],
            int(str(row["first"])),
            int(str(row["num_samples"])),
        )
        if (
            len(counts) != self._num_classes
            or counts.min() < 0
            or counts.sum() != block.num_samples
            or block.num_samples < 1
            or block.first < 0
        ):
            raise ValueError("counts that do not add up")
        return Counted(
            float(str(row["sigma"])), block, counts, str(row["numerics"]), float(str(row["seconds"]))
        )

    def _write(self, kind: str, counted: Iterable[Counted]) -> None:
        schema = _SCHEMA.with_metadata({"fingerprint": self._fingerprint})
        sink = pa.BufferOutputStream()
        rows = iter(counted)
        with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
            while chunk := list(islice(rows, _ROWS_AT_ONCE)):
                writer.write_batch(pa.record_batch(self._columns(chunk), schema=schema))
        name = f"{FOLDER}/{kind}-{self._num_written:06d}-{self._writer}.parquet"
        self._storage.write(name, sink.getvalue().to_pybytes())
        self._num_written += 1

    def _columns(self, counted: Sequence[Counted]) -> list[pa.Array]:
        dense = self._num_classes <= MOST_DENSE_CLASSES
        used = [None if dense else np.flatnonzero(item.counts_K) for item in counted]
        columns = [
            [item.sigma for item in counted],
            [int(self._image_index[item.block.image]) for item in counted],
            [item.block.phase.name.lower() for item in counted],
            [item.block.first for item in counted],
            [item.block.num_samples for item in counted],
            used,
            [
                item.counts_K if at is None else item.counts_K[at]
                for item, at in zip(counted, used, strict=True)
            ],
            [item.numerics for item in counted],
            [item.seconds for item in counted],
        ]
        return [pa.array(column, type=field.type) for column, field in zip(columns, _SCHEMA, strict=True)]


def merge(
    counted: Iterable[Counted], cuts: Mapping[Phase, Collection[int]] | None = None
) -> Iterator[Counted]:
    """Join adjacent ranges of one stream, given in order of `_range_key`, but not across a cut."""
    last: Counted | None = None
    for item in counted:
        if (
            last is not None
            and _stream_key(last) == _stream_key(item)
            and last.block.first + last.block.num_samples == item.block.first
            and not (cuts and item.block.first in cuts[item.block.phase])
        ):
            block = last.block._replace(num_samples=last.block.num_samples + item.block.num_samples)
            counts = last.counts_K + item.counts_K
            last = Counted(item.sigma, block, counts, item.numerics, last.seconds + item.seconds)
            continue
        if last is not None:
            yield last
        last = item
    if last is not None:
        yield last


def disjoint(items: Sequence[Counted]) -> list[Counted]:
    """Of ranges of one stream that may overlap, those with the most samples in all that do not; in order.

    Ranges overlap where a merged file stands beside its parts, or where two drivers drew the same samples in other
    cuts. A set of ranges that covers everything is found if there is one: what was complete stays complete.
    """
    items = sorted(items, key=lambda item: item.block.first + item.block.num_samples)
    stops = [item.block.first + item.block.num_samples for item in items]
    if all(stop <= item.block.first for stop, item in zip(stops, items[1:], strict=False)):
        return items
    most, before = [0], []  # most[i]: samples in the best choice from the first i ranges
    for i, item in enumerate(items):
        before.append(bisect_right(stops, item.block.first, hi=i))
        most.append(max(most[i], most[before[i]] + item.block.num_samples))
    chosen, i = [], len(items)
    while i:
        if most[i] == most[i - 1]:
            i -= 1
        else:
            chosen.append(items[i - 1])
            i = before[i - 1]
    return chosen[::-1]


def _unit_key(item: Counted) -> tuple[float, int]:
    return item.sigma, item.block.image


def _stream_key(item: Counted) -> tuple[float, int, str, int]:
    return (*_unit_key(item), item.numerics, item.block.phase)


def _range_key(item: Counted) -> tuple[float, int, str, int, int]:
    return (*_stream_key(item), item.block.first)

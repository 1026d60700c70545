"""The counts of a run, read from counts/*.parquet as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raycp.verify.checks import Check
from raycp.verify.parquet import UnreadableError, fingerprint_in, read_table
from raycp.verify.prefixes import ContradictionError, Counts, Prefixes
from raycp.verify.record import Record

SELECTION, ESTIMATION, CORE = "selection", "estimation", "core"
PHASES = (SELECTION, ESTIMATION, CORE)
"""The last one in the runs of compositions alone: what their core says of the image itself."""
_FOLDER = "counts"
_COLUMNS = {
    "sigma": "double", "image_index": "int64", "phase": "string", "first": "int64", "num_samples": "int64",
    "classes": "list<element: int32>?", "counts": "list<element: int64>", "numerics": "string", "seconds": "double",
}  # fmt: skip
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Range:
    """One row: class counts of consecutive samples."""

    sigma: float
    image_index: int
    phase: str
    first: int
    num_samples: int
    counts_K: Counts
    numerics: str
    file: str

    @property
    def name(self) -> str:
        """The samples, for messages."""
        last = self.first + self.num_samples - 1
        return f"sigma {self.sigma:g}, image {self.image_index}, {self.phase} samples {self.first} to {last}"


@dataclass
class Unit:
    """The samples of one (sigma, image): per numerics class and phase."""

    sigma: float
    image_index: int
    prefixes: dict[str, dict[str, Prefixes]] = field(default_factory=dict)


class Ledger:
    """All rows of all files, sorted in Arrow: only a few thousand at a time become Python objects.

    Args:
        record: the run.
    """

    def __init__(self, record: Record) -> None:
        self.check = Check("ledger")
        self._record = record
        self._images = set(record.image_index)
        protocol = record.protocol
        self._limit = {SELECTION: protocol.num_selection, ESTIMATION: protocol.num_estimation}
        self._outcomes = record.manifest["num_classes"]
        """Classes; of a composition, choices of its selector times classes."""
        if record.config.composition is not None:
            self._limit[CORE] = 1
            self._outcomes *= 2
        self._files = record.storage.names(_FOLDER)
        tables = [self._read(position) for position in range(len(self._files))]
        rows = [table for table in tables if table is not None and len(table)]
        self._rows = None
        if rows:
            joined = pa.concat_tables(rows).combine_chunks()
            keys = [(name, "ascending") for name in ("sigma", "image_index")]
            self._rows = joined.take(pc.sort_indices(joined, sort_keys=keys))
        samples = 0 if self._rows is None else pc.sum(self._rows.column("num_samples")).as_py()
        self.check.verdict = f"{len(self._files)} files, {len(self):,} rows, {samples:,} samples"

    def __len__(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def units(self) -> Iterator[Unit]:
        """Every (sigma, image) that has rows; what is wrong with rows goes into `check`."""
        for (sigma, image_index), ranges in groupby(
            self._ranges(), key=lambda item: (item.sigma, item.image_index)
        ):
            unit = Unit(sigma, image_index)
            for item in ranges:
                by_phase = unit.prefixes.setdefault(item.numerics, {})
                if item.phase not in by_phase:
                    by_phase[item.phase] = Prefixes(len(item.counts_K))
                by_phase[item.phase].add(item.first, item.num_samples, item.counts_K)
            for numerics, phase in [
                (numerics, phase) for numerics, own in unit.prefixes.items() for phase in own
            ]:
                try:
                    unit.prefixes[numerics][phase](0)
                except ContradictionError as err:
                    name = f"sigma {sigma:g}, image {image_index}, {phase} {err}"
                    self.check.failures.append(f"{name}: counted in two ways that differ")
                    del unit.prefixes[numerics][phase]
            yield unit

    def strata(self) -> dict[tuple[float, str], npt.NDArray[np.int64]]:
        """Row numbers by (sigma, phase)."""
        if self._rows is None:
            return {}
        found = {}
        for sigma in self._record.protocol.sigmas:
            of_sigma = pc.equal(self._rows.column("sigma"), sigma)
            for phase in PHASES:
                here = pc.and_(of_sigma, pc.equal(self._rows.column("phase"), phase))
                found[sigma, phase] = np.flatnonzero(here.to_numpy(zero_copy_only=False))
        return {stratum: numbers for stratum, numbers in found.items() if numbers.size}

    def rows(self, numbers: Sequence[int]) -> list[Range]:
        """Single rows, for drawing them again; those that are no ranges are left out."""
        if self._rows is None:
            return []
        found = (self._range(row) for row in self._rows.take(pa.array(numbers, pa.int64())).to_pylist())
        return [item for item in found if isinstance(item, Range)]

    def _read(self, position: int) -> Any:
        name = self._files[position]
        try:
            table = read_table(self._record.storage.read(name), _COLUMNS)
        except UnreadableError as err:
            self.check.failures.append(f"{name}: {err}")
            return None
        found, expected = fingerprint_in(table), self._record.manifest["fingerprint"]
        if found != expected:
            self.check.failures.append(f"{name}: fingerprint {found[:12]}, of the run {expected[:12]}")
        table = table.replace_schema_metadata(None)
        return table.append_column("file", pa.array(np.full(len(table), position, dtype=np.int32)))

    def _ranges(self) -> Iterator[Range]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            assert self._rows is not None
            for row in self._rows.slice(start, _ROWS_AT_ONCE).to_pylist():
                item = self._range(row)
                if isinstance(item, Range):
                    yield item
                else:
                    self.check.failures.append(item)

    def _range(self, row: dict[str, Any]) -> Range | str:
        """A row as a range, or what is wrong with it."""
        where = (
            f"{self._files[row['file']]}: sigma {row['sigma']}, image {row['image_index']}, {row['phase']} samples "
            f"from {row['first']}"
        )
        counts = _dense(row, self._outcomes)
        if counts is None:
            return f"{where}: counts that are not of {self._outcomes} classes"
        first, number = row["first"], row["num_samples"]
        if row["phase"] not in self._limit or row["sigma"] not in self._record.protocol.sigmas:
            return f"{where}: not a sigma and phase of this run"
        if row["image_index"] not in self._images:
            return f"{where}: not an image of this run"
        if counts.min() < 0 or counts.sum() != number:
            return f"{where}: counts {_nonzero(counts)} add up to {counts.sum()}, not to {number} samples"
        if first < 0 or number < 1 or first + number > self._limit[row["phase"]]:
            return f"{where}: {number} samples are not within 0 to {self._limit[row['phase']] - 1}"
        return Range(
            row["sigma"], row["image_index"], row["phase"], first, number, counts, row["numerics"],
            self._files[row["file"]],
        )  # fmt: skip


def _dense(row: dict[str, Any], num_classes: int) -> Counts | None:
    """Counts of all classes; None if the row does not say them."""
    counts, classes = row["counts"], row["classes"]
    if counts is None or None in counts:
        return None
    if classes is None:
        return np.array(counts, dtype=np.int64) if len(counts) == num_classes else None
    if len(classes) != len(counts) or len(set(classes)) != len(classes):
        return None
    if any(k is None or not 0 <= k < num_classes for k in classes):
        return None
    dense = np.zeros(num_classes, dtype=np.int64)
    dense[np.array(classes, dtype=np.int64)] = counts
    return dense


def _nonzero(counts: Counts) -> str:
    return ", ".join(f"{k}: {counts[k]}" for k in np.flatnonzero(counts)[:8])

"""The Hugging Face parquet layout: encoded images in a column, integer labels in another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raycp.config.data import ParquetData
from raycp.data.decode import EncodedImage, decode_images
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.location import local_path, shown
from raycp.data.parquet_files import find_parquet_files
from raycp.data.selection import select_indices
from raycp.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_BATCH_ROWS = 1024
# What damaged files make pyarrow raise; the last one for names of columns.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class _File:
    """One parquet file: what its footer says.

    Attributes:
        group_rows: rows of each row group.
        image_column, label_column: names of the two columns.
        is_struct: the image column is struct<bytes, path> rather than bytes.
        class_names: from the Hugging Face metadata of the schema.
    """

    path: Path
    group_rows: tuple[int, ...]
    image_column: str
    label_column: str
    is_struct: bool
    class_names: tuple[str, ...] | None


@dataclass(frozen=True)
class ParquetImages:
    """The files of one split, opened: their footers are known, no image is read.

    Attributes:
        source: where the images come from, in words.
    """

    files: tuple[_File, ...]
    source: str

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Of the first file; those of the others are the same."""
        return self.files[0].class_names

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [file.path for file in self.files]

    @property
    def group_rows(self) -> NDArray[np.int64]:
        """Rows of each row group, through all files: int64 [G]."""
        return np.array([rows for file in self.files for rows in file.group_rows], dtype=np.int64)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of these rows, checked: int64 [m]."""
        labels = _labels(_parts(self.files, indices), len(indices))
        return checked_labels(labels, indices, self.class_names, self.source)

    def encoded(self, indices: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """The images of these rows in stored order, each with its position in `indices`."""
        return _encoded(_parts(self.files, indices))


def read_parquet(config: ParquetData) -> ImageSet:
    """Rows are numbered through the files of the split; only row groups with selected rows are read."""
    stored = open_parquet(config)
    indices = select_indices(config.select, int(stored.group_rows.sum()), stored.source)
    labels = stored.labels(indices)
    images = decode_images(stored.encoded(indices), len(indices), config)
    return ImageSet(indices, images, labels, stored.class_names, stored.source)


def open_parquet(config: ParquetData) -> ParquetImages:
    """Find the files and read their footers."""
    path = local_path(config.path)
    files = [_read_footer(file, config) for file in find_parquet_files(path, config.split)]
    for file in files[1:]:
        if file.class_names != files[0].class_names:
            raise DataError(
                f"{files[0].path} and {file.path} name different classes; keep one data set per folder."
            )
    source = f"the parquet {'files in ' if path.is_dir() else 'file '}{shown(path)}"
    if config.split is not None:
        source = f"the {config.split} split of {source}"
    return ParquetImages(tuple(files), source)


def _read_footer(path: Path, config: ParquetData) -> _File:
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except _DAMAGE as err:
        raise DataError(f"{path} is damaged or not a parquet file: {err}.") from err
    wanted = _IMAGE_COLUMNS if config.image_column is None else (config.image_column,)
    # A name that occurs twice has no index either.
    found = [name for name in wanted if schema.get_field_index(name) >= 0]
    if len(found) != 1:
        raise DataError(
            f"{path} has {'both' if found else 'no column'} {' and '.join(found) or ' or '.join(wanted)}; set "
            f"data.image_column to one of its columns: {', '.join(schema.names)}."
        )
    if schema.get_field_index(config.label_column) < 0:
        raise DataError(
            f"{path} has no column {config.label_column}; set data.label_column to one of its columns: "
            f"{', '.join(schema.names)}."
        )
    stored = schema.field(found[0]).type
    is_struct = pa.types.is_struct(stored) and stored.get_field_index("bytes") >= 0
    if not _is_bytes(stored.field("bytes").type if is_struct else stored):
        raise DataError(
            f"the column {found[0]} of {path} is {stored}; an image column is bytes or struct<bytes, path>."
        )
    if not pa.types.is_integer(schema.field(config.label_column).type):
        raise DataError(
            f"the column {config.label_column} of {path} is {schema.field(config.label_column).type}; labels must "
            f"be integers."
        )
    group_rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    names = _class_names(path, schema, config.label_column)
    return _File(path, group_rows, found[0], config.label_column, is_struct, names)


def _is_bytes(stored: pa.DataType) -> bool:
    return bool(pa.types.is_binary(stored) or pa.types.is_large_binary(stored))


def _class_names(path: Path, schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """`info.features.LABEL.names` of the JSON that the `datasets` library leaves in the schema."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        feature: Any = json.loads(text)
    except ValueError as err:
        raise DataError(f"the `huggingface` schema metadata of {path} is not JSON: {err}.") from err
    for key in ("info", "features", label_column, "names"):
        if not isinstance(feature, dict) or feature.get(key) is None:
            return None
        feature = feature[key]
    if not isinstance(feature, list) or not all(isinstance(name, str) for name in feature):
        raise DataError(
            f"the `huggingface` schema metadata of {path} names the classes by {feature!r}, not a list."
        )
    return tuple(feature)


@dataclass(frozen=True)
class _Part:
    """The selected rows of one file.

    Attributes:
        offset: rows of the split before this file.
        rows: int64 [m], rows of the file, ascending.
        positions: int64 [m], where they belong in the result.
    """

    file: _File
    offset: int
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]

    def name(self, row: int) -> str:
        return f"image {self.offset + row} (row {row} of {self.file.path})"


def _parts(files: tuple[_File, ...], indices: NDArray[np.int64]) -> list[_Part]:
    order = np.argsort(indices, kind="stable")
    ascending = indices[order]
    parts: list[_Part] = []
    offset = 0
    for file in files:
        stop = offset + sum(file.group_rows)
        low, high = np.searchsorted(ascending, (offset, stop))
        if low < high:
            parts.append(_Part(file, offset, ascending[low:high] - offset, order[low:high]))
        offset = stop
    return parts


def _read_column(part: _Part, column: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], pa.Array]]:
    """Values of `column` (a dotted path) in the selected rows, a batch at a time: rows, positions, values."""
    starts = np.cumsum((0, *part.file.group_rows))
    bounds = np.searchsorted(part.rows, starts)
    groups = [group for group, (low, high) in enumerate(pairwise(bounds)) if low < high]
    # Row of the file for each row that is read.
    read = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups])
    done = 0
    try:
        # Checks the checksum of a page where the writer stored one.
        with pq.ParquetFile(part.file.path, page_checksum_verification=True) as stored:
            for batch in stored.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[column]):
                in_batch = read[done : done + batch.num_rows]
                done += batch.num_rows
                low, high = np.searchsorted(part.rows, (in_batch[0], in_batch[-1] + 1))
                if low < high:
                    chosen = np.searchsorted(in_batch, part.rows[low:high])
                    yield (
                        part.rows[low:high],
                        part.positions[low:high],
                        batch.column(0).take(pa.array(chosen)),
                    )
    except _DAMAGE as err:
        raise DataError(f"{part.file.path} is damaged: {err}.") from err
    if done != len(read):
        raise DataError(
            f"{part.file.path} is damaged: it holds {done} rows where its footer promises {len(read)}."
        )


def _labels(parts: list[_Part], num_images: int) -> NDArray[np.int64]:
    labels = np.empty(num_images, np.int64)
    for part in parts:
        for rows, positions, values in _read_column(part, part.file.label_column):
            if values.null_count:
                row = rows[values.is_null().index(True).as_py()]
                raise DataError(f"{part.name(row)} has no label.")
            try:
                labels[positions] = values.cast(pa.int64()).to_numpy()
            except pa.ArrowInvalid as err:
                raise DataError(f"{part.file.path} has a label that is not an int64: {err}.") from err
    return labels


def _encoded(parts: list[_Part]) -> Iterator[EncodedImage]:
    for part in parts:
        file = part.file
        column = f"{file.image_column}.bytes" if file.is_struct else file.image_column
        for rows, positions, values in _read_column(part, column):
            if file.is_struct:
                values = pc.struct_field(values, "bytes")
            for row, position, content in zip(rows, positions, values.to_pylist()):
                if content is None:
                    raise DataError(f"{part.name(row)} has no bytes; the image must lie in the file itself.")
                yield EncodedImage(int(position), part.name(row), content)

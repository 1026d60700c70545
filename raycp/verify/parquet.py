"""Parquet bytes to a table, every page checked, columns as expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class UnreadableError(Exception):
    """Bytes that are not the Parquet file they should be; the message says why. Whoever knows the name names it."""


def read_table(data: bytes | None, columns: Mapping[str, str]) -> Any:
    """The table of a file.

    Args:
        data: content of the file; None if there is none.
        columns: name and Arrow type of every column; a `?` behind the type allows nulls.

    Raises:
        UnreadableError: there are no bytes, a page's checksum is wrong, or the columns are other ones.
    """
    if data is None:
        raise UnreadableError("the file is missing")
    try:
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        raise UnreadableError(str(err).splitlines()[0]) from err
    found = {field.name: str(field.type) for field in table.schema}
    expected = {name: kind.rstrip("?") for name, kind in columns.items()}
    if found != expected or len(table.schema) != len(columns):
        raise UnreadableError(f"its columns are {found}, not {expected}")
    for name, kind in columns.items():
        if not kind.endswith("?") and table.column(name).null_count:
            raise UnreadableError(f"nulls in the column {name}")
    return table


def fingerprint_in(table: Any) -> str:
    """The fingerprint in a file's metadata; `none` if there is none."""
    found: bytes = (table.schema.metadata or {}).get(b"fingerprint", b"none")
    return found.decode(errors="replace")

"""certificates.parquet against what the counts certify, row by row and column by column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from raycp.config import differences
from raycp.verify.boundaries import Tables
from raycp.verify.checks import Check
from raycp.verify.composition import composite_row_of
from raycp.verify.ledger import PHASES, Ledger, Unit
from raycp.verify.parquet import UnreadableError, fingerprint_in, read_table
from raycp.verify.record import Record
from raycp.verify.rules import UNDECIDED, Row, row_of
from raycp.verify.terms import Terms

CERTIFICATES = "certificates.parquet"
_COLUMNS = {
    "sigma": "double", "image_index": "int64", "label": "int64", "selected": "int64", "predicted": "int64",
    "radius": "double", "grid_radius": "double?", "p_A_lower": "double", "p_B_upper": "double", "n_A": "int64",
    "n": "int64", "n0": "int64", "correct": "bool", "stop_reason": "string", "samples": "int64", "seconds": "double",
    "numerics": "string",
}  # fmt: skip
_OF_COMPOSITIONS = {
    "case": "string", "core_class": "int64", "certified_class": "int64", "choice": "string", "n_S": "int64",
    "p_S_lower": "double",
}  # fmt: skip
_NOT_COMPARED = {"seconds"}

Key = tuple[float, int]


def check_certificates(
    record: Record, terms: Terms, tables: Tables, ledger: Ledger, labels: Mapping[int, int] | None
) -> Check:
    """Derive every row from the ledger and compare.

    Args:
        record, terms, tables, ledger: the run.
        labels: of its images, by index; None if the data set could not be read: then the table's own are taken.
    """
    check = Check("certificates")
    stored = _stored(check, record)
    known = labels or {row["image_index"]: row["label"] for rows in stored.values() for row in rows}
    wanted = {(sigma, index) for sigma in record.protocol.sigmas for index in record.image_index}
    compared, of_two_classes, unnamed = 0, 0, 0

    def compare(unit: Unit) -> None:
        nonlocal compared, of_two_classes, unnamed
        key = unit.sigma, unit.image_index
        rows = stored.get(key)
        if not rows or key not in wanted:
            return
        compared += 1
        label = known[unit.image_index]
        derived = {numerics: _derived(terms, tables, unit, label, numerics) for numerics in unit.prefixes}
        decided = [numerics for numerics, row in derived.items() if row["stop_reason"] != UNDECIDED]
        of_two_classes += len(decided) > 1
        for row in rows:
            numerics = _class_of(row, derived, decided)
            unnamed += numerics not in derived and bool(derived)
            problem = _differences(
                row, derived.get(numerics) or _derived(terms, tables, unit, label, numerics)
            )
            if problem:
                check.failures.append(f"{_name(key)}: {problem}")

    seen = set()
    for unit in ledger.units():
        seen.add((unit.sigma, unit.image_index))
        compare(unit)
    for key in sorted(wanted - seen):  # nothing was drawn for these
        compare(Unit(*key))
    for key, rows in stored.items():
        if key not in wanted:
            check.failures.append(f"{_name(key)}: in the table, but not of this run")
        elif len(rows) > 1:
            check.failures.append(f"{_name(key)}: {len(rows)} rows in the table instead of one")
    check.failures += [f"{_name(key)}: no row in the table" for key in sorted(wanted - stored.keys())]
    if of_two_classes:
        check.warnings.append(
            f"{of_two_classes} rows could be decided under more than one numerics class; each was compared with the "
            "samples of the class it names"
        )
    if unnamed:
        check.warnings.append(f"{unnamed} undecided rows leave out samples that are in the ledger")
    undecided = sum(row["stop_reason"] == UNDECIDED for rows in stored.values() for row in rows)
    check.verdict = (
        f"{compared:,} of {len(wanted):,} rows derived from the counts, {undecided:,} of them undecided"
    )
    if labels is None:
        check.verdict += "; labels not checked"
    return check


def _stored(check: Check, record: Record) -> dict[Key, list[Row]]:
    """Rows of the table, by (sigma, image); with the file's fingerprint and copy of config.json checked."""
    try:
        columns = _COLUMNS | (_OF_COMPOSITIONS if record.config.composition is not None else {})
        table = read_table(record.storage.read(CERTIFICATES), columns)
    except UnreadableError as err:
        check.failures.append(f"{CERTIFICATES}: {err}")
        return {}
    found, expected = fingerprint_in(table), record.manifest["fingerprint"]
    if found != expected:
        check.failures.append(f"{CERTIFICATES}: fingerprint {found[:12]}, of the run {expected[:12]}")
    try:
        copy = json.loads((table.schema.metadata or {}).get(b"raycp", b"{}"))
    except ValueError:
        copy = {}
    changed = differences(copy, record.manifest) if isinstance(copy, dict) else ["no copy"]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        check.failures.append(
            f"{CERTIFICATES}: its copy of config.json is another one: {changed[0][:120]}{more}"
        )
    rows: dict[Key, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault((row["sigma"], row["image_index"]), []).append(row)
    return rows


def _derived(terms: Terms, tables: Tables, unit: Unit, label: int, numerics: str) -> Row:
    own = unit.prefixes.get(numerics, {})
    selection, estimation, core = (own.get(phase, _nothing) for phase in PHASES)
    if terms.composed:
        row = composite_row_of(terms, unit.sigma, label, selection, estimation, core)
    else:
        row = row_of(terms, tables, unit.sigma, label, selection, estimation)
    return {"sigma": unit.sigma, "image_index": unit.image_index, "label": label, "numerics": numerics} | row


def _class_of(stored: Row, derived: Mapping[str, Row], decided: Sequence[str]) -> str:
    """The numerics class whose samples a row is to be compared with: the one it names, if that may be."""
    named = str(stored["numerics"])
    if decided:
        return named if named in decided else decided[0]
    # A row from no samples names the class that was about to draw them, or none.
    if named in derived or (stored["stop_reason"] == UNDECIDED and stored["n0"] == 0):
        return named
    return next(iter(derived), "")


def _nothing(_: int) -> None:
    return None


def _differences(stored: Row, derived: Row) -> str:
    """The columns that differ, with both values."""
    columns = [
        f"{column} stored {stored[column]!r}, derived {derived[column]!r}"
        for column in stored
        if column not in _NOT_COMPARED and stored[column] != derived[column]
    ]
    return "; ".join(columns)


def _name(key: Key) -> str:
    return f"sigma {key[0]:g}, image {key[1]}"

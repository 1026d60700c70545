"""Envelopes over several methods: one row for a method that has a network, and so a name, for each noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from raycp.report.mixed_images import mixed_images
from raycp.report.results import RunLike, read_sigmas
from raycp.report.summary import listed
from raycp.report.table import Table, TableRow, decided_the_same, envelope


def with_envelopes(table: Table, runs: Sequence[RunLike], envelopes: Mapping[str, Sequence[str]]) -> Table:
    """Add a row for each envelope, below the last row of its members, and a note that says of what it is.

    Where its members have not all decided the same images of one data set, there is a note that says so, and no row.

    Args:
        table: of the runs, `certified_table(runs)`.
        runs: each named as its rows in the table.
        envelopes: name of the row -> its members, names of runs, no two of them with a sigma in common.

    Raises:
        StorageError: certificates are damaged.
    """
    rows, notes = list(table.rows), list(table.notes)
    for name, members in envelopes.items():
        of_members = [row for row in rows if row.run in members and row.sigma is not None]
        reason = _no_envelope(members, of_members, runs)
        if reason:
            notes.append(f"{name}: no envelope, because {reason}.")
            continue
        last = max(at for at, row in enumerate(rows) if row.run in members or set(row.members) & set(members))
        rows.insert(last + 1, replace(envelope(name, of_members), members=tuple(members)))
        notes.append(f"{name}: envelope over the sigmas of {listed(list(members))}.")
    return replace(table, rows=tuple(rows), notes=tuple(notes))


def _no_envelope(members: Sequence[str], rows: Sequence[TableRow], runs: Sequence[RunLike]) -> str:
    """Why these members have no envelope, as a clause; empty if they have one."""
    found = [run for run in runs if run.name in members]
    if absent := [name for name in members if name not in {run.name for run in found}]:
        return f"{listed(absent)} {'has' if len(absent) == 1 else 'have'} no row in this table"
    if partial := list(dict.fromkeys(row.run for row in rows if row.partial)):
        return f"{listed(partial)} {'is' if len(partial) == 1 else 'are'} partial"
    results = [of_sigma for run in found for of_sigma in read_sigmas(run)]
    if not all(of_sigma.indexed for of_sigma in results):
        return "the logs do not say which images they are of"
    if mixed_images(found) or not decided_the_same(results):
        return f"{listed(list(members))} are not of the same images"
    return ""

"""`raycp weights check`: published formats against what the original code computed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raycp.parity import Comparison


class CheckFormat(StrEnum):
    """What `raycp weights check` prints."""

    table = "table"
    csv = "csv"
    json = "json"


def check(
    fixtures: Annotated[
        list[str],
        typer.Argument(metavar="FIXTURE_DIR", help="Folders with a fixture.json.", show_default=False),
    ],
    format_: Annotated[
        CheckFormat,
        typer.Option("--format", "-f", help="table: for reading; csv, json: errors in full precision."),
    ] = CheckFormat.table,
) -> None:
    """Compare raycp with outputs that a published model's own code recorded.

    A folder holds a checkpoint in its published format, inputs and outputs. It
    is loaded as the published file would be, and every recorded output is
    computed and compared. Exit status 0 only if all are within the tolerance
    of fixture.json and none was left uncompared.

    \b
    Examples:
      raycp weights check parity/edm
      raycp weights check parity/*/ --format csv
    """
    import json

    from raycp.parity import check_case, inputs_of, read_fixture
    from raycp.report.formats import csv_text

    cases = [case for folder in fixtures for case in read_fixture(folder)]
    inputs = [inputs_of(case) for case in cases]  # all folders are read before any is evaluated
    found = []
    for case, names in zip(cases, inputs, strict=True):
        found += check_case(case)
        typer.echo(f"{case.name}: inputs, compared with nothing: {', '.join(names)}", err=True)
    if format_ is CheckFormat.csv:
        typer.echo(csv_text([row.record() for row in found]), nl=False)
    elif format_ is CheckFormat.json:
        typer.echo(json.dumps([row.record() for row in found], indent=2))
    else:
        for line in lines_of(found):
            typer.echo(line)
    if not found or any(row.verdict != "ok" for row in found):
        raise typer.Exit(1)


def lines_of(found: Sequence[Comparison]) -> list[str]:
    """A row per output, what was not compared and why, and the sum of it."""
    table = [("fixture", "output", "largest abs. error", "tolerance", "verdict")]
    for row in found:
        error = "-" if row.error is None else f"{row.error:.1e}"
        table.append((row.fixture, row.output, error, row.tolerance or "-", row.verdict))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    reasons = [f"{row.fixture} {row.output}: {row.reason.rstrip('.')}." for row in found if row.reason]
    failed, left = (sum(row.verdict == verdict for row in found) for verdict in ("FAILED", "not compared"))
    if failed or left or not found:
        counts = f"outputs: {len(found)}, outside of the tolerance: {failed}, not compared: {left}"
        return [*lines, *reasons, counts]
    return [*lines, f"all {len(found)} outputs are within the tolerance"]

"""`raycp export`: a run in the format of the field."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExportFormat(StrEnum):
    """What `raycp export` writes."""

    tsv = "tsv"


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.", show_default=False)
    ],
    format_: Annotated[
        ExportFormat,
        typer.Option("--format", "-f", help="tsv: idx, label, predict, radius, correct, time; -1 abstains."),
    ] = ExportFormat.tsv,
    digits: Annotated[
        int,
        typer.Option(
            min=1, max=17, metavar="D", help="Significant digits of a radius, rounded down; 17 lose nothing."
        ),
    ] = 3,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the files.", show_default="RUN/export"),
    ] = None,
) -> None:
    """Write a run as certification logs that other code reads, one file per sigma.

    The format of locuslab/smoothing, but no radius is rounded up. Certified
    accuracy at any radius of at most D significant digits stays the same.

    \b
    Examples:
      raycp export runs/digits
      raycp export runs/digits --digits 6 --out logs
    """
    if out is None and "://" in run:
        raise typer.BadParameter(
            f"needed for the remote run {run}, for example --out export.", param_hint="--out"
        )

    from raycp.logs.export import exported_logs
    from raycp.report.write import write_files
    from raycp.runs import read_run

    assert format_ is ExportFormat.tsv
    exported = exported_logs(read_run(run), digits)
    folder = Path(run) / "export" if out is None else out
    for path in write_files(folder, {log.name: log.text for log in exported}):
        typer.echo(path)
    for note in (note for log in exported for note in log.notes):
        typer.echo(f"note: {note}", err=True)

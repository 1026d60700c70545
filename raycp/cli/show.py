"""`raycp show`: the table of one or several runs, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raycp.errors import ConfigError

if TYPE_CHECKING:
    from raycp.report.evaluation import EvaluationLike
    from raycp.report.table import Table


class Format(StrEnum):
    """What `raycp show` prints."""

    table = "table"
    csv = "csv"
    json = "json"


def show(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="table: for reading, figures rounded down; csv, json: in full precision, accuracies in [0,1].",
        ),
    ] = Format.table,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired", help="Instead: each run against the first on the same images, with intervals."
        ),
    ] = False,
    joint: Annotated[
        bool,
        typer.Option(
            "--joint", help="With --paired: the intervals hold all together, not each by itself (Bonferroni)."
        ),
    ] = False,
) -> None:
    """Print certified accuracy, ACR, abstentions, samples and seconds per sigma.

    Accuracies in percent, radii in pixel units, device seconds; notes on stderr.
    A dash: N samples cannot certify that radius, or nothing is decided yet.
    Of a training: the stages with their last loss and validation. Of evaluations:
    their metrics; with --paired, differences from the first, with intervals.

    \b
    Examples:
      raycp show runs/digits
      raycp show runs/digits runs/digits-none
      raycp show runs/digits --format csv > digits.csv
      raycp show --paired evaluations/consistency evaluations/finetuned
      raycp show --paired --joint runs/digits-none runs/digits runs/digits-edm
    """
    import json
    import sys

    from raycp.report.formats import csv_text, plain_text, records
    from raycp.report.results import require_something
    from raycp.report.table import ENVELOPE, certified_table
    from raycp.report.training_page import plain_table
    from raycp.report.training_record import is_training, read_training
    from raycp.runs import read_run
    from raycp.runs.evaluation import is_evaluation, read_evaluation

    kinds = [is_evaluation(path) for path in runs]
    if any(kinds):
        if not all(kinds):
            other = runs[kinds.index(False)]
            raise ConfigError(f"{other} holds no evaluation, the others do: show them by themselves.")
        if joint:
            raise typer.BadParameter("is for certified accuracies.", param_hint="--joint")
        if paired and len(runs) < 2:
            raise typer.BadParameter("compares runs: give two or more.", param_hint="--paired")
        print_evaluations([read_evaluation(path) for path in runs], format_, paired)
        return
    if paired:
        from raycp.report.paired import compare, paired_text

        if len(runs) < 2:
            raise typer.BadParameter("compares runs: give two or more.", param_hint="--paired")
        found = compare([read_run(path) for path in runs], joint)
        typer.echo(paired_text(found, joint), nl=False)
        return
    if joint:
        raise typer.BadParameter("widens the intervals of --paired: give both.", param_hint="--joint")
    if len(runs) == 1 and format_ is Format.table and is_training(runs[0]):
        typer.echo(plain_table(read_training(runs[0])), nl=False)
        return

    read = [read_run(path) for path in runs]
    require_something(read)
    table = certified_table(read)
    if format_ is Format.csv:
        typer.echo(csv_text(records(table)), nl=False)
    elif format_ is Format.json:
        typer.echo(json.dumps(records(table), indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_rich(table)
    else:
        typer.echo(plain_text(table), nl=False)
    if format_ is Format.table:
        envelope = [f"envelope: {ENVELOPE}."] if any(row.sigma is None for row in table.rows) else []
        for note in [*table.notes, *envelope]:
            typer.echo(note, err=True)


def print_evaluations(
    evaluations: Sequence[EvaluationLike], format_: Format = Format.table, paired: bool = False
) -> None:
    """Print the metrics of evaluations, or with `paired` their differences from the first; notes on stderr."""
    import json
    from dataclasses import asdict

    from raycp.report.evaluation import csv_text, metric_rows, notes, paired_rows, plain_text

    rows = paired_rows(evaluations) if paired else [row for item in evaluations for row in metric_rows(item)]
    if format_ is Format.csv:
        typer.echo(csv_text(rows), nl=False)
    elif format_ is Format.json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        typer.echo(plain_text(rows, difference=paired), nl=False)
        if paired:
            typer.echo("differences on the same noisy samples", err=True)
        for note in notes(evaluations, rows):
            typer.echo(note, err=True)


def _print_rich(table: Table) -> None:
    from rich.console import Console
    from rich.text import Text

    from raycp.report.formats import plain_text

    heading, *lines = plain_text(table).splitlines()
    styles = ["bold", *("italic" if row.sigma is None else "" for row in table.rows)]
    console = Console()
    for line, style in zip([heading, *lines], styles, strict=True):
        # Not a rich.table: in a narrow terminal that would cut digits off. Text, not markup: a run may be called [red].
        console.print(Text(line, style=style), soft_wrap=True)

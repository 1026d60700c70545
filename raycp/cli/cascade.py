"""`raycp cascade`: the multi-scale smoothed classifier, from the counts of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from raycp.cli.show import Format


def cascade(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory.", show_default=False)],
    alpha: Annotated[
        float | None,
        typer.Option(metavar="ALPHA", help="Failure probability of a certificate.", show_default="the run's"),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="table: for reading; csv, json: in full precision.")
    ] = Format.table,
) -> None:
    """Certify the cascade over a run's noise levels; nothing is drawn.

    The largest noise level at which a class has more than half of the votes
    decides (Jeong and Shin 2023). One certificate per image, with a radius of its
    own, unlike the envelope over sigma. Wants a finished run with rule fixed.
    Leaves RUN/cascade.parquet.

    \b
    Examples:
      raycp cascade runs/digits
      raycp cascade runs/digits --format csv
    """
    import json

    from raycp.report.cascade import cascade_records, cascade_text
    from raycp.report.formats import csv_text
    from raycp.runs.cascade import TABLE, derive_cascade

    found = derive_cascade(run, alpha)
    if format_ is Format.csv:
        typer.echo(csv_text(cascade_records(found.run, found.certificates)), nl=False)
    elif format_ is Format.json:
        typer.echo(json.dumps(cascade_records(found.run, found.certificates), indent=2))
    else:
        typer.echo(cascade_text(found.run, found.certificates, found.sigmas, found.alpha), nl=False)
    typer.echo(f"certificates in {found.run.path}/{TABLE}", err=True)

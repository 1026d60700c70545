"""`raycp logs`: certification logs that others published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

logs = typer.Typer(
    name="logs", no_args_is_help=True, help="Import certification logs that others published, and audit them."
)

NumEstimationOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Estimation samples, as claimed.", show_default="not said"),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        metavar="ALPHA", help="Failure probability of a certificate, as claimed.", show_default="not said"
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="Columns of a file without a header; those of 5 or 6 columns are known.",
        show_default=False,
    ),
]


@logs.command(name="import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Logs of one method, one per sigma.", show_default=False),
    ],
    sigma: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SIGMA",
            help="Noise level of each file, pixel units, in their order; once per file.",
            show_default="not said",
        ),
    ] = None,
    num_selection: Annotated[
        int | None,
        typer.Option(min=1, metavar="N0", help="Selection samples, as claimed.", show_default="not said"),
    ] = None,
    num_estimation: NumEstimationOption = None,
    alpha: AlphaOption = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Data set and split, in words.", show_default="not said"),
    ] = None,
    columns: ColumnsOption = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out lines that cannot be read, and say so.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Write a directory like a run's.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the certified accuracy of published logs; with --out, keep it beside runs.

    Reads the variants in public repositories: tabs, commas or spaces, with or
    without a header or idx, partial, repeated, gzipped. Correct is recomputed
    from label and prediction. raycp show, report and --paired take DIR like a run;
    what the log does not say stays unknown. Notes on stderr.

    \b
    Examples:
      raycp logs import sigma_0.25
      raycp logs import noise_0.25 noise_0.50 --sigma 0.25 --sigma 0.5 --out imports/cohen
      raycp logs import noise_0.50 --sigma 0.5 --num-estimation 100000 --alpha 0.001 --out imports/consistency
    """
    if sigma and len(sigma) != len(files):
        raise typer.BadParameter(
            f"needed once for each file: got {len(sigma)} for {len(files)} files.", param_hint="--sigma"
        )
    for value in sigma or []:
        check_sigma(value)
    check_alpha(alpha)

    from raycp.logs.imported import Claims, imported_run, write_import
    from raycp.logs.published_log import read_log
    from raycp.report.formats import plain_text
    from raycp.report.table import ENVELOPE, certified_table
    from raycp.storage import Storage

    storage = None if out is None else Storage(out)
    read = [read_log(file, column_names(columns), skip_damaged) for file in files]
    run = imported_run(
        read,
        [*sigma] if sigma else [None] * len(files),
        Claims(num_selection, num_estimation, alpha, data),
        files[0].name if storage is None else storage.name,
        str(files[0]) if storage is None else storage.path(),
    )
    if storage is not None:
        write_import(run, storage)
    table = certified_table([run])
    typer.echo(plain_text(table), nl=False)
    envelope = [f"envelope: {ENVELOPE}."] if any(row.sigma is None for row in table.rows) else []
    for note in [*table.notes, *envelope]:
        typer.echo(note, err=True)
    if storage is not None:
        typer.echo(f"written: {storage.path()}", err=True)


@logs.command()
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A log.", show_default=False)],
    sigma: Annotated[
        float | None,
        typer.Option(
            metavar="SIGMA", help="Its noise level, pixel units; needed for N and alpha.", show_default=False
        ),
    ] = None,
    num_estimation: NumEstimationOption = None,
    alpha: AlphaOption = None,
    columns: ColumnsOption = None,
) -> None:
    """Check a published log: its columns, and which N and alpha its radii fit.

    The radii that N samples can certify at alpha form a discrete set, whatever the
    images; the printed ones near its top tell which. Exit status 1 where the log
    contradicts itself or what is claimed. It cannot be told how samples were drawn.

    \b
    Examples:
      raycp logs audit noise_0.25 --sigma 0.25
      raycp logs audit noise_0.25 --sigma 0.25 --num-estimation 100000 --alpha 0.001
    """
    if sigma is not None:
        check_sigma(sigma)
    check_alpha(alpha)

    from raycp.logs.audit import audit_log
    from raycp.logs.lines import read_lines

    findings = audit_log(read_lines(file, column_names(columns)), sigma, num_estimation, alpha)
    for finding in findings:
        typer.echo(f"{finding.verdict:9}  {finding.name:9}  {finding.text}")
    if any(finding.verdict == "FAILED" for finding in findings):
        raise typer.Exit(1)


def check_sigma(sigma: float) -> None:
    """Refuse what is no noise level."""
    if not 0 < sigma < math.inf:
        raise typer.BadParameter(f"must be greater than 0, got {sigma:g}.", param_hint="--sigma")


def check_alpha(alpha: float | None) -> None:
    """Refuse what is no probability."""
    if alpha is not None and not 0 < alpha < 1:
        raise typer.BadParameter(f"must lie between 0 and 1, got {alpha:g}.", param_hint="--alpha")


def column_names(columns: str | None) -> list[str]:
    """The names in --columns."""
    return [] if columns is None else [name.strip().lower() for name in columns.split(",")]

"""`raycp verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from raycp.verify import Check

_MOST_SHOWN = 20


def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.", show_default=False)
    ],
    blocks: Annotated[int, typer.Option(min=1, metavar="K", help="Ledger rows to draw again.")] = 20,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Seed of the choice of rows.")] = 0,
    redraw: Annotated[
        bool, typer.Option("--redraw/--no-redraw", help="Draw samples again, on this machine.")
    ] = True,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Where a file is now, e.g. classifier.path=models/c or data.path=cifar. May be repeated.",
        ),
    ] = None,
) -> None:
    """Check a run: counts, boundaries, certificates, hashes, and some samples anew.

    Derives every certificate from the counts by code that shares nothing with
    what made it, and draws K rows of the ledger again. Works on a finished or
    a partial run of raycp certify. Exit status 0 only if all checks passed.

    \b
    Examples:
      raycp verify runs/digits
      raycp verify runs/digits --blocks 100 --seed 7
      raycp verify s3://bucket/digits --no-redraw --set classifier.path=models/classifier
    """
    from raycp.verify import verify_run

    checks = verify_run(run, set_ or [], blocks if redraw else None, seed, note=_say)
    for line in lines_of(checks):
        typer.echo(line)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def lines_of(checks: list[Check]) -> list[str]:
    """One line per check, then the first failures and how many there are."""
    lines = [
        f"{'ok' if check.passed else 'FAILED':6}  {check.name:12}  {check.verdict}".rstrip()
        for check in checks
    ]
    lines += [f"warning: {warning}" for check in checks for warning in check.warnings]
    failures = [f"{check.name}: {failure}" for check in checks for failure in check.failures]
    if not failures:
        return [*lines, "all checks passed"]
    lines += ["", *failures[:_MOST_SHOWN]]
    if len(failures) > _MOST_SHOWN:
        lines.append(f"... and {len(failures) - _MOST_SHOWN:,} more")
    return [*lines, f"{len(failures):,} failure{'s' if len(failures) > 1 else ''}"]


def _say(text: str) -> None:
    typer.echo(text, err=True)

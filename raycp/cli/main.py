"""The `raycp` command: wires the verbs together and turns errors into messages and exit statuses.

0 done, 1 failed or incomplete, 2 wrong usage. Heavy libraries are imported by the verbs, after parsing.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from raycp import __version__
from raycp.cli.bench import bench
from raycp.cli.cascade import cascade
from raycp.cli.certify import certify
from raycp.cli.compare import compare
from raycp.cli.demo import demo
from raycp.cli.doctor import doctor
from raycp.cli.evaluate import evaluate
from raycp.cli.export import export
from raycp.cli.jobs import jobs
from raycp.cli.logs import logs
from raycp.cli.plan import plan
from raycp.cli.predict import predict
from raycp.cli.report import report
from raycp.cli.show import show
from raycp.cli.simulate import simulate
from raycp.cli.status import status
from raycp.cli.stop import stop
from raycp.cli.submit import submit
from raycp.cli.train import train
from raycp.cli.verify import verify
from raycp.cli.weights import weights
from raycp.errors import RaycpError

app = typer.Typer(
    name="raycp",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    certify, predict, evaluate, compare, train, status, show, report, cascade, export, submit, jobs, stop, doctor,
    bench, demo, simulate, plan, verify,
):  # fmt: skip
    app.command()(command)
app.add_typer(weights)
app.add_typer(logs)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raycp {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Purify images, certify classifiers: consistency purification and randomized smoothing on Ray."""


def main() -> None:
    """Entry point of the console script."""
    # A user's `python:` factory is looked up from the folder the command is given in, as by `python -m`.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        app()
    except RaycpError as err:
        typer.secho(f"error: {err}", err=True, fg="red" if sys.stderr.isatty() else None)
        sys.exit(err.exit_status)
    except KeyboardInterrupt:
        typer.echo("interrupted.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

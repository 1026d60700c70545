"""`raycp report`: the table, the curves and the example images of one or several runs as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run directories.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for the files; needed with several runs.",
            show_default="RUN/report",
        ),
    ] = None,
) -> None:
    """Write the table, the certified-accuracy curves and sample images as HTML, PNG and CSV.

    The page holds everything and needs no network; an earlier report is replaced.
    Of a training: its loss curves, validations and images.

    \b
    Examples:
      raycp report runs/digits
      raycp report runs/digits runs/digits-none --out comparison
      raycp report runs/demo/train
    """
    if out is None and len(runs) > 1:
        raise typer.BadParameter(
            f"needed with several runs (got {len(runs)}), for example --out comparison.", param_hint="--out"
        )
    if out is None and "://" in runs[0]:
        raise typer.BadParameter(
            f"needed for the remote run {runs[0]}, for example --out report.", param_hint="--out"
        )

    from datetime import UTC, datetime

    from raycp.report.results import require_something
    from raycp.report.training_page import write_training_report
    from raycp.report.training_record import is_training, read_training
    from raycp.report.write import write_report
    from raycp.runs import read_run

    folder = Path(runs[0]) / "report" if out is None else out
    if len(runs) == 1 and is_training(runs[0]):
        for path in write_training_report(read_training(runs[0]), folder, datetime.now(UTC)):
            typer.echo(path)
        return
    read = [read_run(path) for path in runs]
    require_something(read)
    for path in write_report(read, folder, datetime.now(UTC), None if out is None else str(out)):
        typer.echo(path)

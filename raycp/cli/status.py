"""`raycp status`: how far a run is, from any machine that sees its directory."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raycp.errors import StorageError

if TYPE_CHECKING:
    from raycp.runs.status import Status
    from raycp.storage import Storage

_SILENT_SECONDS = 60.0


class StatusFormat(StrEnum):
    """What `raycp status` prints."""

    text = "text"
    json = "json"


def status(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run directory: a path, s3:// or gs://.", show_default=False)
    ],
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep printing, until the session ends.")
    ] = False,
    every: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="Between two looks.")] = 5.0,
    format_: Annotated[
        StatusFormat,
        typer.Option(
            "--format", "-f", help="text: for reading; json: one object per look, figures as recorded."
        ),
    ] = StatusFormat.text,
) -> None:
    """Print how far a run is, how fast and how healthy, without Ray.

    Reads RUN/status.json, which the driver writes every few seconds (20 in an
    object store). A driver that was killed cannot say so: its last sign of life
    is shown instead. Exit status 1 for a session that failed, or was killed.

    \b
    Examples:
      raycp status runs/digits
      raycp status s3://bucket/run --watch
      raycp status runs/digits --format json
    """
    import json
    from dataclasses import asdict

    from raycp.storage import Storage

    storage = Storage(run)
    while True:
        found, age = _read(storage)
        if format_ is StatusFormat.json:
            typer.echo(json.dumps(asdict(found) | {"age": age}))
        else:
            typer.echo("\n".join(describe(found, age, storage.path())))
        silent = found.state == "running" and age > _SILENT_SECONDS
        if not watch or found.state != "running" or silent:
            raise typer.Exit(1 if found.state == "failed" or silent else 0)
        time.sleep(every)


def _read(storage: Storage) -> tuple[Status, float]:
    """The status, and its age in seconds."""
    from raycp.runs.status import STATUS, read_status

    found = read_status(storage)
    if found is None:
        raise StorageError(
            f"there is no {storage.path(STATUS)}: {storage.path()} is no run directory, or nothing has run in it yet. "
            "Give the --out of a raycp certify, predict, evaluate or train."
        )
    return found, max(0.0, time.time() - found.updated)


def describe(found: Status, age: float, run: str) -> list[str]:
    """The status as lines of text."""
    where = f"driver {found.host}, process {found.pid}"
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.started))
    head = f"{run}: {found.command}, {found.state}"
    if found.state == "running" and age > _SILENT_SECONDS:
        head = (
            f"{run}: {found.command}, no sign of life for {_clock(age)}: the driver was killed, or cannot write. "
            "Nothing on disk is lost; the same command resumes"
        )
    elif found.state != "running":
        head += (f" ({found.reason})" if found.reason else "") + f", {_clock(age)} ago"
    lines = [head, f"  {where}, since {begun}, {_clock(found.updated - found.started)}"]
    if found.figures:
        details = _of_training if found.command == "train" else _of_certification
        lines += [f"  {line}" for line in details(found)]
    return lines


def _of_certification(found: Status) -> list[str]:
    from raycp.cli.display import accuracy_lines, summary
    from raycp.distributed.progress import Progress
    from raycp.distributed.session import SigmaAccuracy

    figures = dict(found.figures)
    accuracies = [
        SigmaAccuracy(item["sigma"], item["decided"], tuple(map(tuple, item["certified"])))
        for item in figures.pop("accuracies")
    ]
    progress = Progress(**figures)
    share = 100 * progress.decided / max(1, progress.total)
    return [
        summary(progress),
        f"{share:.1f}% decided; {progress.samples:,} samples drawn in this session, at most "
        f"{progress.remaining_samples:,} to come",
        f"replicas {100 * progress.busy:.0f}% busy, {progress.in_flight} tasks in flight, "
        f"{1e3 * progress.dispatch_seconds:.0f} ms from a result to the next task; "
        f"{progress.replica_seconds / 3600:.2f} replica hours so far",
        *accuracy_lines(accuracies),
    ]


def _of_training(found: Status) -> list[str]:
    line = found.figures
    return [
        f"{line['stage']}: step {line['step']:,} of {line['progress']:,}, loss {line['loss']:.4g}",
        f"{line['images_per_second']:,.0f} images/s, ETA {_clock(line['seconds_left'])} for this stage",
    ]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"

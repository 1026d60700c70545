"""`raycp jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raycp.cli.dashboard import DashboardOption

if TYPE_CHECKING:
    from raycp.distributed.jobs import JobRecord

_HEADINGS = ("id", "status", "run", "started", "duration", "message")


class Format(StrEnum):
    """What `raycp jobs` prints."""

    table = "table"
    json = "json"


def jobs(
    address: DashboardOption = None,
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="table: times of this machine; json: UTC and seconds.")
    ] = Format.table,
    all_: Annotated[bool, typer.Option("--all", help="Also jobs and drivers that are not of raycp.")] = False,
) -> None:
    """List raycp's jobs on a Ray cluster, the newest first.

    \b
    Examples:
      raycp jobs
      raycp jobs --address http://localhost:8265 --format json
    """
    import json

    from raycp.distributed.dashboard import connect
    from raycp.distributed.jobs import list_jobs

    found = [job for job in list_jobs(connect(address)) if all_ or job.is_raycps]
    now = datetime.now(UTC)
    if format_ is Format.json:
        typer.echo(json.dumps([_as_json(job, now) for job in found], indent=2, ensure_ascii=False))
    elif found:
        typer.echo(_table(found, now), nl=False)
    else:
        typer.echo("no jobs of raycp; --all lists the others" if not all_ else "no jobs", err=True)


def _table(found: Sequence[JobRecord], now: datetime) -> str:
    rows = [_HEADINGS, *(_cells(job, now) for job in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]) for row in rows]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _cells(job: JobRecord, now: datetime) -> tuple[str, ...]:
    started = "-" if job.started is None else f"{job.started.astimezone():%Y-%m-%d %H:%M:%S}"
    return job.id, job.status, job.run or "-", started, _duration(job.seconds(now)), job.message


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _as_json(job: JobRecord, now: datetime) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status,
        "run": job.run,
        "started": None if job.started is None else job.started.isoformat(timespec="seconds"),
        "seconds": job.seconds(now),
        "message": job.message,
        "entrypoint": job.entrypoint,
        "metadata": job.metadata,
    }

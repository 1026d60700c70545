"""`raycp doctor`: what is wrong with a cluster, before a run finds out."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from raycp.cli.options import AddressOption


class DoctorFormat(StrEnum):
    """What `raycp doctor` prints."""

    text = "text"
    json = "json"


def doctor(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="YAML of a run or a training, whose data and weights are compared between nodes.",
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="RUN", help="Run directory that every node should be able to write."
        ),
    ] = None,
    format_: Annotated[
        DoctorFormat, typer.Option("--format", "-f", help="text: for reading; json: a list of findings.")
    ] = DoctorFormat.text,
) -> None:
    """Examine the nodes of a cluster: versions, devices, storage, clocks, files, open doors.

    Every node is asked in turn, and each finding says what to do. Without
    --address this machine is examined, on a local cluster of its own. Exit
    status 1 if there is a problem; warnings alone are 0.

    \b
    Examples:
      raycp doctor
      raycp doctor --address auto --out s3://bucket/run
      raycp doctor configs/digits/none.yaml --address auto
    """
    from dataclasses import asdict

    from raycp.distributed.doctor import examine_cluster
    from raycp.storage import Storage

    paths = [] if config is None else _paths(config)
    findings = examine_cluster(address, None if out is None else Storage(out).path(), paths)
    if format_ is DoctorFormat.json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.level:8} {finding.text}")
        levels = [finding.level for finding in findings]
        typer.echo(f"problems: {levels.count('problem')}, warnings: {levels.count('warning')}", err=True)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def _paths(config: Path) -> list[str]:
    """The files and folders that a configuration names, absolute as they are looked up here."""
    from raycp.config import RunConfig, load_config, locations
    from raycp.config.train import TrainConfig

    loaded = load_config(TrainConfig if config.stem.startswith("train") else RunConfig, config)
    places = dict.fromkeys(locations(loaded).values())
    return [str(Path(place).expanduser().absolute()) for place in places if "://" not in place]

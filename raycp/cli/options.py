"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="YAML configuration.", show_default=False)
]
OutOption = Annotated[
    str,
    typer.Option(
        "--out", "-o", metavar="RUN", help="Run directory: a path, s3:// or gs://.", show_default=False
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a configuration value, e.g. certify.alpha=0.01. May be repeated.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Ray cluster to use, or auto; a local one is started by default."),
]
ReplicasOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Most replicas at a time; by default all that fit.")
]


def engine_overrides(address: str | None, replicas: int | None) -> list[str]:
    """The overrides that --address and --replicas stand for."""
    overrides = []
    if address is not None:
        overrides.append(f"engine.address={address}")
    if replicas is not None:
        overrides.append(f"engine.replicas={replicas}")
    return overrides

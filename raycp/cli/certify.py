"""`raycp certify`."""

from __future__ import annotations

from typing import Annotated

import typer

from raycp.cli.options import (
    AddressOption,
    ConfigArgument,
    OutOption,
    ReplicasOption,
    SetOption,
    engine_overrides,
)


def certify(
    config: ConfigArgument,
    out: OutOption,
    set_: SetOption = None,
    address: AddressOption = None,
    replicas: ReplicasOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, draw nothing.")
    ] = False,
) -> None:
    """Certify L2 radii by randomized smoothing; the same command resumes.

    Draws noisy samples on all replicas, keeps their class counts in RUN/counts,
    and ends with RUN/certificates.parquet. Whatever interrupts it, the same
    command goes on where it stopped.

    \b
    Examples:
      raycp certify configs/digits/none.yaml --out runs/digits
      raycp certify configs/digits/none.yaml --out runs/n10k --set certify.num_estimation=10000
      raycp certify configs/digits/none.yaml --out s3://bucket/digits --address auto --replicas 64
    """
    from raycp.cli.session import run_session

    run_session("certify", config, out, [*(set_ or []), *engine_overrides(address, replicas)], dry_run)

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
    budget_samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draw at most N samples in this session, all phases."),
    ] = None,
    budget_hours: Annotated[
        float | None, typer.Option(metavar="H", help="Hand out samples for at most H hours in this session.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, draw nothing.")
    ] = False,
) -> None:
    """Certify L2 radii by randomized smoothing; the same command resumes.

    Draws noisy samples on all replicas, keeps their class counts in RUN/counts,
    and ends with RUN/certificates.parquet. Whatever interrupts it, the same
    command goes on where it stopped.

    With a budget, images nearest to a decision come first; the table then says
    what is undecided, the exit status is 1, and the same command goes on.

    \b
    Examples:
      raycp certify configs/digits/none.yaml --out runs/digits
      raycp certify configs/digits/none.yaml --out runs/n10k --set certify.num_estimation=10000
      raycp certify configs/digits/none.yaml --out s3://bucket/digits --address auto --replicas 64
      raycp certify configs/digits/none.yaml --out runs/decide --set certify.rule=decide --budget-hours 0.5
    """
    from raycp.cli.session import run_session

    if budget_samples is not None and budget_samples < 1:
        raise typer.BadParameter(f"must be at least 1, got {budget_samples}.", param_hint="--budget-samples")
    if budget_hours is not None and not budget_hours > 0:
        raise typer.BadParameter(f"must be above 0, got {budget_hours:g}.", param_hint="--budget-hours")
    overrides = [*(set_ or []), *engine_overrides(address, replicas)]
    run_session("certify", config, out, overrides, dry_run, budget_samples, budget_hours)

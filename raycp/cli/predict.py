"""`raycp predict`."""

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


def predict(
    config: ConfigArgument,
    out: OutOption,
    set_: SetOption = None,
    address: AddressOption = None,
    replicas: ReplicasOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, draw nothing.")
    ] = False,
) -> None:
    """Predict with the smoothed classifier, or abstain; the same command resumes.

    PREDICT of Cohen et al. 2019: predict.num_samples samples per image and a binomial test of the two most
    frequent classes at predict.alpha. Ends with RUN/predictions.parquet.

    \b
    Examples:
      raycp predict configs/digits/certify.yaml --out runs/digits-predict --set predict.num_samples=200
    """
    from raycp.cli.session import run_session

    run_session("predict", config, out, [*(set_ or []), *engine_overrides(address, replicas)], dry_run)

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

    PREDICT of Cohen et al. 2019: predict.num_samples samples per image and a
    binomial test of the two most frequent classes at predict.alpha. Ends with
    RUN/predictions.parquet.

    \b
    Example:
      raycp predict configs/digits/none.yaml --out runs/predict --set predict.num_samples=200
    """
    from raycp.cli.session import run_session

    run_session("predict", config, out, [*(set_ or []), *engine_overrides(address, replicas)], dry_run)
    if not dry_run:
        typer.echo(_summary(out))


def _summary(out: str) -> str:
    """Per sigma, how many images are predicted correctly, wrongly, or not at all."""
    from raycp.runs import read_run
    from raycp.statistics import ABSTAIN

    lines = ["sigma   images  correct  wrong  abstained"]
    rows = read_run(out).certificates.to_pylist()
    for sigma in sorted({row["sigma"] for row in rows}):
        of_sigma = [row for row in rows if row["sigma"] == sigma]
        correct = sum(row["correct"] for row in of_sigma)
        abstained = sum(row["predicted"] == ABSTAIN for row in of_sigma)
        wrong = len(of_sigma) - correct - abstained
        lines.append(f"{sigma:<6g}  {len(of_sigma):6d}  {correct:7d}  {wrong:5d}  {abstained:9d}")
    return "\n".join(lines)

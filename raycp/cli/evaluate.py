"""`raycp evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raycp.cli.options import (
    AddressOption,
    ConfigArgument,
    OutOption,
    ReplicasOption,
    SetOption,
    engine_overrides,
)
from raycp.errors import ConfigError, RaycpError, RunMismatchError

if TYPE_CHECKING:
    from raycp.distributed.evaluation_job import EvaluationJob


def evaluate(
    config: ConfigArgument,
    out: OutOption,
    set_: SetOption = None,
    address: AddressOption = None,
    replicas: ReplicasOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, measure nothing.")
    ] = False,
) -> None:
    """Measure how good purified images are; the same command resumes.

    Purifies noisy samples of every image at every sigma on all replicas, and
    prints accuracy, FID, LPIPS, transport E|x - x_hat| and the optimal transport
    between purified and clean images, with bootstrap intervals. The section
    `evaluate` of CONFIG says which; FID and LPIPS need a network named there.

    Leaves RUN/evaluation.parquet, a row per sigma and image, and
    RUN/evaluation.csv. `raycp show RUN RUN...` compares; --paired takes differences.

    \b
    Examples:
      raycp evaluate configs/digits/finetuned.yaml --out evaluations/finetuned
      raycp evaluate configs/digits/finetuned.yaml --out evaluations/ten --set evaluate.draws=10
      raycp show --paired evaluations/consistency evaluations/finetuned
    """
    from raycp.config import RunConfig, load_config
    from raycp.distributed.evaluation_job import prepare_evaluation

    overrides = [*(set_ or []), *engine_overrides(address, replicas)]
    job = prepare_evaluation(load_config(RunConfig, config, overrides))
    if dry_run:
        typer.echo(_plan(job))
        return

    from raycp.cli.display import make_display
    from raycp.cli.session import command_line
    from raycp.cli.show import print_evaluations
    from raycp.distributed.evaluation import run_evaluation
    from raycp.runs.evaluation import read_evaluation

    resume = f"resume with: {command_line()}"
    try:
        with make_display() as display:
            complete = run_evaluation(job, out, display)
    except (ConfigError, RunMismatchError):
        raise
    except (RaycpError, KeyboardInterrupt):
        typer.echo(resume, err=True)
        raise
    if not complete:
        typer.echo(
            f"interrupted; what was measured is kept in {out}. {resume[0].upper()}{resume[1:]}", err=True
        )
        raise typer.Exit(1)
    print_evaluations([read_evaluation(out)])


def _plan(job: EvaluationJob) -> str:
    config, images = job.job.config, job.job.images
    names = job.networks()
    samples = len(images) * (1 + len(config.certify.sigmas) * config.evaluate.draws)
    rows = {
        "images": f"{len(images):,} of {images.source}, shape {'x'.join(map(str, images.images.shape[1:]))}",
        "sigmas": ", ".join(f"{sigma:g}" for sigma in config.certify.sigmas),
        "purifier": config.purifier.kind,
        "classifier": f"{config.classifier.kind}, {job.job.num_classes} classes",
        "samples": f"{samples:,}: the clean images, and {config.evaluate.draws} of each at each sigma",
        "FID": names["features"] or "none (evaluate.features)",
        "LPIPS": names["perceptual"] or "none (evaluate.perceptual)",
        "transport": f"optimal between {job.keep:,} images (evaluate.transport_images)",
        "intervals": f"{100 * config.evaluate.confidence:g}%, {config.evaluate.bootstrap:,} bootstrap samples",
    }
    return "\n".join(f"{name:12} {text}" for name, text in rows.items())

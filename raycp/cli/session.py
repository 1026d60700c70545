"""What `raycp certify` and `raycp predict` share: plan, run with a display, and say how it ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from raycp.errors import ConfigError, RaycpError, RunMismatchError

if TYPE_CHECKING:
    from raycp.config import RunConfig
    from raycp.config.models import ClassifierConfig, PurifierConfig
    from raycp.distributed.cost import SampleCost
    from raycp.distributed.job import Job
    from raycp.distributed.progress import Budget


def run_session(
    kind: Literal["certify", "predict"],
    config_path: Path,
    out: str,
    overrides: Sequence[str],
    dry_run: bool,
    budget_samples: int | None = None,
    budget_hours: float | None = None,
) -> None:
    """Run one session; exits with 1 if the run is not complete."""
    from raycp.config import RunConfig, load_config
    from raycp.distributed.progress import Budget

    config = load_config(RunConfig, config_path, overrides)
    budget = Budget(budget_samples, None if budget_hours is None else budget_hours * 3600)
    if not run_config(kind, config, out, dry_run, budget):
        raise typer.Exit(1)


def run_config(
    kind: Literal["certify", "predict"],
    config: RunConfig,
    out: str,
    dry_run: bool = False,
    budget: Budget | None = None,
) -> bool:
    """Plan, run and summarise; whether the run is complete. What failed is raised, after saying how to go on."""
    from raycp.distributed.job import prepare_job

    job = prepare_job(kind, config)
    if job.dropped_radii:
        _say(
            f"radii {', '.join(f'{r:g}' for r in job.dropped_radii)} are left out of the table: "
            f"N = {config.certify.num_estimation} cannot certify them at any sigma"
        )
    if dry_run:
        from raycp.distributed.cost import core_cost, sample_costs

        typer.echo(plan(job, sample_costs(job), core_cost(job)))
        return True

    from raycp.cli.display import make_display
    from raycp.distributed.progress import UNLIMITED
    from raycp.distributed.session import run_job

    resume = f"resume with: {command_line()}"
    try:
        with make_display() as display:
            complete = run_job(job, out, display, budget or UNLIMITED)
    except (ConfigError, RunMismatchError):
        raise
    except (RaycpError, KeyboardInterrupt):
        _say(resume)
        raise
    if not complete:
        why = "the budget is spent" if budget and budget.limited else "interrupted"
        _say(f"{why}; what was drawn is kept in {out}. {resume[0].upper()}{resume[1:]}")
        return False
    _say(f"done: results in {out}")
    return True


def plan(job: Job, costs: dict[float, SampleCost], core: SampleCost | None = None) -> str:
    """The plan of a run and its size, for --dry-run; `core`: of an answer of a composition's core."""
    from raycp.models import classifier_input

    config = job.config
    images, sigmas = len(job.images), config.certify.sigmas
    kind_of_rule = config.certify.rule if job.kind == "certify" else "fixed"
    samples = most_samples(job)
    batch_size = config.numerics.batch_size
    batches = "measured first" if batch_size == "auto" else f"{-(-samples // batch_size):,} of {batch_size}"
    values = job.images.images[0].size
    weights = [bundle for bundle in (job.purifier, job.classifier, job.core) if bundle is not None]
    weight_bytes = sum(array.nbytes for bundle in weights for array in bundle.state.values())
    batch_bytes = 0 if batch_size == "auto" else batch_size * values * 4
    upper = " at most (certify.skip_wrong)" if config.certify.skip_wrong else ""
    if kind_of_rule != "fixed":
        upper = f" at most (certify.rule = {kind_of_rule} stops earlier where it can; `raycp plan --like` predicts)"
    rows = {
        "images": f"{images:,} of {job.images.source}, shape {'x'.join(map(str, job.images.images.shape[1:]))}",
        "sigmas": ", ".join(f"{sigma:g}" for sigma in sigmas),
        "purifier": _named(config.purifier)
        + (f", {job.purifier.parameters:,} parameters" if job.purifier else ""),
        "classifier": f"{_named(config.classifier)}, {job.classifier.parameters:,} parameters, "
        f"{job.num_classes} classes",
        "sees": classifier_input(job.classifier),
        **_composition(job, core),
        "samples": f"{samples:,}{upper}",
        "cost": _cost(samples // len(sigmas), costs),
        "batches": batches,
        "radii": ", ".join(f"{radius:g}" for radius in job.radii) or "-",
        "device": f"{config.numerics.device}, {config.numerics.dtype}, {config.engine.cpus_per_replica:g} CPU and "
        f"{config.engine.gpus_per_replica:g} GPU per replica",
        "memory": f"{weight_bytes / 2**20:.1f} MiB of weights and {batch_bytes / 2**20:.1f} MiB of input per batch in "
        f"each replica, {job.images.images.nbytes / 2**20:.1f} MiB of images per node",
        "noise slack": ", ".join(f"{sigma:g}: {slack:.1e}" for sigma, slack in job.slack.items()),
    }
    return "\n".join(f"{name:12} {text}" for name, text in rows.items())


def _named(section: PurifierConfig | ClassifierConfig) -> str:
    """Its kind, and of a user's own code the name."""
    return f"{section.kind} {section.factory}" if section.kind == "python" else section.kind


def _composition(job: Job, core: SampleCost | None) -> dict[str, str]:
    from raycp.models import classifier_input

    composition = job.config.composition
    if composition is None or job.core is None or core is None:
        return {}
    hours, measured = most_hours(job.core_answers, {0.0: core})
    return {
        "threshold": f"{composition.threshold:g} log K: at most this entropy, and the smoothed classifier is chosen",
        "core": f"{composition.core.kind}, {job.core.parameters:,} parameters",
        "sees itself": classifier_input(job.core),
        "core's cost": f"{core.operations / 1e9:,.3g} GFLOP, once per image and sigma: {job.core_answers:,} times, "
        f"{'about ' if measured else ''}{rounded(hours)} hours",
    }


def most_samples(job: Job) -> int:
    """Noisy samples of a job that stops nowhere early."""
    units = len(job.images) * len(job.config.certify.sigmas)
    return units * job.rule.largest_demand() - job.core_answers


def most_hours(samples: int, costs: dict[float, SampleCost]) -> tuple[float, bool]:
    """Hours for `samples` at each sigma, and whether they were measured here, with one replica.

    Otherwise they are those of a device that does 10 TFLOP/s.
    """
    seconds = [cost.seconds for cost in costs.values() if cost.seconds is not None]
    if seconds:
        return samples * sum(seconds) / 3600, True
    return samples * sum(cost.operations for cost in costs.values()) / 1e13 / 3600, False


def _cost(samples: int, costs: dict[float, SampleCost]) -> str:
    """Of all samples, `samples` at each sigma."""
    each = [cost.operations / 1e9 for cost in costs.values()]
    spread = f"{min(each):,.3g}" + (f" to {max(each):,.3g}" if max(each) > 1.001 * min(each) else "")
    operations = samples * sum(cost.operations for cost in costs.values())
    text = f"{spread} GFLOP per sample, {operations:.2g} FLOP in all: "
    hours, measured = most_hours(samples, costs)
    if measured:
        return (
            text + f"about {rounded(hours)} hours of one replica like this machine, measured on a batch of 4"
        )
    return text + f"{rounded(hours)} hours of a device that does 10 TFLOP/s in these networks"


def rounded(hours: float) -> str:
    """Two digits, without an exponent."""
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def command_line() -> str:
    """The command that was given, for giving it again."""
    return shlex.join(["raycp", *sys.argv[1:]])


def _say(text: str) -> None:
    typer.echo(text, err=True)

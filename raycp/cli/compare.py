"""`raycp compare`: the methods of a suite, and their comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raycp.cli.options import AddressOption, ReplicasOption, SetOption, engine_overrides
from raycp.errors import RaycpError, RunMismatchError, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from raycp.config import RunConfig
    from raycp.config.suite import Suite
    from raycp.runs import RunResults
    from raycp.runs.evaluation import EvaluationResults
    from raycp.storage import Storage


def compare(
    suite: Annotated[
        Path,
        typer.Argument(metavar="SUITE", help="YAML file: shared sections and methods.", show_default=False),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the run directories: a path, s3:// or gs://.",
            show_default=False,
        ),
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run this method only. May be repeated.", show_default="all"),
    ] = None,
    set_: SetOption = None,
    address: AddressOption = None,
    replicas: ReplicasOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print samples and cost, draw nothing.")
    ] = False,
) -> None:
    """Certify several methods on the same noisy images and compare them.

    DIR/NAME is an ordinary run of raycp certify for each method. The same
    command resumes: what is finished stays, what was begun goes on. A method
    that fails is reported, the others have their turn, and the exit status is 1.
    Published logs that the suite names stand beside them; nothing is drawn for them.

    Where the suite has a section `evaluate`, the purified images of its methods
    are measured as by raycp evaluate, in DIR/evaluations/NAME.

    Prints certified accuracy beside the cost of each method and the suite's
    claims with joint intervals; DIR/comparison has them as CSV and pictures, and
    all of it as one page, comparison.html.

    \b
    Examples:
      raycp compare configs/digits/compare.yaml --out runs/compare
      raycp compare configs/digits/compare.yaml --out runs/compare --only none --only edm
      raycp compare configs/cifar10/compare.yaml --out s3://bucket/cifar10 --address auto
    """
    from raycp.cli.session import command_line
    from raycp.config.missing import missing_logs, require_files_of_methods
    from raycp.config.suite import load_suite
    from raycp.logs.rows import read_rows

    loaded = load_suite(suite, [*(set_ or []), *engine_overrides(address, replicas)])
    methods = loaded.only(only or [])
    require_files_of_methods(methods, {} if only else loaded.logs)
    here = {name: log for name, log in loaded.logs.items() if not missing_logs(log)}
    rows = read_rows(loaded, here)
    if dry_run:
        _print_plan(methods, loaded.evaluated)
        return

    from raycp.cli.display import make_display
    from raycp.distributed.suite import run_suite

    resume = f"resume with: {command_line()}"
    try:
        outcome = run_suite(methods, out, make_display, _say, loaded.evaluated)
    except KeyboardInterrupt:
        _say(resume)
        raise
    if outcome.interrupted:
        _say(f"interrupted; what was drawn is kept in {out}")
        readable = True
    else:
        readable = _print_comparison(loaded, _words(suite, set_ or []), out, outcome.failed, rows)
    if outcome.failed:
        _say(f"failed, as said above: {', '.join(outcome.failed)}")
    if not outcome.complete:
        _say(resume)
    if not (outcome.complete and readable):
        raise typer.Exit(1)


def _print_comparison(
    suite: Suite,
    words: tuple[str, ...],
    out: str,
    failed: Mapping[str, RaycpError],
    logs: Sequence[RunResults],
) -> bool:
    """Of all methods of the suite that have a table, whichever were run just now, but not those of other runs.

    Returns:
        Whether all evaluations that are there could be read.
    """
    from datetime import UTC, datetime

    from raycp.cli.session import command_line
    from raycp.config.suite import COMPARISON, recorded_differences
    from raycp.report.comparison_files import PAGE, report_comparison
    from raycp.report.comparison_page import Making
    from raycp.runs import read_run
    from raycp.runs.run_directory import RESULTS
    from raycp.storage import Storage

    storage, runs = Storage(out), []
    absent, left_out = [], {}
    for name, config in suite.methods.items():
        if storage.read(f"{name}/{RESULTS['certify']}") is None:
            absent.append(name)
            continue
        run = read_run(storage.path(name))
        other = recorded_differences(config, run.config["config"])
        if other or isinstance(failed.get(name), RunMismatchError):
            why = ", ".join(other) or "see above"
            left_out[name] = f"its directory holds a run of another configuration: {why}"
            _say(f"{name} is left out, {left_out[name]}")
        else:
            runs.append(run)
    runs += logs
    evaluations, unmeasured, damaged = _evaluations(suite, storage, failed)
    if runs:
        without = dict.fromkeys(absent, "no table yet") | left_out | unmeasured | damaged
        making = Making(words, command_line(), datetime.now(UTC), without)
        report = report_comparison(suite, runs, making, evaluations)
        for name, content in report.files.items():
            storage.write(f"{COMPARISON}/{name}", content)
        typer.echo(report.text, nl=False)
        for note in report.notes:
            _say(note)
        _say(f"in {storage.path(COMPARISON)}: {', '.join(name for name in report.files if name != PAGE)}")
        _say(f"page: {storage.path(f'{COMPARISON}/{PAGE}')}")
    elif evaluations:
        folders = ", ".join(evaluation.path for evaluation in evaluations)
        _say(f"no method has a table yet; purified images are measured in {folders}: raycp show prints them")
    if absent:
        _say(f"without a table yet: {', '.join(absent)}")
    if not_here := [name for name in suite.logs if name not in {log.name for log in logs}]:
        _say(f"left out, because their files are not here: {', '.join(not_here)}")
    return not damaged


def _evaluations(
    suite: Suite, storage: Storage, failed: Mapping[str, RaycpError]
) -> tuple[list[EvaluationResults], dict[str, str], dict[str, str]]:
    """The evaluations of the suite's configurations; why others are not there, and which cannot be read, by folder."""
    from raycp.config.suite import EVALUATIONS, recorded_differences
    from raycp.runs.evaluation import NAME, read_evaluation

    found, absent, damaged = [], {}, {}
    for name in suite.evaluated:
        folder = f"{EVALUATIONS}/{name}"
        if folder in failed:
            absent[folder] = f"failed, {failed[folder]}"
            continue
        if storage.read(f"{folder}/{NAME}") is None:
            absent[folder] = "not measured yet"
            _say(f"{folder}: not measured yet")
            continue
        try:
            evaluation = read_evaluation(storage.path(folder))
        except StorageError as err:
            damaged[folder] = "damaged"
            _say(f"{folder} is left out: {err}")
            continue
        other = recorded_differences(suite.methods[name], evaluation.config["config"], "evaluate")
        if other:
            absent[folder] = f"it is an evaluation of another configuration: {', '.join(other)}"
            _say(f"{folder} is left out, {absent[folder]}")
        else:
            found.append(evaluation)
    return found, absent, damaged


def _words(suite: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Of a command: what says which suite it is, with which overrides."""
    return ("raycp", "compare", str(suite), *(word for given in overrides for word in ("--set", given)))


def _print_plan(methods: Mapping[str, RunConfig], evaluated: Collection[str]) -> None:
    """A line for each method, and the sum; exits with 1 if one of them cannot be run."""
    from raycp.cli.session import most_hours, most_samples, rounded
    from raycp.distributed.cost import core_cost, sample_costs
    from raycp.distributed.job import prepare_job
    from raycp.report.formats import aligned

    lines = [["method", "images", "sigmas", "samples", "evaluations", "GFLOP/sample", "hours"]]
    failed: dict[str, RaycpError] = {}
    total_samples, total_hours, measured = 0, 0.0, False
    for name, config in methods.items():
        try:
            job = prepare_job("certify", config)
            costs, core = sample_costs(job), core_cost(job)
        except RaycpError as err:
            failed[name] = err
            continue
        samples = most_samples(job)
        hours, measured = most_hours(samples // len(costs), costs)
        if core is not None:
            hours += most_hours(job.core_answers, {0.0: core})[0]
        total_samples, total_hours = total_samples + samples, total_hours + hours
        lines.append(
            [
                name,
                f"{len(job.images):,}",
                ", ".join(f"{sigma:g}" for sigma in costs),
                f"{samples:,}",
                _spread([str(cost.evaluations) for cost in costs.values()]),
                _spread([f"{cost.operations / 1e9:.3g}" for cost in costs.values()]),
                rounded(hours),
            ]
        )
    lines.append(["all", "", "", f"{total_samples:,}", "", "", rounded(total_hours)])
    typer.echo(aligned(lines), nl=False)
    device = (
        "one replica like this machine, measured on a batch of 4" if measured else "a device of 10 TFLOP/s"
    )
    _say(
        f"samples and hours are the most: certify.rule and certify.skip_wrong may stop earlier; hours of {device}."
    )
    failed |= _plan_evaluations({name: methods[name] for name in methods if name in evaluated})
    for name, error in failed.items():
        _say(f"{name} cannot be run: {error}")
    if failed:
        raise typer.Exit(1)


def _plan_evaluations(methods: Mapping[str, RunConfig]) -> dict[str, RaycpError]:
    """Say what is to be measured of purified images; returns what cannot be, and why."""
    from raycp.config.suite import EVALUATIONS
    from raycp.distributed.evaluation_job import prepare_evaluation

    failed: dict[str, RaycpError] = {}
    samples = 0
    for name, config in methods.items():
        try:
            images = len(prepare_evaluation(config).job.images)
        except RaycpError as err:
            failed[f"{EVALUATIONS}/{name}"] = err
        else:
            samples += images * (1 + len(config.certify.sigmas) * config.evaluate.draws)
    if samples:
        _say(
            f"then the purified images of {len(methods) - len(failed)} methods (evaluate): {samples:,} samples more, "
            "not in this table, each seen by the networks of the metrics, too."
        )
    return failed


def _spread(values: list[str]) -> str:
    """One value for all sigmas, or the first and the last of them."""
    return values[0] if len(set(values)) == 1 else f"{values[0]} to {values[-1]}"


def _say(text: str) -> None:
    typer.echo(text, err=True)

"""`raycp submit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raycp.cli.dashboard import DashboardOption, address_words
from raycp.cli.options import SetOption

if TYPE_CHECKING:
    from raycp.config.job import JobConfig
    from raycp.distributed.jobs import JobClient, JobRecord
    from raycp.distributed.submission import Submission

# A job that dies at once, for example for a file that did not travel, takes the cluster this long to load Python.
_PENDING_SECONDS = 60.0
_RUNNING_SECONDS = 8.0
_LAST_LINES = 20


def submit(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="YAML job file.", show_default=False)],
    address: DashboardOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show what the job prints until it ends, and end as it does.")
    ] = False,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print what would be submitted.")
    ] = False,
) -> None:
    """Submit a job file to a Ray cluster; the same submission resumes.

    Uploads the job's working directory and runs its command on the cluster, on
    the head node. Prints the submission id; Ctrl-C while following leaves the
    job running. Given again after a stop or a failure, the new job goes on in
    the same run directory.

    \b
    Examples:
      raycp submit jobs/certify.yaml --address http://localhost:8265
      raycp submit jobs/train.yaml --follow
      raycp submit jobs/certify.yaml --dry-run --set 'command=[verify, s3://bucket/digits]'
    """
    from raycp.config import load_config
    from raycp.config.job import JobConfig
    from raycp.distributed.submission import submission_of

    loaded = load_config(JobConfig, job, set_ or [])
    _check_command(loaded)
    overrides = [word for override in set_ or [] for word in ("--set", override)]
    submission = submission_of(loaded, shlex.join(["raycp", "submit", str(job), *overrides]))
    if dry_run:
        typer.echo(_plan(submission))
        return
    from raycp.distributed.dashboard import connect
    from raycp.distributed.jobs import submit as submit_job

    client = connect(address)
    submission_id = submit_job(client, submission)
    typer.echo(submission_id)
    try:
        ended = _follow(client, submission_id) if follow else _watch(client, submission_id)
    except KeyboardInterrupt as err:
        there = address_words(address)
        _say(f"{submission_id} goes on. Stop it with: raycp stop {submission_id}{there}")
        _say(f"see its log again with: ray job logs --follow {submission_id}{there}")
        raise typer.Exit(1) from err
    if ended.status in ("FAILED", "STOPPED"):
        raise typer.Exit(1)


def _check_command(job: JobConfig) -> None:
    """Find what the command itself would refuse before anything travels: its words, its configuration, its script."""
    from raycp.config.job import WRITERS
    from raycp.errors import ConfigError

    folder = None
    if job.working_dir is not None and "://" not in job.working_dir:
        folder = Path(job.working_dir)
        if not folder.is_dir():
            raise ConfigError(f"working_dir must be a folder, got {job.working_dir!r} in {Path.cwd()}.")
    if job.command is None:
        if folder is not None and not (folder / job.kind).is_file():
            raise ConfigError(f"entrypoint: there is no {job.kind} in working_dir, {folder.resolve()}.")
        return
    parameters = _parameters(*job.command)
    if job.kind == "compare" and folder is not None:
        from raycp.config.suite import load_suite

        load_suite(folder / parameters["suite"], parameters["set_"] or []).only(parameters["only"] or [])
    elif job.kind in WRITERS and folder is not None:
        from raycp.config import RunConfig, load_config
        from raycp.config.train import TrainConfig

        model = TrainConfig if job.kind == "train" else RunConfig
        load_config(model, folder / parameters["config"], parameters["set_"] or [])


def _parameters(name: str, *words: str) -> dict[str, Any]:
    """The parameters that a command of raycp reads from these words; ends with its usage where it reads none."""
    from typer.main import get_command

    from raycp.cli.main import app

    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    parameters: dict[str, Any] = command.make_context(f"raycp {name}", list(words)).params
    return parameters


def _plan(submission: Submission) -> str:
    """What would be submitted, for --dry-run."""
    environment = submission.runtime_env
    rows = {
        "submission id": f"raycp-{submission.name}-1, or the next free number",
        "entry point": submission.entrypoint,
        "working dir": environment.get("working_dir", "none"),
        "stays behind": ", ".join([*environment.get("excludes", []), "what .gitignore and .rayignore name"]),
        "environment": ", ".join(f"{name}={value}" for name, value in environment["env_vars"].items()),
        "metadata": ", ".join(f"{name}={value}" for name, value in submission.metadata.items()),
        "reserved": f"{submission.cpus:g} CPU, {submission.gpus:g} GPU",
        "without raycp": submission.as_ray_command(f"raycp-{submission.name}-1"),
    }
    return "\n".join(f"{name:14} {text}" for name, text in rows.items())


def _follow(client: JobClient, submission_id: str) -> JobRecord:
    """Show the job's log until it ends."""
    from raycp.distributed.jobs import follow

    job = follow(client, submission_id, lambda text: typer.echo(text, err=True, nl=False))
    _say(f"{submission_id} {job.status}: {job.message}")
    return job


def _watch(client: JobClient, submission_id: str) -> JobRecord:
    """Wait until the job runs; of one that dies at once, show the end of its log."""
    from raycp.distributed.jobs import last_lines, watch_start

    job = watch_start(client, submission_id, _PENDING_SECONDS, _RUNNING_SECONDS)
    if job.status == "FAILED":
        for line in last_lines(client, job, _LAST_LINES):
            _say(f"  {line}")
        _say(f"{submission_id} FAILED; above is the end of its log.")
    else:
        _say(f"{submission_id} {job.status}: {job.message}")
    return job


def _say(text: str) -> None:
    typer.echo(text, err=True)

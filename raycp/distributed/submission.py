"""What is handed to Ray for a job file: entry point, runtime environment and metadata, as plain values."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raycp.config.job import WRITERS, JobConfig

_TAKE_ADDRESS = WRITERS
_ENV_VARS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    # Ray Train's page of the dashboard.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}


@dataclass(frozen=True)
class Submission:
    """One job, before it has a number.

    Attributes:
        name: of the job file.
        entrypoint: shell command.
        runtime_env: working directory, what of it stays behind, environment variables.
        metadata: what the dashboard shows.
        cpus, gpus: reserved for the command itself.
        resumes: whether the job makes a run directory, which no second job may do at the same time.
    """

    name: str
    entrypoint: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str]
    cpus: float
    gpus: float
    resumes: bool

    @property
    def run(self) -> str | None:
        """Where the results will be; None if a script does not say."""
        return self.metadata.get("run")

    def as_ray_command(self, submission_id: str) -> str:
        """The same with Ray's own command."""
        words = ["ray", "job", "submit", "--no-wait", "--submission-id", submission_id]
        words += [
            "--runtime-env-json",
            json.dumps(self.runtime_env),
            "--metadata-json",
            json.dumps(self.metadata),
        ]
        for option, value in (("--entrypoint-num-cpus", self.cpus), ("--entrypoint-num-gpus", self.gpus)):
            words += [option, f"{value:g}"] if value else []
        return f"{shlex.join([*words, '--'])} {self.entrypoint}"


def submission_of(job: JobConfig, resume: str) -> Submission:
    """Translate a job file.

    Args:
        job: its content.
        resume: the command that submits it again, for the record.
    """
    words = ["raycp", *job.words] if job.command else ["python", *job.words]
    if job.kind in _TAKE_ADDRESS and not any(word.partition("=")[0] == "--address" for word in words):
        words += ["--address", "auto"]
    # Ray stops a job by SIGTERM and kills it after three seconds, less than a task and a ledger file may take.
    env_vars = {**_ENV_VARS, "RAY_JOB_STOP_WAIT_TIME_S": str(job.stop_seconds), **job.env_vars}
    runtime_env: dict[str, Any] = {"env_vars": env_vars}
    if job.working_dir is not None:
        runtime_env["working_dir"] = job.working_dir
    if job.excludes:
        runtime_env["excludes"] = list(job.excludes)
    recorded = {
        "raycp": version("raycp"),
        "kind": job.kind,
        "run": job.run,
        "config": job.config,
        "resume": resume,
        "git_commit": None if job.working_dir is None else _commit(job.working_dir),
    }
    return Submission(
        name=job.name,
        entrypoint=shlex.join(words),
        runtime_env=runtime_env,
        metadata={name: value for name, value in recorded.items() if value is not None} | job.metadata,
        cpus=job.cpus,
        gpus=job.gpus,
        resumes=job.kind in WRITERS or job.command is None,
    )


def _commit(folder: str) -> str | None:
    """The commit whose files travel, with `-dirty` if some of them differ; None outside of git."""
    if not Path(folder).is_dir() or shutil.which("git") is None:
        return None
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    )
    return done.stdout.strip() or None

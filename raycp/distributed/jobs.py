"""Jobs on a running Ray cluster: hand one in, follow its log, list them, stop one."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from raycp.config.job import READERS
from raycp.distributed.submission import Submission
from raycp.errors import ClusterError

ENDED = ("SUCCEEDED", "STOPPED", "FAILED")
_POLL_SECONDS = 0.5
_MOST_NUMBERS = 20
_SETTLE_SECONDS = 5.0
_AGENT_SECONDS = 60.0


class JobClient(Protocol):
    """What is used of `ray.job_submission.JobSubmissionClient`."""

    def submit_job(self, **arguments: Any) -> str:
        """Hand in a job."""
        ...

    def list_jobs(self) -> Sequence[Any]:
        """All jobs of the cluster."""
        ...

    def get_job_info(self, job_id: str) -> Any:
        """One job."""
        ...

    def get_job_logs(self, job_id: str) -> str:
        """All that a job printed."""
        ...

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """What a job prints, until it ends."""
        ...

    def stop_job(self, job_id: str) -> bool:
        """Ask a job to end."""
        ...


@dataclass(frozen=True)
class JobRecord:
    """What the cluster knows about one job.

    Attributes:
        id: submission id; of a driver that no job started, Ray's job id.
        status: PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED.
        entrypoint: its command.
        metadata: that it was submitted with.
        started: when it was handed in.
        ended: when it ended; None while it has not.
        message: how it is or how it ended, in one line.
    """

    id: str
    status: str
    entrypoint: str
    metadata: dict[str, str]
    started: datetime | None
    ended: datetime | None
    message: str

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status in ENDED

    @property
    def run(self) -> str | None:
        """Its run directory, if it was recorded."""
        return self.metadata.get("run")

    @property
    def is_raycps(self) -> bool:
        """Whether raycp submitted it, or it runs a command of raycp."""
        return "raycp" in self.metadata or self.entrypoint.startswith("raycp ")

    def seconds(self, now: datetime) -> float | None:
        """How long it took, or has taken until now; None if it has not begun."""
        return None if self.started is None else ((self.ended or now) - self.started).total_seconds()


def submit(client: JobClient, submission: Submission) -> str:
    """Hand in a job under the next free number of its name.

    Returns:
        Its submission id.

    Raises:
        ClusterError: a job that is still there makes the same run directory; the cluster refuses; the working directory
            is too large.
    """
    jobs = list_jobs(client)
    if submission.resumes and submission.run is not None:
        for job in jobs:
            if job.run == submission.run and not job.has_ended and job.metadata.get("kind") not in READERS:
                raise ClusterError(
                    f"the job {job.id} ({job.status}) makes {submission.run} already, and only one may at a time. Wait "
                    f"for it, or end it with `raycp stop {job.id}`; then the same submission goes on where it stopped."
                )
    pattern = re.compile(rf"raycp-{re.escape(submission.name)}-(\d+)")
    taken = [int(found[1]) for job in jobs if (found := pattern.fullmatch(job.id))]
    first = 1 + max(taken, default=0)
    for number in range(first, first + _MOST_NUMBERS):
        submission_id = f"raycp-{submission.name}-{number}"
        try:
            with _translated(f"submit {submission_id}"):
                return _hand_in(client, submission, submission_id)
        except _TakenError:  # somebody else was faster
            continue
        except ValueError as err:
            raise ClusterError(
                f"working_dir cannot travel: {str(err).splitlines()[0]} Name what need not travel in `excludes` of the "
                "job file, .gitignore or .rayignore."
            ) from err
    raise ClusterError(
        f"raycp-{submission.name}-{first} and the {_MOST_NUMBERS - 1} numbers after it are taken; change `name`."
    )


def _hand_in(client: JobClient, submission: Submission, submission_id: str) -> str:
    last = time.monotonic() + _AGENT_SECONDS
    while True:
        try:
            return client.submit_job(
                submission_id=submission_id,
                entrypoint=submission.entrypoint,
                runtime_env=submission.runtime_env,
                metadata=submission.metadata,
                entrypoint_num_cpus=submission.cpus,
                entrypoint_num_gpus=submission.gpus,
            )
        except RuntimeError as err:
            # The dashboard of a cluster that has just started answers before the agent that starts jobs is there.
            if "No available agent" not in str(err) or time.monotonic() >= last:
                raise
        time.sleep(_POLL_SECONDS)


def list_jobs(client: JobClient) -> list[JobRecord]:
    """All jobs that the cluster remembers, newest first."""
    with _translated("list the jobs"):
        jobs = [_record(details) for details in client.list_jobs()]
    return sorted(jobs, key=lambda job: job.started or datetime.min.replace(tzinfo=UTC), reverse=True)


def find_job(client: JobClient, submission_id: str) -> JobRecord:
    """The job of that id.

    Raises:
        ClusterError: there is none; the message lists those of raycp.
    """
    jobs = [job for job in list_jobs(client) if job.is_raycps or job.id == submission_id]
    for job in jobs:
        if job.id == submission_id:
            return job
    known = ", ".join(f"{job.id} ({job.status})" for job in jobs) or "none"
    raise ClusterError(f"the cluster knows no job {submission_id!r}; jobs of raycp there: {known}.")


def follow(client: JobClient, submission_id: str, write: Callable[[str], None]) -> JobRecord:
    """Pass on what a job prints until it has ended.

    Raises:
        ClusterError: the connection broke; the job itself goes on.
    """

    written = 0

    async def pass_on() -> None:
        nonlocal written
        seen = 0
        async for text in client.tail_job_logs(submission_id):
            seen += len(text)
            if seen > written:
                write(text[written - seen :])
                written = seen

    while True:
        with _translated(f"follow the log of {submission_id}", "The job itself goes on."):
            asyncio.run(pass_on())
        # The status comes a moment after the log's end. A log that something on the way has closed is read on.
        job = wait_for_end(client, submission_id, _SETTLE_SECONDS)
        if job.has_ended:
            return job


def wait_for_end(client: JobClient, submission_id: str, seconds: float) -> JobRecord:
    """The job as it is when it has ended, or after that many seconds."""
    last = time.monotonic() + seconds
    while True:
        job = job_info(client, submission_id)
        if job.has_ended or time.monotonic() >= last:
            return job
        time.sleep(_POLL_SECONDS)


def watch_start(client: JobClient, submission_id: str, pending: float, running: float) -> JobRecord:
    """The job as it is when it has ended, has run for `running` seconds, or has waited for `pending` seconds."""
    last = time.monotonic() + pending
    job = job_info(client, submission_id)
    while job.status == "PENDING" and time.monotonic() < last:
        time.sleep(_POLL_SECONDS)
        job = job_info(client, submission_id)
    return wait_for_end(client, submission_id, running) if job.status == "RUNNING" else job


def stop(client: JobClient, submission_id: str, seconds: float) -> JobRecord:
    """Ask a job to stop, and wait until it has.

    Raises:
        ClusterError: there is no such job, or it has not ended after that many seconds.
    """
    find_job(client, submission_id)
    with _translated(f"stop {submission_id}"):
        client.stop_job(submission_id)
    job = wait_for_end(client, submission_id, seconds)
    if not job.has_ended:
        raise ClusterError(
            f"{submission_id} was asked to stop and is still {job.status} after {seconds:.0f} s. Ray kills it once its "
            "stop_seconds are over; look again with `raycp jobs`."
        )
    return job


def last_lines(client: JobClient, job: JobRecord, count: int) -> list[str]:
    """The end of what a job printed; where it printed nothing, what Ray says about it."""
    with _translated(f"read the log of {job.id}"):
        lines = _of_the_job(client.get_job_logs(job.id))
        if not lines:
            lines = _of_the_job(client.get_job_info(job.id).message or "")
    return lines[-count:]


def _of_the_job(log: str) -> list[str]:
    """The lines of a log without the one that Ray adds when it starts a job; which comes last if the job is quick."""
    return [line for line in log.rstrip().splitlines() if not line.startswith("Running entrypoint for job ")]


def job_info(client: JobClient, submission_id: str) -> JobRecord:
    """How a job is."""
    with _translated(f"ask for {submission_id}"):
        return _record(client.get_job_info(submission_id))


class _TakenError(Exception):
    """A submission id that another job has."""


@contextmanager
def _translated(what: str, advice: str = "") -> Iterator[None]:
    """Ray's client raises RuntimeError for any answer that is not 200, and what `requests` and `aiohttp` raise."""
    import aiohttp

    try:
        yield
    except (RuntimeError, OSError, aiohttp.ClientError) as err:
        text = str(err)
        if "already exists" in text and "submission_id" in text:
            raise _TakenError from err
        lines = [line for line in text.splitlines() if line.strip(" .")]
        # A server's answer ends with the line of its traceback that says what is wrong.
        reason = lines[-1].strip().rstrip(".") if lines else type(err).__name__
        raise ClusterError(f"cannot {what}: {reason}. {advice}".rstrip()) from err


def _record(details: Any) -> JobRecord:
    lines = [line.strip() for line in _of_the_job(details.message or "") if line.strip()]
    status = str(details.status)
    # The message of a failed job holds the end of its log, which ends with the error.
    message = (lines[-1] if status == "FAILED" else lines[0]) if lines else ""
    return JobRecord(
        id=details.submission_id or details.job_id or "",
        status=status,
        entrypoint=details.entrypoint,
        metadata=dict(details.metadata or {}),
        started=_time(details.start_time),
        ended=_time(details.end_time),
        message=message,
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None

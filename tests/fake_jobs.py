"""A cluster's jobs without a cluster: what `ray.job_submission.JobSubmissionClient` would answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any


class FakeJobs:
    """Jobs by submission id; each has a list of statuses that it goes through, one per look at it."""

    def __init__(self) -> None:
        self.jobs: dict[str, SimpleNamespace] = {}
        self.courses: dict[str, list[str]] = {}
        self.logs: dict[str, list[str]] = {}
        self.submitted: list[dict[str, Any]] = []
        self.next_course: list[str] = ["RUNNING"]
        self.taken: set[str] = set()
        self.stopped: list[str] = []

    def add(self, submission_id: str | None, status: str = "RUNNING", **values: Any) -> None:
        """One job that is there."""
        details = {
            "submission_id": submission_id,
            "job_id": "01000000",
            "entrypoint": "raycp certify c.yaml",
            "message": "Job is currently running.",
            "start_time": 1_700_000_000_000 + 1000 * len(self.jobs),
            "end_time": None,
            "metadata": {"raycp": "0.1.0"},
        } | values
        self.jobs[submission_id or "01000000"] = SimpleNamespace(status=status, **details)

    def submit_job(self, **arguments: Any) -> str:
        submission_id = str(arguments["submission_id"])
        if submission_id in self.taken or submission_id in self.jobs:
            raise RuntimeError(
                "Request failed with status code 400: Traceback (most recent call last):\n  ...\nValueError: Job with "
                f"submission_id {submission_id} already exists. Please use a different submission_id."
            )
        self.submitted.append(arguments)
        self.add(
            submission_id,
            self.next_course[0],
            entrypoint=arguments["entrypoint"],
            metadata=arguments["metadata"],
        )
        self.courses[submission_id] = self.next_course[1:]
        return submission_id

    def list_jobs(self) -> list[SimpleNamespace]:
        return list(self.jobs.values())

    def get_job_info(self, job_id: str) -> SimpleNamespace:
        if job_id not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job_id} does not exist.")
        job = self.jobs[job_id]
        before = SimpleNamespace(**vars(job))
        if self.courses.get(job_id):
            job.status = self.courses[job_id].pop(0)
        return before

    def get_job_logs(self, job_id: str) -> str:
        return "".join(self.logs.get(job_id, []))

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for text in self.logs.get(job_id, []):
            yield text

    def stop_job(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        self.courses.setdefault(job_id, []).append("STOPPED")
        return True

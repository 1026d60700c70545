"""Submitting, following, listing and stopping, against a client that answers from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_jobs import FakeJobs

from raycp.config import parse_config
from raycp.config.job import JobConfig
from raycp.distributed import jobs
from raycp.distributed.jobs import find_job, follow, last_lines, list_jobs, stop, submit, watch_start
from raycp.distributed.submission import Submission, submission_of
from raycp.errors import ClusterError

RUN = "/shared/runs/digits"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(jobs, "_SETTLE_SECONDS", 0.01)


@pytest.fixture
def client() -> FakeJobs:
    return FakeJobs()


def submission(words: list[str] | None = None) -> Submission:
    command = words or ["certify", "c.yaml", "--out", RUN]
    raw = {"name": "digits", "command": command, "working_dir": None}
    return submission_of(parse_config(JobConfig, raw), "raycp submit job.yaml")


def test_numbers_go_on(client: FakeJobs) -> None:
    for taken in (
        "raycp-digits-1",
        "raycp-digits-9",
        "raycp-digits-x",
        "raycp-digits-two-40",
        "raycp-other-12",
    ):
        client.add(taken, "STOPPED")
    assert submit(client, submission()) == "raycp-digits-10"
    (sent,) = client.submitted
    assert sent["entrypoint"] == f"raycp certify c.yaml --out {RUN} --address auto"
    assert sent["metadata"]["run"] == RUN
    assert (sent["entrypoint_num_cpus"], sent["entrypoint_num_gpus"]) == (0, 0)


def test_the_first_number(client: FakeJobs) -> None:
    assert submit(client, submission()) == "raycp-digits-1"


def test_a_number_that_somebody_else_took_meanwhile(client: FakeJobs) -> None:
    client.taken = {"raycp-digits-1", "raycp-digits-2"}
    assert submit(client, submission()) == "raycp-digits-3"


def test_no_number_is_free(client: FakeJobs) -> None:
    client.taken = {f"raycp-digits-{number}" for number in range(100)}
    with pytest.raises(
        ClusterError, match=r"raycp-digits-1 and the 19 numbers after it are taken; change `name`\."
    ):
        submit(client, submission())


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_one_job_at_a_time_makes_a_run(client: FakeJobs, status: str) -> None:
    client.add("raycp-night-3", status, metadata={"raycp": "0", "run": RUN, "kind": "certify"})
    with pytest.raises(ClusterError) as caught:
        submit(client, submission())
    assert f"the job raycp-night-3 ({status}) makes {RUN} already" in str(caught.value)
    assert "`raycp stop raycp-night-3`" in str(caught.value)
    assert not client.submitted


def test_a_run_may_be_looked_at_while_it_is_made(client: FakeJobs) -> None:
    client.add("raycp-digits-1", metadata={"raycp": "0", "run": RUN, "kind": "certify"})
    assert submit(client, submission(["report", RUN])) == "raycp-digits-2"
    client.jobs["raycp-digits-1"].status = "STOPPED"
    assert submit(client, submission()) == "raycp-digits-3"


def test_what_the_cluster_refuses(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise RuntimeError(
            "Request failed with status code 500: Traceback (most recent call last):\n  ...\nOSError: no room\n."
        )

    monkeypatch.setattr(client, "submit_job", refuse)
    with pytest.raises(ClusterError, match=r"cannot submit raycp-digits-1: .*no room"):
        submit(client, submission())


@pytest.mark.parametrize("tries", [1, 3])
def test_a_cluster_that_has_just_started(
    client: FakeJobs, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    refusals = iter(["No available agent to submit job, please try again later."] * tries)
    submit_job = client.submit_job

    def start_late(**arguments: Any) -> str:
        if refusal := next(refusals, None):
            raise RuntimeError(f"Request failed with status code 500: {refusal}.")
        return submit_job(**arguments)

    monkeypatch.setattr(client, "submit_job", start_late)
    assert submit(client, submission()) == "raycp-digits-1"


def test_a_cluster_whose_agent_never_comes(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise RuntimeError(
            "Request failed with status code 500: No available agent, please try again later.."
        )

    monkeypatch.setattr(client, "submit_job", refuse)
    monkeypatch.setattr(jobs, "_AGENT_SECONDS", 0.01)
    with pytest.raises(ClusterError, match=r"No available agent, please try again later\.$"):
        submit(client, submission())


def test_a_working_directory_that_is_too_large(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> str:
        raise ValueError(
            "Package size (900.00MiB) exceeds the maximum size of 512.00MiB. You can exclude large files"
        )

    monkeypatch.setattr(client, "submit_job", refuse)
    with pytest.raises(ClusterError) as caught:
        submit(client, submission())
    assert "Package size (900.00MiB) exceeds" in str(caught.value)
    assert "`excludes`" in str(caught.value)


def test_records(client: FakeJobs) -> None:
    log = (
        "failed with exit code 1, last available logs:\nreading\nerror: no weights at x.\n"
        "Running entrypoint for job raycp-a-1: python x.py\n"
    )
    client.add(
        "raycp-a-1", "FAILED", message=log, end_time=1_700_000_061_500, metadata={"raycp": "0", "run": RUN}
    )
    client.add(None, "RUNNING", entrypoint="python train.py", metadata=None)
    client.add("raysubmit_1", "PENDING", metadata={}, start_time=None, message=None)
    second, first, third = list_jobs(client)
    assert (first.id, first.run, first.message) == ("raycp-a-1", RUN, "error: no weights at x.")
    assert first.started == datetime.fromtimestamp(1_700_000_000, UTC)
    assert first.seconds(datetime.now(UTC)) == 61.5
    assert first.has_ended and first.is_raycps
    assert (second.id, second.is_raycps, second.message) == ("01000000", False, "Job is currently running.")
    assert (third.id, third.is_raycps, third.message) == ("raysubmit_1", True, "")
    assert third.seconds(datetime.now(UTC)) is None


def test_following(client: FakeJobs) -> None:
    client.next_course = ["RUNNING", "SUCCEEDED"]
    submission_id = submit(client, submission())
    client.logs[submission_id] = ["one\ntwo\n", "three\n"]
    written: list[str] = []
    assert follow(client, submission_id, written.append).status == "SUCCEEDED"
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_log_that_breaks_off_is_read_on(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    client.add("raycp-digits-1")
    reads = iter([["one\n", "tw"], ["one\ntwo\n", "three\n"]])

    async def tail(_: str) -> AsyncIterator[str]:
        chunks = next(reads)
        for chunk in chunks:
            yield chunk
        if "three\n" in chunks:
            client.jobs["raycp-digits-1"].status = "FAILED"

    monkeypatch.setattr(client, "tail_job_logs", tail)
    written: list[str] = []
    assert follow(client, "raycp-digits-1", written.append).status == "FAILED"
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_connection_that_breaks(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    client.add("raycp-digits-1")

    async def tail(_: str) -> AsyncIterator[str]:
        yield "one\n"
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr(client, "tail_job_logs", tail)
    with pytest.raises(
        ClusterError, match="cannot follow the log of raycp-digits-1: Connection reset by peer"
    ) as caught:
        follow(client, "raycp-digits-1", lambda _: None)
    assert str(caught.value).endswith("The job itself goes on.")


@pytest.mark.parametrize(
    ("course", "status"),
    [
        (["PENDING", "PENDING", "FAILED"], "FAILED"),
        (["PENDING", "RUNNING", "RUNNING", "FAILED"], "FAILED"),
        (["RUNNING"], "RUNNING"),
        (["PENDING"], "PENDING"),
        (["PENDING", "SUCCEEDED"], "SUCCEEDED"),
    ],
)
def test_watching_the_start(client: FakeJobs, course: list[str], status: str) -> None:
    client.next_course = course
    submission_id = submit(client, submission())
    assert watch_start(client, submission_id, pending=0.2, running=0.2).status == status


def test_stopping(client: FakeJobs) -> None:
    client.add("raycp-digits-1", metadata={"raycp": "0", "run": RUN})
    assert stop(client, "raycp-digits-1", 5).status == "STOPPED"
    assert client.stopped == ["raycp-digits-1"]


def test_a_job_that_does_not_stop(client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    client.add("raycp-digits-1")
    monkeypatch.setattr(client, "stop_job", lambda _: True)
    with pytest.raises(ClusterError, match="raycp-digits-1 was asked to stop and is still RUNNING after 0 s"):
        stop(client, "raycp-digits-1", 0.01)


def test_an_unknown_job(client: FakeJobs) -> None:
    with pytest.raises(ClusterError, match=r"knows no job 'raycp-digits-7'; jobs of raycp there: none\."):
        find_job(client, "raycp-digits-7")
    client.add("raycp-digits-1", "STOPPED")
    client.add("raycp-digits-2")
    client.add("raysubmit_x", entrypoint="python other.py", metadata={})
    with pytest.raises(
        ClusterError, match=r"there: raycp-digits-2 \(RUNNING\), raycp-digits-1 \(STOPPED\)\."
    ):
        stop(client, "raycp-digits-7", 5)
    assert not client.stopped
    assert find_job(client, "raysubmit_x").entrypoint == "python other.py"


def test_the_end_of_a_log(client: FakeJobs) -> None:
    client.add(
        "raycp-digits-1", "FAILED", message="Failed to set up the runtime environment:\nno such archive"
    )
    job = find_job(client, "raycp-digits-1")
    assert last_lines(client, job, 1) == ["no such archive"]
    client.logs["raycp-digits-1"] = ["one\ntwo\nthree\n\n"]
    assert last_lines(client, job, 2) == ["two", "three"]
    ray = "Running entrypoint for job raycp-digits-1: python quick.py"
    for log in (f"two\nthree\n{ray}\n", f"{ray}\ntwo\nthree\n"):  # Ray's own line comes when it comes
        client.logs["raycp-digits-1"] = [log]
        assert last_lines(client, job, 2) == ["two", "three"]

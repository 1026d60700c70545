"""`raycp submit`, `raycp jobs` and `raycp stop` through the command, against jobs in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_jobs import FakeJobs

from raycp.distributed import dashboard, jobs

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
CERTIFY = ["certify", "config.yaml", "--out", "/shared/runs/digits"]
CONFIG = {
    "data": {"name": "digits"},
    "purifier": {"kind": "none"},
    "classifier": {"kind": "directory", "path": "/shared/classifier"},
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """The cluster at any address."""
    fake = FakeJobs()
    monkeypatch.setattr(dashboard, "connect", lambda _: fake)
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(sys.modules["raycp.cli.submit"], "_PENDING_SECONDS", 0.05)
    monkeypatch.setattr(sys.modules["raycp.cli.submit"], "_RUNNING_SECONDS", 0.05)
    return fake


@pytest.fixture
def run(raycp: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`raycp`, in a folder with config.yaml."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    return raycp


def write_job(**values: Any) -> str:
    Path("job.yaml").write_text(yaml.safe_dump({"name": "digits", "command": CERTIFY} | values))
    return "job.yaml"


def test_submitting(run: Run, client: FakeJobs) -> None:
    status, out, err = run("submit", write_job(), "--set", "stop_seconds=7", "--set", "metadata.who=me")
    assert (status, out) == (0, "raycp-digits-1\n")
    assert err == "raycp-digits-1 RUNNING: Job is currently running.\n"
    (sent,) = client.submitted
    assert sent["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "7"
    assert sent["metadata"]["resume"] == "raycp submit job.yaml --set stop_seconds=7 --set metadata.who=me"


def test_a_job_that_dies_at_once(run: Run, client: FakeJobs) -> None:
    client.next_course = ["PENDING", "RUNNING", "FAILED"]
    client.logs["raycp-digits-1"] = [f"line {number}\n" for number in range(100)]
    status, out, err = run("submit", write_job())
    assert (status, out) == (1, "raycp-digits-1\n")
    lines = err.splitlines()
    assert lines[-1] == "raycp-digits-1 FAILED; above is the end of its log."
    assert lines[:-1] == [f"  line {number}" for number in range(80, 100)]


@pytest.mark.parametrize(("end", "status"), [("SUCCEEDED", 0), ("FAILED", 1), ("STOPPED", 1)])
def test_following(run: Run, client: FakeJobs, end: str, status: int) -> None:
    client.next_course = ["RUNNING", end]
    client.logs["raycp-digits-1"] = ["50/300 decided\n", "done\n"]
    ended = run("submit", write_job(), "--follow")
    assert ended[:2] == (status, "raycp-digits-1\n")
    assert ended[2].startswith(f"50/300 decided\ndone\nraycp-digits-1 {end}: ")


def test_ctrl_c_while_following(run: Run, client: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tail(_: str) -> AsyncIterator[str]:
        yield "50/300 decided\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "tail_job_logs", tail)
    status, _out, err = run("submit", write_job(), "--follow")
    assert status == 1
    assert "raycp-digits-1 goes on. Stop it with: raycp stop raycp-digits-1\n" in err
    assert not client.stopped
    _status, _out, err = run(
        "submit", write_job(command=["verify", "/shared/run"]), "--follow", "--address", "head"
    )
    assert "Stop it with: raycp stop raycp-digits-2 --address http://head:8265\n" in err
    assert "ray job logs --follow raycp-digits-2 --address http://head:8265\n" in err


def test_a_dry_run_asks_no_cluster(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(dashboard, "connect", fail)
    status, out, _err = run("submit", write_job(excludes=["runs/"]), "--dry-run")
    assert status == 0
    assert "raycp certify config.yaml --out /shared/runs/digits --address auto" in out
    assert "runs/, what .gitignore and .rayignore name" in out
    assert "ray job submit --no-wait --submission-id raycp-digits-1 " in out


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_in_jobs(run: Run, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.chdir(ROOT)
    status, out, err = run("submit", f"jobs/{path.name}", "--dry-run")
    assert status == 0, err
    assert f"resume=raycp submit jobs/{path.name}" in out
    assert (
        f"raycp submit jobs/{path.name} --address http://HOST:8265"
        in path.read_text().partition("\nname:")[0]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"command": ["certify", "config.yaml", "--out", "runs/digits"]},
         "job.yaml:\n  certify: --out must be outside the job's working directory"),
        ({"env_vars": {"AWS_SECRET_ACCESS_KEY": "x"}}, "env_vars.AWS_SECRET_ACCESS_KEY must not be in a job file"),
        ({"command": [*CERTIFY, "--replcas", "8"]}, "No such option: --replcas"),
        ({"command": [*CERTIFY, "--replicas", "0"]}, "Invalid value for '--replicas'"),
        ({"command": ["verify"]}, "Missing argument 'RUN'"),
        ({"command": ["certify", "no.yaml", *CERTIFY[2:]]}, "cannot read the configuration no.yaml"),
        ({"command": [*CERTIFY, "--set", "certify.alhpa=1"]}, "did you mean certify.alpha?"),
        ({"command": ["train", *CERTIFY[1:]]}, "stages is required."),
        ({"command": ["compare", *CERTIFY[1:]]}, "methods is required."),
        ({"working_dir": "nowhere"}, "working_dir must be a folder, got 'nowhere'"),
        ({"command": None, "entrypoint": ["jobs/pipeline.py"]},
         "entrypoint: there is no jobs/pipeline.py in working_dir"),
    ],
)  # fmt: skip
def test_what_would_fail_on_the_cluster_is_said_here(
    run: Run, client: FakeJobs, values: dict[str, Any], message: str
) -> None:
    status, _out, err = run("submit", write_job(**values))
    assert status == 2
    assert message in err
    assert not client.submitted


def test_a_comparison_is_a_job(run: Run, client: FakeJobs) -> None:
    shared = {key: section for key, section in CONFIG.items() if key != "purifier"}
    suite = {**shared, "methods": {"none": {"purifier": {"kind": "none"}}}}
    Path("config.yaml").write_text(yaml.safe_dump(suite))
    words = ["compare", *CERTIFY[1:]]
    assert run("submit", write_job(command=words))[0] == 0
    assert (
        client.submitted[0]["entrypoint"]
        == "raycp compare config.yaml --out /shared/runs/digits --address auto"
    )
    status, _out, err = run("submit", write_job(command=[*words, "--only", "edm"]))
    assert status == 2
    assert "--only edm: this suite has the methods none, and no other" in err


def test_a_configuration_that_is_there_already_is_not_looked_for_here(run: Run, client: FakeJobs) -> None:
    words = ["certify", "c.yaml", *CERTIFY[2:]]
    assert run("submit", write_job(command=words, working_dir="s3://bucket/code.zip"))[0] == 0
    assert run("submit", write_job(command=["verify", "/shared/run"], working_dir=None))[0] == 0


def test_a_run_that_is_being_made(run: Run, client: FakeJobs) -> None:
    assert run("submit", write_job())[0] == 0
    status, out, err = run("submit", write_job(name="again"))
    assert (status, out) == (1, "")
    assert "the job raycp-digits-1 (RUNNING) makes /shared/runs/digits already" in err


def test_listing(run: Run, client: FakeJobs) -> None:
    assert run("jobs") == (0, "", "no jobs of raycp; --all lists the others\n")
    client.add(
        "raycp-digits-1", "FAILED", metadata={"raycp": "0", "run": "/shared/runs/digits"}, end_time=1_700_003_725_000,
        message="Job entrypoint command failed with exit code 1, last available logs:\nerror: no weights at x.\n",
    )  # fmt: skip
    client.add("raysubmit_other", entrypoint="python other.py", metadata={})
    client.add(
        "raycp-digits-2", "SUCCEEDED", message="Job finished successfully.", end_time=1_700_000_003_000
    )
    status, out, err = run("jobs")
    assert (status, err) == (0, "")
    heading, *lines = [line.split() for line in out.splitlines()]
    assert heading == ["id", "status", "run", "started", "duration", "message"]
    assert [line[:3] for line in lines] == [
        ["raycp-digits-2", "SUCCEEDED", "-"],
        ["raycp-digits-1", "FAILED", "/shared/runs/digits"],
    ]
    assert lines[1][5:] == ["1:02:05", "error:", "no", "weights", "at", "x."]
    assert "raysubmit_other" in run("jobs", "--all")[1]


def test_listing_as_json(run: Run, client: FakeJobs) -> None:
    client.add(
        "raycp-digits-1", "SUCCEEDED", end_time=1_700_000_003_500, metadata={"raycp": "0", "run": "s3://b/r"}
    )
    (listed,) = json.loads(run("jobs", "--format", "json")[1])
    assert listed == {
        "id": "raycp-digits-1",
        "status": "SUCCEEDED",
        "run": "s3://b/r",
        "started": "2023-11-14T22:13:20+00:00",
        "seconds": 3.5,
        "message": "Job is currently running.",
        "entrypoint": "raycp certify c.yaml",
        "metadata": {"raycp": "0", "run": "s3://b/r"},
    }


def test_stopping(run: Run, client: FakeJobs) -> None:
    assert run("submit", write_job())[0] == 0
    status, out, err = run("stop", "raycp-digits-1")
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        "raycp-digits-1 STOPPED",
        "what it computed is kept in /shared/runs/digits",
        "resume with: raycp submit job.yaml",
    ]
    assert run("submit", write_job())[0] == 0
    _status, _out, err = run("stop", "raycp-digits-2", "--address", "head")
    assert "resume with: raycp submit job.yaml --address http://head:8265\n" in err
    assert run("stop", "raycp-digits-1") == (0, "", "raycp-digits-1 had ended already: STOPPED\n")
    assert client.stopped == ["raycp-digits-1", "raycp-digits-2"]


def test_stopping_what_is_not_there(run: Run, client: FakeJobs) -> None:
    client.add("raycp-digits-1", "STOPPED")
    status, _out, err = run("stop", "raycp-digts-1")
    assert status == 1
    assert "knows no job 'raycp-digts-1'; jobs of raycp there: raycp-digits-1 (STOPPED)." in err


@pytest.mark.parametrize("command", ["submit", "jobs", "stop"])
def test_help_with_an_example(run: Run, command: str) -> None:
    status, out, _err = run(command, "--help")
    assert status == 0
    assert f"raycp {command}" in out.partition("Example")[2]

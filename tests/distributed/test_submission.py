"""What a job file becomes for Ray."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raycp import __version__
from raycp.config import parse_config
from raycp.config.job import JobConfig
from raycp.distributed.submission import Submission, submission_of

CERTIFY = ["certify", "configs/digits/none.yaml", "--out", "/shared/runs/digits"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any checkout."""
    monkeypatch.chdir(tmp_path)


def submission(**values: Any) -> Submission:
    raw = {"name": "digits", "command": CERTIFY} | values
    return submission_of(parse_config(JobConfig, raw), "raycp submit job.yaml")


@pytest.mark.parametrize("command", ["certify", "predict", "train"])
def test_commands_that_need_ray_use_the_cluster_of_the_job(command: str) -> None:
    assert submission(command=[command, *CERTIFY[1:]]).entrypoint == (
        f"raycp {command} configs/digits/none.yaml --out /shared/runs/digits --address auto"
    )


@pytest.mark.parametrize("address", [["--address", "10.0.0.1:6379"], ["--address=10.0.0.1:6379"]])
def test_an_address_that_is_given_stays(address: list[str]) -> None:
    assert submission(command=[*CERTIFY, *address]).entrypoint.endswith(
        shlex.join(["/shared/runs/digits", *address])
    )


@pytest.mark.parametrize("words", [["report", "/shared/run"], ["verify", "/shared/run"]])
def test_others_take_no_address(words: list[str]) -> None:
    assert submission(command=words).entrypoint == f"raycp {' '.join(words)}"
    assert not submission(command=words).resumes


def test_words_stay_words_in_the_shell_of_the_job() -> None:
    words = [*CERTIFY, "--set", "data.path=my images; rm -rf $HOME", "--set", "certify.sigmas=[0.25, 0.5]"]
    assert shlex.split(submission(command=words).entrypoint) == ["raycp", *words, "--address", "auto"]


def test_a_script() -> None:
    script = submission(command=None, entrypoint=["jobs/pipeline.py", "--out", "/shared/all"])
    assert script.entrypoint == "python jobs/pipeline.py --out /shared/all"
    assert script.resumes
    assert script.metadata["kind"] == "jobs/pipeline.py"


def test_the_environment() -> None:
    given = submission(env_vars={"OMP_NUM_THREADS": 2, "RAY_SCHEDULER_EVENTS": 1}, stop_seconds=90)
    assert given.runtime_env == {
        "working_dir": ".",
        "env_vars": {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SCHEDULER_EVENTS": "1",
            "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": "90",
            "OMP_NUM_THREADS": "2",
        },
    }
    assert submission(excludes=["runs/"], working_dir="../x").runtime_env["excludes"] == ["runs/"]
    assert "working_dir" not in submission(working_dir=None).runtime_env


def test_ray_takes_the_environment() -> None:
    from ray.runtime_env import RuntimeEnv

    environment = submission(excludes=["runs/"]).runtime_env
    assert RuntimeEnv(**environment).to_dict() == environment


def test_the_metadata() -> None:
    assert submission(metadata={"who": "me"}).metadata == {
        "raycp": __version__,
        "kind": "certify",
        "run": "/shared/runs/digits",
        "config": "configs/digits/none.yaml",
        "resume": "raycp submit job.yaml",
        "who": "me",
    }


def test_the_commit_whose_files_travel(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    assert "git_commit" not in submission().metadata
    (tmp_path / "a.yaml").write_text("a")
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert submission().metadata["git_commit"] == commit
    (tmp_path / "a.yaml").write_text("b")
    assert submission().metadata["git_commit"] == f"{commit}-dirty"


def test_the_same_with_rays_own_command() -> None:
    given = submission(cpus=1, excludes=["runs/"])
    words = shlex.split(given.as_ray_command("raycp-digits-1"))
    options, command = words[: words.index("--")], words[words.index("--") + 1 :]
    assert shlex.join(command) == given.entrypoint
    assert options[:3] == ["ray", "job", "submit"]
    assert json.loads(options[options.index("--runtime-env-json") + 1]) == given.runtime_env
    assert json.loads(options[options.index("--metadata-json") + 1]) == given.metadata
    assert options[options.index("--entrypoint-num-cpus") + 1] == "1"
    assert "--entrypoint-num-gpus" not in options

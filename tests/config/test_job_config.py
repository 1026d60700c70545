"""What a job file may say, and what a user reads when it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.config import load_config, parse_config
from raycp.config.job import JobConfig, parsed
from raycp.errors import ConfigError

CERTIFY = ["certify", "configs/digits/none.yaml", "--out", "/shared/runs/digits"]


def job(**values: Any) -> JobConfig:
    return parse_config(JobConfig, {"name": "digits", "command": CERTIFY} | values, source="job.yaml")


def problem(**values: Any) -> str:
    """The one line of the error for these values on top of a complete job."""
    with pytest.raises(ConfigError) as caught:
        job(**values)
    first, line = str(caught.value).splitlines()
    assert first == "job.yaml:"
    assert caught.value.exit_status == 2
    return line.strip()


def test_a_complete_job() -> None:
    complete = job()
    assert (complete.kind, complete.config, complete.run) == ("certify", *CERTIFY[1::2])
    assert complete.working_dir == "."
    assert (complete.cpus, complete.gpus) == (0, 0)


def test_numbers_in_yaml_are_words(tmp_path: Path) -> None:
    raw = {"name": "n", "command": [*CERTIFY, "--replicas", 8, "--budget-hours", 0.5], "env_vars": {"N": 4}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(raw))
    read = load_config(JobConfig, tmp_path / "job.yaml", ["command.3=s3://bucket/run"])
    assert read.words[-4:] == ("--replicas", "8", "--budget-hours", "0.5")
    assert read.env_vars == {"N": "4"}
    assert read.run == "s3://bucket/run"


@pytest.mark.parametrize(
    ("words", "positional", "options"),
    [
        ("a.yaml --out /r", ["a.yaml"], {"--out": "/r"}),
        ("--out=/r a.yaml", ["a.yaml"], {"--out": "/r"}),
        ("-o /r --dry-run a.yaml", ["a.yaml"], {"--out": "/r"}),
        (
            "--set certify.alpha=0.1 a.yaml --out /r",
            ["a.yaml"],
            {"--set": "certify.alpha=0.1", "--out": "/r"},
        ),
        ("/r /s --no-redraw --blocks 3", ["/r", "/s"], {"--blocks": "3"}),
        ("a.yaml --out", ["a.yaml"], {"--out": ""}),
    ],
)
def test_words_and_their_options(words: str, positional: list[str], options: dict[str, str]) -> None:
    assert parsed(words.split()) == (positional, options)


@pytest.mark.parametrize(
    ("words", "run"),
    [
        (["predict", "c.yaml", "-o", "gs://bucket/run"], "gs://bucket/run"),
        (["train", "--out=/shared/train/", "c.yaml"], "/shared/train"),
        (["report", "/shared/run", "--out", "/shared/report"], "/shared/run"),
        (["report", "s3://bucket/run", "--out", "/shared/report"], "s3://bucket/run"),
        (["verify", "--blocks", "3", "s3://bucket/run", "--no-redraw"], "s3://bucket/run"),
    ],
)
def test_the_run_directory(words: list[str], run: str) -> None:
    assert job(command=words).run == run


def test_a_script() -> None:
    script = job(command=None, entrypoint=["jobs/pipeline.py", "--out", "/shared/all"])
    assert (script.kind, script.config, script.run) == ("jobs/pipeline.py", None, "/shared/all")
    assert job(command=None, entrypoint=["a.py"]).run is None


@pytest.mark.parametrize("out", ["runs/digits", "./runs", "~/runs", "../runs"])
@pytest.mark.parametrize("form", ["--out {}", "--out={}", "-o {}"])
def test_results_in_the_unpacked_folder_would_be_lost(out: str, form: str) -> None:
    message = problem(command=["certify", "c.yaml", *form.format(out).split()])
    assert message.startswith(
        "certify: --out must be outside the job's working directory, which is unpacked on the cluster and deleted "
        f"later, got {out!r}. Take a path on a disk that all nodes share (/shared/runs"
    )
    assert message.endswith("s3:// or gs://.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"command": None}, "command or entrypoint must be given, and not both."),
        ({"entrypoint": ["a.py"]}, "command or entrypoint must be given, and not both."),
        ({"command": ["raycp", "certify"]},
         "command must begin with one of certify, predict, evaluate, compare, train, report, verify, got 'raycp'. "
         "`raycp` itself is left out; anything else is a script, by entrypoint."),
        ({"command": CERTIFY[:2]}, "command must name a run directory: add --out, RUN to certify."),
        ({"command": None, "entrypoint": ["/home/a.py"]},
         "entrypoint must begin with a Python script in working_dir, for example jobs/pipeline.py, got '/home/a.py'."),
        ({"command": None, "entrypoint": ["bash"]},
         "entrypoint must begin with a Python script in working_dir, for example jobs/pipeline.py, got 'bash'."),
        ({"command": ["report", "s3://bucket/run"]},
         "report: --out must be a folder on a disk, where it writes; add --out, /shared/report."),
        ({"command": ["report", "/shared/run", "--out", "s3://bucket/report"]},
         "report: --out must be a folder on a disk, where it writes; add --out, /shared/report."),
        ({"name": "Digits"},
         "name must be lower-case letters and digits, with single dashes between them, 40 characters at most, got "
         "'Digits'."),
        ({"cpus": -1}, "cpus must be at least 0, got -1."),
        ({"stop_seconds": 0}, "stop_seconds must be at least 1, got 0."),
        ({"env_var": {}}, "env_var is not a known key; did you mean env_vars?"),
        ({"metadata": {"run": "x"}}, "metadata.run must have another name: raycp or Ray records one of its own."),
        ({"metadata": {"job_submission_id": "x"}},
         "metadata.job_submission_id must have another name: raycp or Ray records one of its own."),
    ],
)  # fmt: skip
def test_messages(values: dict[str, Any], message: str) -> None:
    assert problem(**values) == message


@pytest.mark.parametrize("words", [["report", "runs/digits"], ["verify", "/shared/run", "runs/two"]])
def test_runs_that_are_looked_at_are_not_in_the_folder_either(words: list[str]) -> None:
    assert "must be outside the job's working directory" in problem(command=words)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "RAY_AUTH_TOKEN",
        "db_password",
        "hf_token",
        "CLIENT_SECRET",
    ],
)
@pytest.mark.parametrize("where", ["env_vars", "metadata"])
def test_secrets(name: str, where: str) -> None:
    message = problem(**{where: {name: "abc123"}})
    assert message.startswith(
        f"{where}.{name} must not be in a job file: what describes a job is kept by the cluster"
    )
    assert "Give the nodes themselves the right to read and write" in message
    assert "abc123" not in message


@pytest.mark.parametrize(
    "values",
    [
        {"command": ["certify", "c.yaml", "--out", "s3://key:abc123@bucket/run"]},
        {"env_vars": {"PROXY": "http://me:abc123@proxy"}},
        {"metadata": {"see": "https://me:abc123@host/page"}},
        {"working_dir": "https://me:abc123@host/code.zip"},
    ],
)
def test_passwords_in_uris(values: dict[str, Any]) -> None:
    message = problem(**values)
    assert "://...@ must not hold a password in a job file" in message
    assert "abc123" not in message


def test_what_only_looks_like_a_secret() -> None:
    assert job(env_vars={"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}).env_vars
    assert job(command=["certify", "c.yaml", "--out", "s3://bucket/a:b/run@2"]).run == "s3://bucket/a:b/run@2"

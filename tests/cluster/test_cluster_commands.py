"""Commands of raycp in cluster/: they parse, their configurations load, and the nodes have room; none is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster_files import (
    COMMANDS,
    JOBS,
    README,
    ROOT,
    Command,
    RayCluster,
    of_name,
    parse,
    raycp_commands,
    shell_lines,
)

from raycp.config import RunConfig, load_config
from raycp.config.certify import Engine
from raycp.config.train import TrainConfig, TrainEngine

TEXT = README.read_text()
LINES = [line for line in shell_lines(TEXT) if raycp_commands(line)]


def engine_of(command: Command) -> Engine | TrainEngine:
    """What the command would run with."""
    path: Path = ROOT / command.values["config"]
    kind = {"certify": RunConfig, "train": TrainConfig}[command.name]
    return load_config(kind, path, command.overrides).engine


@pytest.mark.parametrize("job", JOBS, ids=of_name)
def test_jobs_fit_their_cluster(job: RayCluster) -> None:
    command = parse(job.manifest["spec"]["entrypoint"].split())
    assert command.values["address"] == "auto" and command.values["out"].startswith("s3://")
    (group,) = job.groups
    (worker,) = [container for container in job.containers() if not container.is_head]
    cpus, gpus = worker.amounts["cpu"], worker.amounts["nvidia.com/gpu"]
    engine = engine_of(command)
    if isinstance(engine, Engine):
        assert engine.gpus_per_replica > 0
        room = min(cpus // engine.cpus_per_replica, gpus // engine.gpus_per_replica) * group["maxReplicas"]
        # From nothing an autoscaler brings what is asked for by number, and not within the five minutes of the default.
        assert group["replicas"] == 0 and engine.replicas == room and engine.start_timeout >= 900
        assert job.manifest["spec"]["submissionMode"] == "SidecarMode"
    else:
        assert engine.gpus_per_worker > 0 and engine.min_workers is not None
        room = min(cpus // engine.cpus_per_worker, gpus // engine.gpus_per_worker) * group["minReplicas"]
        # A training refuses a cluster that has no room yet: all nodes first, then the command.
        assert room == engine.workers and job.manifest["spec"]["submissionMode"] == "HTTPMode"


@pytest.mark.parametrize("line", LINES)
def test_commands_of_the_readme(line: str) -> None:
    for words in raycp_commands(line):
        command = parse(words)
        if command.name in ("certify", "train"):
            engine_of(command)


def test_readme_names_what_exists() -> None:
    assert len(LINES) >= 8
    inline = "\n".join(re.findall(r"`[^`\n]+`", TEXT))
    assert set(re.findall(r"\braycp ([a-z]+)[ `]", inline)) <= COMMANDS.keys()
    for path in re.findall(r"(?<![\w/])(?:cluster|configs|jobs|docs|tests)/[\w./-]*\w", TEXT):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("raycp certify configs/digits/none.yaml --out RUN --adress auto", "No such option: --adress"),
        ("raycp certify configs/digits/none.yaml", "Missing parameter: out"),
        ("raycp train configs/digits/train.yaml --out RUN --replicas 8", "No such option: --replicas"),
    ],
)
def test_wrong_commands_do_not_parse(words: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse(words.split())


def test_commands_are_found_where_others_carry_them() -> None:
    assert raycp_commands("ray job submit -- raycp certify a.yaml") == [["raycp", "certify", "a.yaml"]]
    assert raycp_commands("RAY_AUTH_MODE=token raycp jobs  # all") == [["raycp", "jobs"]]
    assert raycp_commands("docker run registry.example.com/raycp:0.1.0 raycp demo") == [["raycp", "demo"]]
    assert raycp_commands("kubectl get secret raycp --output name") == []

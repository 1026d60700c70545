"""The entry point of jobs/pipeline.yaml: which commands it calls, in which order, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from raycp.cli.main import app
from raycp.config import RunConfig, load_config
from raycp.config.train import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A `raycp` that only writes down its words, and fails at the one that FAIL_AT names."""
    program = tmp_path / "bin" / "raycp"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/calls\ncase "$*" in *"$FAIL_AT"*) exit 3;; esac\n'
    )
    program.chmod(0o755)
    return tmp_path


def pipeline(folder: Path, *words: str, fail_at: str = "nothing") -> tuple[int, list[list[str]]]:
    """Exit status, and the words of each call."""
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "jobs/pipeline.py", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "FAIL_AT": fail_at},
        check=False,
    )
    return done.returncode, [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_the_steps_are_commands_of_raycp(stand_in: Path) -> None:
    status, calls = pipeline(
        stand_in, "--out", "/shared/all", "--set", "certify.alpha=0.01", "--train-set", "engine.workers=1"
    )
    assert status == 0
    assert [call[0] for call in calls] == ["train", "certify", "certify", "report"]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    train, none, finetuned, report = [
        commands[name].make_context(name, list(words)).params for name, *words in calls
    ]
    assert [step["address"] for step in (train, none, finetuned)] == ["auto"] * 3
    assert report["runs"] == [none["out"], finetuned["out"]] == ["/shared/all/none", "/shared/all/finetuned"]
    assert report["out"] == Path("/shared/all/report")
    trained = load_config(TrainConfig, ROOT / train["config"], train["set_"])
    assert trained.engine.workers == 1
    names = {f"{train['out']}/models/{stage.name}" for stage in trained.stages}
    for step, kind in ((none, "none"), (finetuned, "consistency")):
        config = load_config(RunConfig, ROOT / step["config"], step["set_"])
        assert config.certify.alpha == 0.01
        assert config.purifier.kind == kind
        assert config.classifier.path in names  # type: ignore[union-attr]
    assert config.purifier.model.path in names  # type: ignore[union-attr]


def test_it_ends_with_the_step_that_fails(stand_in: Path) -> None:
    status, calls = pipeline(stand_in, "--out", "/shared/all", fail_at="/shared/all/none")
    assert status == 3
    assert [call[0] for call in calls] == ["train", "certify"]

"""`raycp bench` as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TINY = """
data: {name: digits, select: {count: 4}}
purifier: {kind: none}
classifier: {kind: python, factory: "raycp.bench.null_model:null_classifier", num_classes: 10}
numerics: {batch_size: 16}
engine: {task_seconds: 0.05, dashboard: true, address: "192.0.2.1:6379"}
"""
COMMAND = [sys.executable, "-c", "import typer; from raycp.cli.bench import bench; typer.run(bench)"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.ray
def test_sides_take_turns_and_the_ratio_is_printed(tmp_path: Path) -> None:
    """On a local cluster of its own, though the configuration names another one."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    record_file = tmp_path / "bench.json"
    done = run(
        tmp_path / "tiny.yaml", "--only", "forward", "--only", "noise", "--seconds", 1, "--rounds", 1,
        "--replicas", 1, "--set", "numerics.batch_size=8", "--json", record_file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(record_file.read_text())
    sides = [window["side"] for window in record["windows"]]
    assert sides == ["bare forward", "kernel", "engine", "bare forward", "kernel"]
    assert record["config"]["engine"]["address"] is None
    assert record["config"]["engine"]["replicas"] == 1
    assert record["config"]["numerics"]["batch_size"] == 8
    assert (record["driven"], record["memory"], record["dispatched"]) == (None, None, [])
    engine = record["windows"][2]
    assert engine["figures"]["requeued"] == 0
    assert 0.3 < engine["figures"]["busy_share"] <= 1
    assert engine["seconds"] >= 0.5
    assert engine["samples_per_second"] > 100
    # A null model leaves noise and counting as the kernel's whole work, and bare forward nearly nothing.
    assert record["ratios"]["kernel / bare forward"]["median"] < 0.8
    assert 0 < record["noise"]["sound"] < 1e-2
    assert "engine / bare forward" in done.stdout
    assert done.stdout.startswith(
        "purifier none, classifier python (0 parameters)\n1x8x8 images, sigma 0.25, 1 replica\n"
    )
    assert "round 1 of 1" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_dispatch_and_driver_memory(tmp_path: Path) -> None:
    record_file = tmp_path / "bench.json"
    done = run(
        "--only", "dispatch", "--only", "memory", "--seconds", 0.5, "--images", 200, "--json", record_file
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(record_file.read_text())
    assert [d["depth"] for d in record["dispatched"]] == [2, 8]
    assert all(d["tasks_per_second"] > 20 for d in record["dispatched"])
    assert all(0 < d["driver_ms_per_task"] < 50 for d in record["dispatched"])
    assert [look["calls"] for look in record["looked"]] == [1_000, 2_000]
    assert all(0 < look["driver_ms"] < 200 for look in record["looked"])
    assert record["driven"]["replicas"] == 1_000
    memory = record["memory"]
    assert (memory["images"], memory["sigmas"], memory["num_estimation"], memory["replicas"]) == (
        200,
        3,
        100_000,
        4,
    )
    assert memory["tasks"] > 100
    assert memory["run_bytes"] > 0
    assert "1,000 replicas, 5 s tasks, on paper" in done.stdout
    assert record["windows"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "certify.alpha=0.1"], "--set changes a configuration"),
        (["--json", "no/such/folder/x.json"], "there is no folder"),
        (["--only", "everything"], "'everything' is not one of"),
        (["--seconds", "0"], "greater than or equal to 0.1"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "reading models" not in done.stderr

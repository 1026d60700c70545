"""`raycp status` on files that drivers leave."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from raycp.cli.main import main
from raycp.distributed.progress import Progress
from raycp.runs.status import STATUS, Status

PROGRESS = Progress(
    decided=150, total=600, samples=1_200_000, remaining_samples=3_600_000, samples_per_second=4_000.0, replicas=8,
    pending=2, lost=1, requeued=3, share_dropped=0.012, set_aside=0, seconds=300.0, in_flight=16, busy=0.973,
    dispatch_seconds=0.002, replica_seconds=2_400.0,
)  # fmt: skip
ACCURACIES = [{"sigma": 0.25, "decided": 100, "certified": [[0.0, 0.79], [0.25, 0.42]]}]
TRAINING = {"stage": "denoiser", "step": 400, "progress": 4200, "loss": 0.1234, "images_per_second": 51.2,
            "seconds_left": 4750.0}  # fmt: skip


def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str,
    age: float = 3.0, **changes: Any,
) -> tuple[int, str]:  # fmt: skip
    now = time.time()
    found = Status(
        "certify", "running", "", "head-1", 4711, now - age - 300, now - age,
        asdict(PROGRESS) | {"accuracies": ACCURACIES},
    )  # fmt: skip
    (tmp_path / STATUS).write_text(json.dumps(asdict(found) | changes))
    monkeypatch.setattr(sys, "argv", ["raycp", "status", str(tmp_path), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), capsys.readouterr().out


@pytest.fixture
def status(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *options, **changes: run(tmp_path, capsys, monkeypatch, *options, **changes)


def test_a_run_under_way(status: Any) -> None:
    code, text = status()
    lines = text.splitlines()
    assert code == 0
    assert lines[0].endswith(": certify, running")
    assert "driver head-1, process 4711" in lines[1] and lines[1].endswith("0:05:00")
    assert (
        "150/600 decided, 4,000 samples/s, 8 replicas (+2 waiting), ETA 0:15:00, 1 lost, 3 tasks repeated"
        in text
    )
    assert "25.0% decided; 1,200,000 samples drawn in this session, at most 3,600,000 to come" in text
    assert (
        "replicas 97% busy, 16 tasks in flight, 2 ms from a result to the next task; 0.67 replica hours"
        in text
    )
    assert "sigma 0.25: 79.0%@0 42.0%@0.25 of 100" in text


def test_a_training_under_way(status: Any) -> None:
    code, text = status(command="train", figures=TRAINING)
    assert code == 0
    assert "denoiser: step 400 of 4,200, loss 0.1234" in text
    assert "51 images/s, ETA 1:19:10 for this stage" in text


def test_a_driver_that_was_killed(status: Any) -> None:
    code, text = status("--watch", age=3_700.0)
    assert code == 1
    assert "no sign of life for 1:01:4" in text and "the same command resumes" in text


def test_a_session_that_ended(status: Any) -> None:
    code, text = status(state="complete", figures={})
    assert (code, text.splitlines()[0].rpartition(": ")[2]) == (0, "certify, complete, 0:00:03 ago")
    code, text = status(state="failed", reason="no space left")
    assert code == 1
    assert "certify, failed (no space left)" in text


def test_json(status: Any) -> None:
    code, text = status("--format", "json")
    record = json.loads(text)
    assert (code, record["figures"]["replicas"], record["state"]) == (0, 8, "running")
    assert 3 <= record["age"] < 30


def test_a_folder_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["raycp", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "is no run directory, or nothing has run in it yet" in capsys.readouterr().err

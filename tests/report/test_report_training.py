"""The report of a training: what its log says, half a line, stages done twice, and the page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from raycp.cli.report import report
from raycp.cli.show import show
from raycp.distributed.journal import Journal
from raycp.errors import StorageError
from raycp.report.training_page import write_training_report
from raycp.report.training_record import is_training, read_training
from raycp.storage import Storage

MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def lines() -> list[dict[str, Any]]:
    pixels = np.zeros((2, 3, 4, 1, 8, 8), dtype=np.uint8)
    metrics = {"l2@0.25": 0.5, "purified_accuracy@0.25": 0.875, "l2@1": 1.5}
    return [
        {"stage": "denoiser", "step": 10, "images_per_second": 5.0, "loss": 2.0},
        {"stage": "denoiser", "step": 20, "images_per_second": 5.0, "loss": 1.0},
        {
            "stage": "denoiser",
            "step": 20,
            "metrics": metrics,
            "examples": {"sigmas": [0.25, 1.0], "pixels": pixels},
        },
        {"stage": "denoiser", "step": 10, "images_per_second": 5.0, "loss": 2.0, "again": True},
        {"stage": "denoiser", "step": 10, "restored": True},
        {"stage": "denoiser", "step": 20, "images_per_second": 5.0, "loss": 0.75},
        {"stage": "denoiser", "step": 20, "done": True, "seconds": 61.0, "metrics": metrics},
        {"stage": "finetune", "step": 10, "images_per_second": 5.0, "loss": 3.0},
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    storage = Storage(str(tmp_path / "run"))
    stages = [
        {"name": "denoiser", "stage": "denoiser", "steps": 20},
        {"name": "finetune", "stage": "finetune", "steps": 40},
        {"name": "last", "stage": "classifier", "steps": 5},
    ]
    record = {"config": {"stages": stages}, "identity": {"data": {"training": "abc"}}}
    storage.write("train.json", json.dumps(record).encode())
    storage.write("models/denoiser/card.json", b"{}")
    journal = Journal(storage, tmp_path / "scratch")
    for line in lines():
        journal.add(line)
    journal.close()
    return tmp_path / "run"


def test_the_journal_is_read_back(run: Path) -> None:
    denoiser, finetune, last = read_training(str(run)).stages
    assert denoiser.loss == {10: 2.0, 20: 0.75}, "a step that was made again counts as the second time"
    assert denoiser.metrics[20]["l2@1"] == 1.5
    assert (denoiser.done, denoiser.seconds, denoiser.example) == (
        True,
        61.0,
        "examples/denoiser-0000020.png",
    )
    assert (finetune.done, finetune.step, finetune.seconds) == (False, 10, None)
    assert (last.step, last.loss) == (0, {})
    picture = Image.open(run / "examples" / "denoiser-0000020.png")
    assert picture.width > 4 * 96


def test_half_a_line_of_a_killed_driver_is_passed_over(run: Path) -> None:
    with (run / "log.jsonl").open("a") as log:
        log.write('{"stage": "finetune", "st\n')
        log.write('{"stage": "finetune", "step": 20, "loss": 2.5, "images_per_second": 1}\n')
    assert read_training(str(run)).stages[1].loss == {10: 3.0, 20: 2.5}


def test_tensorboard_holds_the_same(run: Path) -> None:
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").iterdir())
    for tag in (b"denoiser/loss", b"denoiser/purified_accuracy_0.25", b"finetune/loss"):
        assert tag in events
    assert events.count(b"\x89PNG") == 2


def test_an_object_store_gets_everything_at_the_end(tmp_path: Path) -> None:
    storage = Storage("mock:///bucket/run")
    for folder in ("examples", "tensorboard"):
        storage._fs.create_dir(f"bucket/run/{folder}", recursive=True)
    journal = Journal(storage, tmp_path)
    for line in lines():
        journal.add(line)
    assert storage.read("log.jsonl") is None, "not a request for each line"
    journal.close()
    assert len((storage.read("log.jsonl") or b"").splitlines()) == len(lines())
    assert storage.names("examples") == ["examples/denoiser-0000020.png"]
    assert len(storage.names("tensorboard")) == 1


def test_the_page(run: Path, tmp_path: Path) -> None:
    files = write_training_report(read_training(str(run)), tmp_path / "report", MADE)
    assert [path.name for path in files] == ["report.html", "denoiser.png", "finetune.png"]
    page = files[0].read_text()
    for text in (
        "87.5%",
        "1 min 01 s",
        "10/40 steps",
        "Not begun",
        "raycp train",
        "purified accuracy at σ = 0.25",
    ):
        assert text in page, text
    assert page.count("data:image/png") == 2 * 2 + 1
    assert "<script" not in page


def test_show_and_report_know_a_training(run: Path) -> None:
    for command, expected in (
        (show, "denoiser (denoiser): done, steps 20, loss 0.75"),
        (report, "denoiser.png"),
    ):
        app = typer.Typer()
        app.command()(command)
        result = CliRunner().invoke(app, [str(run)])
        assert result.exit_code == 0, result.output
        assert expected in result.stdout
    assert (run / "report" / "report.html").is_file()


def test_what_is_no_training(tmp_path: Path) -> None:
    assert not is_training(str(tmp_path))
    with pytest.raises(StorageError, match=r"holds no training: there is no train\.json"):
        read_training(str(tmp_path))
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(StorageError, match="is not the record of a training"):
        read_training(str(tmp_path))

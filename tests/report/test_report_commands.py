"""`raycp show` and `raycp report` on run directories."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from raycp.cli.report import report
from raycp.cli.show import show
from raycp.errors import RaycpError, StorageError


@pytest.fixture
def run_on_disk(hand_run, make_examples: Callable, tmp_path: Path) -> Path:
    """The hand-computed run as a directory."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    manifest = hand_run.config | {"data": hand_run.config["data"] | {"image_index": [10, 11, 12, 13, 14]}}
    (folder / "config.json").write_text(json.dumps(manifest))
    pq.write_table(hand_run.certificates, folder / "certificates.parquet")
    np.savez(folder / "examples.npz", **make_examples())
    return folder


def _invoke(command: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_show_prints_the_table(run_on_disk: Path) -> None:
    result = _invoke(show, run_on_disk)
    assert result.exit_code == 0
    heading, row = result.stdout.splitlines()
    assert heading.split()[:5] == ["run", "sigma", "images", "eps=0", "eps=0.25"]
    assert " ".join(row.split()) == "tiny 0.5 5 60.0 60.0 20.0 20.0 0.0 0.336 1 50,500 2.5"


def test_show_csv_and_json_are_the_same_data(run_on_disk: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(_invoke(show, run_on_disk, "--format", "csv").stdout))
    (record,) = json.loads(_invoke(show, run_on_disk, "-f", "json").stdout)
    assert record["certified_accuracy_at_0.25"] == 0.6
    assert {key: "" if value is None else str(value) for key, value in record.items()} == row


def test_show_keeps_notes_off_stdout(make_run: Callable, run_on_disk: Path) -> None:
    run = make_run([(0.25, 0, 0, 0, 0.3), (0.5, 0, 0, 0, 0.3)], num_images=5)
    pq.write_table(run.certificates, run_on_disk / "certificates.parquet")
    config = json.loads((run_on_disk / "config.json").read_text())
    config["config"]["certify"]["sigmas"] = [0.25, 0.5]
    (run_on_disk / "config.json").write_text(json.dumps(config))
    result = _invoke(show, run_on_disk)
    assert len(result.stdout.splitlines()) == 4
    assert "σ = 0.25: partial, 1 of 5 images decided" in result.stderr
    assert "envelope: best sigma per eps (envelope, not one certificate)." in result.stderr


def test_show_in_a_narrow_terminal_cuts_nothing(run_on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = run_on_disk.rename(run_on_disk.with_name("[red]tiny"))
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", terminal)
    show([str(odd)])
    printed = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert printed != terminal.getvalue()
    piped = _invoke(show, odd).stdout
    assert printed == piped
    assert "[red]tiny" in piped


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_report_writes_into_the_run(run_on_disk: Path) -> None:
    result = _invoke(report, run_on_disk)
    assert result.exit_code == 0
    files = [Path(line) for line in result.stdout.splitlines()]
    assert files[0] == run_on_disk / "report" / "report.html"
    assert all(file.is_file() for file in files)
    assert len(files) == 6


def test_several_runs_need_out(run_on_disk: Path, tmp_path: Path) -> None:
    result = _invoke(report, run_on_disk, run_on_disk)
    assert result.exit_code == 2
    assert "--out" in result.stderr and "several runs" in result.stderr
    assert not (run_on_disk / "report").exists()
    assert _invoke(report, run_on_disk, "--out", tmp_path / "there").exit_code == 0
    assert (tmp_path / "there" / "report.html").is_file()


def test_remote_runs_need_out() -> None:
    result = _invoke(report, "s3://bucket/run")
    assert result.exit_code == 2
    assert "s3://bucket/run" in result.stderr


@pytest.mark.parametrize("command", [show, report])
def test_errors_are_for_the_user(command: Callable[..., None], tmp_path: Path, run_on_disk: Path) -> None:
    assert isinstance(_invoke(command, tmp_path / "none").exception, RaycpError)
    (run_on_disk / "certificates.parquet").write_bytes(b"PAR1")
    assert isinstance(_invoke(command, run_on_disk).exception, StorageError)


def test_nothing_heavy_at_import() -> None:
    heavy = ("torch", "ray", "scipy", "pyarrow", "matplotlib", "numpy")
    code = f"import sys, raycp.cli.show, raycp.cli.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

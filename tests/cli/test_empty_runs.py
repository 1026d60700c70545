"""Runs and logs without a single result: every command that reads one says so and fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "simulate"))
from log_files import write_run

Run = Callable[..., tuple[int, str, str]]

COMMANDS = {
    "show": ("show",),
    "report": ("report",),
    "export": ("export",),
    "cascade": ("cascade",),
    "verify": ("verify",),
}
LOG_COMMANDS = {"audit": ("logs", "audit"), "import": ("logs", "import")}


def begun(folder: Path) -> Path:
    """A run of two noise levels whose images are all undecided."""
    run = write_run(folder, [(0.25, 0, 3, 3, 99, 100, "complete"), (0.5, 0, 3, 3, 99, 100, "complete")])
    table = pq.read_table(run / "certificates.parquet")
    pq.write_table(table.slice(0, 0), run / "certificates.parquet")
    config = json.loads((run / "config.json").read_text())
    config["config"]["certify"] |= {"rule": "fixed", "skip_wrong": False}
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.mark.parametrize("command", ["show", "report", "export", "cascade"])
def test_a_run_without_a_decided_image(raycp: Run, tmp_path: Path, command: str) -> None:
    run = begun(tmp_path / "run")
    code, out, err = raycp(*COMMANDS[command], run)
    assert code in (1, 2) and not out
    said = {
        "show": "no image is decided yet, so there is nothing to show",
        "report": "no image is decided yet, so there is nothing to show",
        "export": "has no decided image yet: there is nothing to export",
        "cascade": "is not finished; give its `raycp certify` command again first",
    }[command]
    assert str(run) in err and said in err
    assert not (run / "report").exists() and not (run / "export").exists()


def test_beside_a_run_with_results_it_has_a_row_and_a_note(raycp: Run, tmp_path: Path) -> None:
    full = write_run(tmp_path / "full", [(s, 0, 3, 3, 99, 100, "complete") for s in (0.25, 0.5)])
    code, out, err = raycp("show", full, begun(tmp_path / "run"))
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()][-2:] == [
        ["run", "0.25", "0/1"],
        ["run", "0.5", "0/1"],
    ]
    assert "run, σ = 0.25: partial, 0 of 1 images decided; no figures yet." in err
    code, _, err = raycp("show", "--paired", full, tmp_path / "run")
    assert code == 2 and "has 1 undecided images at sigma 0.25; let it end" in err


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((command, kind) for command in COMMANDS for kind in ("empty", "absent", "a log")),
        *(
            (command, "results missing") for command in COMMANDS if command != "verify"
        ),  # it works from the counts
    ],
)
def test_what_is_no_run(raycp: Run, tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "thing"
    said = "holds no run: there is no config.json"
    if kind == "empty":
        path.mkdir()
    elif kind == "results missing":
        (begun(path) / "certificates.parquet").unlink()
        said = "has no certificates.parquet"
    elif kind == "a log":
        path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n")
        said = "is a file, not a run directory. If it is a published log, `raycp logs import` reads it."
    code, out, err = raycp(*COMMANDS[command], path)
    assert (code, out) == (1, "")
    assert f"{path} {said}" in err


@pytest.mark.parametrize("command", LOG_COMMANDS)
def test_a_log_without_images(raycp: Run, tmp_path: Path, command: str) -> None:
    path = tmp_path / "log"
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n")
    code, out, err = raycp(*LOG_COMMANDS[command], path)
    assert code == 1
    assert ("a header and no images" if command == "audit" else "has a header but no images") in out + err
    path.write_text("")
    code, out, err = raycp(*LOG_COMMANDS[command], path)
    assert code == 1 and f"{path} is empty: a log has the columns" in err
    (tmp_path / "folder").mkdir()
    code, out, err = raycp(*LOG_COMMANDS[command], tmp_path / "folder")
    assert code == 1 and "folder is a directory: a log is one file" in err


def test_an_evaluation_without_a_result(raycp: Run, tmp_path: Path) -> None:
    run = begun(tmp_path / "evaluation")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"kind": "evaluate"}))
    code, out, err = raycp("show", run)
    assert (code, out) == (1, "")
    assert f"{run} has no evaluation.parquet yet; run `raycp evaluate` with --out {run} to go on." in err
    code, _, err = raycp("evaluate", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and f"cannot read the configuration {tmp_path}: Is a directory" in err

"""`raycp verify` on a run of `raycp certify`: what it prints, and how it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from raycp.cli.main import main
from raycp.config import RunConfig, parse_config
from raycp.models import ResidualClassifier, save_classifier

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))
from made_runs import make_run

Verify = Callable[..., tuple[int, str, str]]
CHECKS = ("config", "data", "weights", "terms", "ledger", "certificates", "redraw")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Thirty digits at one sigma."""
    folder = tmp_path_factory.mktemp("verify")
    torch.manual_seed(0)
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    save_classifier(folder / "classifier", network, image_size=(8, 8))
    return {
        "data": {"name": "digits", "select": {"count": 30}},
        "purifier": {"kind": "none"},
        "classifier": {"kind": "directory", "path": str(folder / "classifier")},
        "certify": {"sigmas": [0.25], "num_estimation": 200, "num_selection": 20},
        "numerics": {"batch_size": 64},
        "engine": {"replicas": 1, "flush_seconds": 0.5},
    }


@pytest.fixture(scope="module")
def run(config: dict[str, Any]) -> Path:
    """The run, made without Ray."""
    folder = Path(config["classifier"]["path"]).parent
    return make_run(folder / "run", parse_config(RunConfig, config))


def raycp(folder: Path, *arguments: str) -> str:
    """Run the command in a process of its own; its stdout."""
    command = [sys.executable, "-m", "raycp.cli.main", *arguments]
    environment = {**os.environ, "RAY_memory_monitor_refresh_ms": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run `raycp verify` in this process; exit status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raycp", "verify", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return (ended.value.code if isinstance(ended.value.code, int) else 0), out, err

    return call


def test_an_honest_run(run: Path, verify: Verify) -> None:
    status, out, _ = verify(str(run), "--blocks", "7", "--seed", "4")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in CHECKS]
    assert "30 of 30 rows derived from the counts, 0 of them undecided" in lines[5]
    assert lines[6].split(maxsplit=2)[2].startswith("7 of 7 rows (")
    assert lines[6].endswith(" equal bit for bit, seed 4")
    assert lines[-1] == "all checks passed"


@pytest.mark.ray
def test_certify_and_then_verify_as_a_user_would(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    raycp(tmp_path, "certify", "config.yaml", "--out", "run")
    lines = raycp(tmp_path, "verify", "run").splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in CHECKS]
    assert lines[-1] == "all checks passed"


def test_without_drawing_nothing_is_said_on_stderr(run: Path, verify: Verify) -> None:
    status, out, err = verify(str(run), "--no-redraw")
    assert (status, err) == (0, "")
    assert "redraw" not in out
    _, _, err = verify(str(run), "--blocks", "3")
    assert err.startswith("drawing 3 of 60 rows again: ")


def test_failures_are_listed_up_to_twenty(run: Path, verify: Verify, tmp_path: Path) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "run"))
    for path in (spoiled / "counts").iterdir():
        path.unlink()
    status, out, _ = verify(str(spoiled), "--no-redraw")
    lines = out.splitlines()
    assert status == 1
    assert "FAILED  certificates  30 of 30 rows" in out
    listed = [line for line in lines if line.startswith("certificates: sigma 0.25, image ")]
    assert len(listed) == 20
    assert lines[-2:] == ["... and 10 more", "30 failures"]


def test_one_failure_names_its_row(run: Path, verify: Verify, tmp_path: Path) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "run"))
    path = spoiled / "certificates.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    honest = rows[11]["radius"]
    rows[11]["radius"] += 0.125
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    status, out, _ = verify(str(spoiled), "--no-redraw")
    assert status == 1
    unit, stored = f"sigma 0.25, image {rows[11]['image_index']}", rows[11]["radius"]
    assert out.splitlines()[-2:] == [
        f"certificates: {unit}: radius stored {stored!r}, derived {honest!r}",
        "1 failure",
    ]


def test_files_that_moved(run: Path, verify: Verify, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    classifier = shutil.copytree(run.parent / "classifier", tmp_path / "there")
    assert verify(str(moved), "--blocks", "2", "--set", f"classifier.path={classifier}")[0] == 0
    status, out, _ = verify(str(moved), "--set", f"classifier.path={tmp_path / 'nowhere'}")
    assert status == 1
    assert "FAILED  weights" in out and "FAILED  redraw" in out


def test_wrong_usage(run: Path, verify: Verify, tmp_path: Path) -> None:
    status, _, err = verify(str(run), "--set", "certify.alpha=0.1")
    assert status == 2
    assert err.startswith(
        "error: --set may only say where files are now, but it changes certify.alpha: 0.001 -> 0.1"
    )
    assert verify(str(run), "--blocks", "0")[0] == 2
    status, _, err = verify(str(tmp_path))
    assert status == 1
    assert "holds no run: there is no config.json" in err

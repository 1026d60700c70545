"""Runs that stop early, on real replicas: budgets, resumes, extensions, and boundaries that are kept with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_runs import Recorder, certificates, small_config

from raycp.config import RunConfig
from raycp.distributed.job import prepare_job
from raycp.distributed.progress import UNLIMITED, Budget
from raycp.distributed.session import run_job
from raycp.errors import RunMismatchError, StorageError
from raycp.runs import read_run

pytestmark = pytest.mark.ray


def config(rule: str, num_estimation: int = 3_000, **engine: Any) -> RunConfig:
    return small_config(
        certify={"rule": rule, "num_estimation": num_estimation, "radii": [0.0, 0.1, 0.25]},
        engine={"task_seconds": 0.1, **engine},
    )


def run(config: RunConfig, out: Path, budget: Budget = UNLIMITED) -> tuple[bool, Recorder]:
    recorder = Recorder()
    return run_job(prepare_job("certify", config), str(out), recorder, budget), recorder


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("decided")
    assert run(config("decide", replicas=1), out)[0]
    return out


def test_each_image_gets_the_samples_it_needs(decided: Path) -> None:
    rows = pq.read_table(decided / "certificates.parquet").to_pylist()
    assert len(rows) == 12
    assert {row["stop_reason"] for row in rows} <= {"decided", "complete"}
    assert len({row["n"] for row in rows}) > 1
    assert all(row["samples"] == row["n"] + row["n0"] for row in rows)
    for row in rows:
        eps = [radius for radius in (0.0, 0.1, 0.25) if radius <= row["radius"]]
        assert row["grid_radius"] == (max(eps) if row["predicted"] >= 0 else None)


def test_a_spent_budget_leaves_a_valid_table_that_a_resume_completes(decided: Path, tmp_path: Path) -> None:
    complete, _ = run(config("decide"), tmp_path, Budget(samples=2_500))
    assert not complete
    partial = read_run(str(tmp_path))
    assert not partial.complete
    rows = {(row["sigma"], row["image_index"]): row for row in partial.certificates.to_pylist()}
    full = {
        (row["sigma"], row["image_index"]): row
        for row in pq.read_table(decided / "certificates.parquet").to_pylist()
    }
    assert rows.keys() == full.keys()
    reasons = {row["stop_reason"] for row in rows.values()}
    assert "undecided" in reasons and reasons & {"decided", "complete"}
    for key, row in rows.items():
        if row["stop_reason"] == "undecided":
            assert row["radius"] <= full[key]["radius"]
        else:
            assert {**row, "seconds": 0} == {**full[key], "seconds": 0}
    complete, recorder = run(config("decide", task_seconds=0.02), tmp_path)
    assert complete
    assert any(note.startswith("resuming") for note in recorder.notes)
    assert certificates(tmp_path).equals(certificates(decided))
    assert run(config("decide"), tmp_path)[0]  # nothing left to draw
    assert certificates(tmp_path).equals(certificates(decided))


@pytest.mark.parametrize("rule", ["decide"])
def test_a_run_that_spent_its_alpha_is_not_extended(rule: str, tmp_path: Path) -> None:
    assert run(config(rule, 500), tmp_path)[0]
    before = certificates(tmp_path)
    with pytest.raises(RunMismatchError) as caught:
        run(config(rule, 5_000), tmp_path)
    message = str(caught.value)
    assert "certify.num_estimation: 500 -> 5000" in message
    assert (
        f"A run under certify.rule = {rule} cannot be extended: it spends all of alpha by its 500 samples"
        in message
    )
    assert "certify.rule = e_process may be extended" in message
    assert certificates(tmp_path).equals(before)


def test_an_e_process_run_is_extended(tmp_path: Path) -> None:
    assert run(config("e_process", 500), tmp_path)[0]
    before = {(r["sigma"], r["image_index"]): r for r in certificates(tmp_path).to_pylist()}
    assert run(config("e_process", 3_000), tmp_path)[0]
    after = {(r["sigma"], r["image_index"]): r for r in certificates(tmp_path).to_pylist()}
    assert read_run(str(tmp_path)).config["caps"] == [500]
    assert all(after[key]["radius"] >= row["radius"] for key, row in before.items())
    assert all(after[key]["n"] >= row["n"] for key, row in before.items())
    assert sum(row["n"] for row in after.values()) > sum(row["n"] for row in before.values())
    with pytest.raises(RunMismatchError, match=r"num_estimation = 1,000 is below the 3,000"):
        run(config("e_process", 1_000), tmp_path)


def test_boundaries_are_kept_with_the_run(decided: Path, tmp_path: Path) -> None:
    run(config("decide"), tmp_path, Budget(samples=500))
    file = tmp_path / "boundaries.parquet"
    table = pq.read_table(file)
    assert set(table.column_names) == {"sigma", "radius", "looks", "efficacy", "futility"}
    efficacy = table.column("efficacy").to_pylist()
    efficacy[0][0] -= 1  # one vote fewer certifies
    position = table.column_names.index("efficacy")
    pq.write_table(table.set_column(position, table.schema.field(position), [efficacy]), file)
    with pytest.raises(StorageError, match="is not the one this run began with"):
        run(config("decide"), tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StorageError, match=r"boundaries\.parquet is damaged"):
        run(config("decide"), tmp_path)
    file.unlink()
    with pytest.raises(StorageError, match=r"boundaries\.parquet is missing"):
        run(config("decide"), tmp_path)

"""Runs of compositions: verified, resumed, spoiled, at the ends of the threshold, and in the hands of the readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import (
    change,
    config_of,
    copy_of,
    failures,
    make_run,
    only_file,
    rewrite,
    rows_of,
    save_weights,
)
from safetensors.numpy import load_file, save_file

from raycp.config import RunConfig, parse_config, resolved
from raycp.distributed.job import prepare_job
from raycp.distributed.progress import Budget
from raycp.errors import ConfigError
from raycp.logs.export import exported_logs
from raycp.report.image_rows import image_rows
from raycp.report.write import write_report
from raycp.runs import read_run
from raycp.runs.cascade import derive_cascade
from raycp.simulate.source import Source
from raycp.verify import verify_run

FIXED = {"num_estimation": 300, "alpha": 0.01}
RIGHT = 0.3
"""A threshold at which every case occurs."""


def composed(weights: Path, threshold: float, **certify: Any) -> RunConfig:
    """A classifier that is not always sure; its core is another one, that takes every class for the next."""
    core = weights.with_name("core.safetensors")
    if not core.exists():
        save_weights(core)
        save_file({name: np.roll(array, 1, axis=0) for name, array in load_file(core).items()}, core)
    raw = resolved(config_of(soft(weights), {**FIXED, **certify}))
    network = {**raw["classifier"], "weights": str(core)}
    return parse_config(RunConfig, raw | {"composition": {"threshold": threshold, "core": network}})


def soft(weights: Path) -> Path:
    """Weights of the same classes, with entropies all over [0, 1]."""
    path = weights.with_name("soft.safetensors")
    if not path.exists():
        save_weights(path, scale=3.0)
    return path


def right_core(config: RunConfig) -> RunConfig:
    """With the classifier itself as core."""
    raw = resolved(config)
    return parse_config(RunConfig, raw | {"composition": {**raw["composition"], "core": raw["classifier"]}})


def table(run: Path) -> list[dict[str, Any]]:
    rows = rows_of(run / "certificates.parquet")
    return [{key: value for key, value in row.items() if key not in ("seconds", "numerics")} for row in rows]


@pytest.fixture(scope="session")
def run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("composed") / "run"
    return make_run(out, right_core(composed(weights, RIGHT)))


def test_an_honest_run_passes(run: Path) -> None:
    checks = {check.name: check for check in verify_run(str(run), num_blocks=12, seed=1)}
    assert {name: check.failures + check.warnings for name, check in checks.items() if not check.passed} == {}
    assert checks["redraw"].verdict.startswith("12 of 12 rows (")
    named = {part.split()[0] for part in checks["weights"].verdict.split(", ")}
    assert named == {"classifier", "classifier_source", "core", "core_source"}
    assert checks["certificates"].verdict == "16 of 16 rows derived from the counts, 0 of them undecided"


def test_the_run_is_worth_checking(run: Path) -> None:
    rows = table(run)
    assert {row["case"] for row in rows} >= {"certified", "core", "agreement"}
    assert len({row["radius"] for row in rows}) >= 4
    assert all(row["radius"] == 0 for row in rows if row["case"] != "certified")
    assert {row["samples"] for row in rows} == {40 + 300 + 1}
    assert {row["stop_reason"] for row in rows} == {"complete"}
    counted = rows_of(only_file(run))
    assert sorted({(row["phase"], row["num_samples"]) for row in counted}) == [
        ("core", 1), ("estimation", 300), ("selection", 40),
    ]  # fmt: skip
    assert {len(row["counts"]) for row in counted} == {20}


@pytest.mark.parametrize("skip_wrong", [False, True])
def test_a_run_ends_the_same_however_often_it_was_stopped(
    weights: Path, tmp_path: Path, skip_wrong: bool
) -> None:
    config = composed(weights, RIGHT, skip_wrong=skip_wrong)
    whole = make_run(tmp_path / "whole", config)
    part = make_run(tmp_path / "part", config, Budget(samples=700))
    undecided = sum(row["stop_reason"] == "undecided" for row in table(part))
    assert 0 < undecided < 16
    assert failures(part) == {}
    make_run(part, config, polls=6)
    assert failures(part) == {}
    make_run(part, config)
    assert table(part) == table(whole)
    assert failures(part, num_blocks=4) == failures(whole, num_blocks=4) == {}
    reasons = {row["stop_reason"] for row in table(whole)}
    assert reasons == ({"complete", "skipped_wrong"} if skip_wrong else {"complete"})
    assert all(
        row["selected"] != row["label"] for row in table(whole) if row["stop_reason"] == "skipped_wrong"
    )


def test_threshold_one_is_the_smoothed_classifier_at_half_of_alpha(weights: Path, tmp_path: Path) -> None:
    """On the same noise, so row by row, whatever the core says."""
    found = table(make_run(tmp_path / "one", composed(weights, 1.0)))
    plain = table(
        make_run(tmp_path / "plain", config_of(soft(weights), {**FIXED, "alpha": FIXED["alpha"] / 2}))
    )
    shared = plain[0].keys() - {"samples"}
    assert [{key: row[key] for key in shared} for row in found] == [
        {key: row[key] for key in shared} for row in plain
    ]
    assert {row["case"] for row in found} == {"certified", "none"}
    assert all(
        row["n_S"] == 300 and row["core_class"] != row["certified_class"] for row in found if row["correct"]
    )


def test_threshold_zero_is_the_core(weights: Path, tmp_path: Path) -> None:
    config = composed(weights, 0.0)
    found = table(make_run(tmp_path / "zero", config))
    job = prepare_job("certify", config)
    x_BCHW = torch.from_numpy(job.images.images).float() / 255
    core = job.on_cpu().core_logits(x_BCHW).argmax(1).tolist()
    assert len(core) == 8 and (np.array(core) != job.images.labels).all()
    assert [row["predicted"] for row in found] == core * 2
    assert {(row["case"], row["radius"], row["n_S"]) for row in found} == {("core", 0.0, 300)}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda row: row.update(case="agreement"), "case stored 'agreement'"),
        (lambda row: row.update(radius=row["radius"] * 1.01), "radius stored"),
        (lambda row: row.update(p_S_lower=0.999), "p_S_lower stored 0.999"),
        (lambda row: row.update(core_class=(row["core_class"] + 1) % 10), "core_class stored"),
        (lambda row: row.update(n_S=row["n_S"] - 1), "n_S stored"),
        (lambda row: row.update(choice="core"), "choice stored 'core'"),
    ],
)
def test_a_changed_row_is_named(
    run: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], named: str
) -> None:
    spoiled = copy_of(run, tmp_path / "run")
    change(
        spoiled / "certificates.parquet",
        lambda rows: spoil(next(row for row in rows if row["case"] == "certified" and row["radius"] > 0)),
    )
    (line,) = failures(spoiled)["certificates"]
    assert named in line


@pytest.mark.parametrize("phase", ["selection", "estimation", "core"])
def test_changed_counts_are_found_by_drawing_again(run: Path, tmp_path: Path, phase: str) -> None:
    """A vote that goes from one choice to the other leaves the classes as they are."""
    spoiled = copy_of(run, tmp_path / "run")

    def move(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["phase"] == phase:
                counts = np.array(row["counts"])
                most = int(counts.argmax())
                counts[most] -= 1
                counts[(most + 10) % 20] += 1
                row["counts"] = counts.tolist()

    change(only_file(spoiled), move)
    lines = failures(spoiled, num_blocks=100)["redraw"]
    assert len(lines) == 16 and all("choice core stored" in line for line in lines)


def test_a_core_row_too_many_and_one_in_a_run_without_a_core(run: Path, honest: Any, tmp_path: Path) -> None:
    spoiled = copy_of(run, tmp_path / "run")
    path = only_file(spoiled)
    rows = rows_of(path)
    core = next(row for row in rows if row["phase"] == "core")
    rewrite(path, [*rows, {**core, "first": 1}])
    assert any("are not within 0 to 0" in line for line in failures(spoiled)["ledger"])
    plain = copy_of(honest("fixed"), tmp_path / "plain")
    path = only_file(plain)
    rows = rows_of(path)
    rewrite(path, [*rows, {**rows[0], "phase": "core", "first": 0}])
    assert any("not a sigma and phase of this run" in line for line in failures(plain)["ledger"])


def test_the_configuration_is_part_of_the_fingerprint(run: Path, tmp_path: Path) -> None:
    for spoil in ("threshold", "weights"):
        spoiled = copy_of(run, tmp_path / spoil)
        path = spoiled / "config.json"
        manifest = json.loads(path.read_text())
        if spoil == "threshold":
            manifest["config"]["composition"]["threshold"] = 0.61
        else:
            manifest["weights"]["core"] = "0" * 64
        path.write_text(json.dumps(manifest))
        assert "fingerprint" in failures(spoiled)["config"][0]


def test_predictions_of_a_composition(weights: Path) -> None:
    job = prepare_job("predict", right_core(composed(weights, RIGHT)))
    planner, replica = job.planner(), job.on_cpu()
    replica.prepare(64)
    rows = []
    while (task := planner.next_task(500, "here", {"here"})) is not None:
        rows += [item.row for item in planner.record(task, replica.run(task.sigma, task.blocks)[0], 1.0)[1]]
    assert len(rows) == 16 and {row.n for row in rows} == {1_000}
    assert sum(row.correct for row in rows) >= 8


def test_readers_say_what_it_is(run: Path, tmp_path: Path) -> None:
    results = read_run(str(run))
    (log, _) = exported_logs(results)
    assert "a composition with the core" in log.notes[0] and "alpha/2 = 0.005 each" in log.notes[0]
    rows = image_rows("run", results, None)
    assert {row["case"] for row in rows} >= {"certified", "core", "agreement"}
    for row, stored in zip(rows, table(run), strict=True):
        follows = stored["selected"] == stored["certified_class"]
        assert (row["votes"], row["of"]) == ((stored["n_A"], 300) if follows else (None, None))
    write_report([results], tmp_path / "report", datetime(2026, 1, 1, tzinfo=UTC))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "at most 0.3 log K" in page and "The selector chose the core classifier." in page
    assert "likewise of the choice" in page


def test_commands_that_know_one_classifier_alone_refuse(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"composition with a core classifier .* cascade"):
        derive_cascade(str(run))
    with pytest.raises(
        ConfigError, match="composition with a core classifier: its certificates do not follow"
    ):
        Source(str(run))

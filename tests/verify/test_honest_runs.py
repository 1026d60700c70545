"""Runs as raycp makes them pass, whatever the rule, and however often they were interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_runs import (
    RULES,
    change_config,
    config_of,
    copy_of,
    make_run,
    move_votes,
    only_file,
    rewrite,
    rows_of,
    save_weights,
)

from raycp.distributed.progress import Budget
from raycp.errors import ConfigError, StorageError
from raycp.verify import Check, verify_run

Make = Callable[[str], Path]


def problems(checks: list[Check]) -> list[str]:
    return [line for check in checks for line in [*check.failures, *check.warnings]]


def verdict(checks: list[Check], name: str) -> str:
    return next(check.verdict for check in checks if check.name == name)


@pytest.mark.parametrize("rule", RULES)
def test_a_finished_run_passes(honest: Make, rule: str) -> None:
    checks = verify_run(str(honest(rule)), num_blocks=12, seed=1)
    assert problems(checks) == []
    names = ["config", "data", "weights", "terms", "ledger", "certificates", "redraw"]
    if rule in ("decide", "anytime"):
        names.insert(4, "boundaries")
    assert [check.name for check in checks] == names
    assert verdict(checks, "certificates") == "16 of 16 rows derived from the counts, 0 of them undecided"
    assert verdict(checks, "redraw").startswith("12 of 12 rows (")


def test_the_runs_are_worth_checking(honest: Make) -> None:
    """Every way to stop and to certify occurs, or the test above would show little."""
    rows = {name: rows_of(honest(name) / "certificates.parquet") for name in RULES}
    reasons = {name: {row["stop_reason"] for row in of_rule} for name, of_rule in rows.items()}
    assert reasons["fixed"] == reasons["two_class"] == {"complete"}
    assert reasons["skip_wrong"] == {"complete", "skipped_wrong"}
    assert reasons["decide"] == {"decided"}
    assert reasons["anytime"] == reasons["e_process"] == {"complete", "tolerance"}
    for name, of_rule in rows.items():
        if name in ("fixed", "skip_wrong", "decide"):
            assert {row["predicted"] == -1 for row in of_rule} == {False, True}
        assert {row["correct"] for row in of_rule} == {False, True}
        assert len({row["grid_radius"] for row in of_rule}) >= 3
        assert len({row["radius"] for row in of_rule}) >= 5


@pytest.mark.parametrize("rule", ["decide", "anytime", "e_process"])
def test_a_run_that_its_budget_stopped_passes(honest: Make, rule: str) -> None:
    run = honest(f"{rule}-partial")
    assert problems(verify_run(str(run), num_blocks=5)) == []
    undecided = [row for row in rows_of(run / "certificates.parquet") if row["stop_reason"] == "undecided"]
    assert max(row["radius"] for row in undecided) > 0


def test_a_fixed_run_that_its_budget_stopped_passes(honest: Make) -> None:
    assert problems(verify_run(str(honest("fixed-partial")), num_blocks=5)) == []


def test_an_interrupted_run_passes(weights: Path, tmp_path: Path) -> None:
    """Images whose samples were under way, or were to be drawn anew on another machine, have rows from nothing."""
    config = config_of(weights, RULES["decide"])
    run = make_run(tmp_path / "run", config, polls=6)
    rows = [row for row in rows_of(run / "certificates.parquet") if row["n0"] == 0]
    assert {row["numerics"] == "" for row in rows} == {False, True}
    assert problems(verify_run(str(run), num_blocks=5)) == []
    make_run(run, config, numerics="elsewhere", polls=3)
    (line,) = problems(verify_run(str(run), num_blocks=None))
    assert line.endswith(" undecided rows leave out samples that are in the ledger")


def test_an_extended_run_passes_and_needs_its_former_looks(honest: Make) -> None:
    run = honest("e_process-extended")
    rows = rows_of(run / "certificates.parquet")
    assert any(row["n"] > 400 for row in rows) and any(row["n"] == 400 for row in rows)
    checks = verify_run(str(run), num_blocks=5)
    assert problems(checks) == []
    assert "15 looks" in verdict(checks, "terms")


def test_files_that_overlap_count_once(spoiled: Make, honest: Make) -> None:
    """What an earlier session left, beside the file that took its place: whole repeats, and ranges inside others."""
    run = spoiled("fixed")
    merged, earlier = only_file(run), only_file(honest("fixed-partial"))
    inner = [row for row in rows_of(earlier) if 0 < row["num_samples"] < 600 and row["phase"] == "estimation"]
    assert inner
    shutil.copy(earlier, run / "counts" / "merged-000000-aaaaaaaa.parquet")
    shutil.copy(merged, run / "counts" / "merged-000001-bbbbbbbb.parquet")
    checks = verify_run(str(run), num_blocks=None)
    assert problems(checks) == []
    assert verdict(checks, "ledger").startswith("3 files, ")


def test_sparse_counts_are_the_same_counts(spoiled: Make) -> None:
    """As they are kept above 32 classes; a class that is listed twice is no count."""
    run = spoiled("fixed")
    rows = rows_of(only_file(run))
    for row in rows:
        row["classes"] = [k for k, count in enumerate(row["counts"]) if count]
        row["counts"] = [count for count in row["counts"] if count]
    rewrite(only_file(run), rows)
    assert problems(verify_run(str(run), num_blocks=3)) == []
    twice = next(row for row in rows if len(row["classes"]) > 1)
    twice["classes"][1] = twice["classes"][0]
    rewrite(only_file(run), rows)
    ledger = verify_run(str(run), num_blocks=None)[4]
    assert len(ledger.failures) == 1 and "counts that are not of 10 classes" in ledger.failures[0]


def test_a_run_is_found_by_its_uri(honest: Make) -> None:
    assert problems(verify_run(honest("skip_wrong").as_uri(), num_blocks=3)) == []


def test_samples_of_two_machines_do_not_mix(weights: Path, tmp_path: Path) -> None:
    """A run begun elsewhere: where its rows differ that is a warning with its size, where ours do it is a failure."""
    config = config_of(weights, RULES["decide"])
    run = make_run(tmp_path / "run", config, Budget(samples=1_200), numerics="elsewhere")
    make_run(run, config)
    rows = rows_of(run / "certificates.parquet")
    assert {row["numerics"] == "elsewhere" for row in rows} == {False, True}
    checks = verify_run(str(run), num_blocks=10_000)
    assert [line for check in checks for line in check.failures] == []
    (warning,) = [line for check in checks for line in check.warnings]
    assert "of another numerics class than this machine's" in warning and "0 of them do" in warning

    path = only_file(run)
    counts = rows_of(path)
    theirs = [row for row in counts if row["numerics"] == "elsewhere" and row["phase"] == "selection"]
    move_votes(theirs[0], 2)
    rewrite(path, counts)
    checks = verify_run(str(run), num_blocks=10_000)
    assert [line for check in checks for line in check.failures] == []
    assert "1 of them do, by at most 2 samples" in checks[-1].warnings[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_run_of_a_gpu_is_drawn_again_on_the_cpu(spoiled: Make) -> None:
    run = spoiled("fixed")
    for path in (only_file(run), run / "certificates.parquet"):
        rewrite(path, [{**row, "numerics": "cuda H100"} for row in rows_of(path)])
    change_config(run, "numerics", "device", "cuda", forge=True)
    checks = verify_run(str(run), num_blocks=6)
    assert [line for check in checks for line in check.failures] == []
    assert "6 rows are of another numerics class than this machine's (cpu " in checks[-1].warnings[0]
    assert verdict(checks, "redraw").startswith("6 of 6 rows (")


def test_weights_may_have_moved(honest: Make, weights: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(weights, tmp_path / "moved.safetensors"))
    overrides = [f"classifier.weights={moved}"]
    assert problems(verify_run(str(honest("fixed")), overrides, num_blocks=None)) == []
    with pytest.raises(
        ConfigError, match=r"may only say where files are now, but it changes certify\.alpha: 0\.001"
    ):
        verify_run(str(honest("fixed")), ["certify.alpha=0.01"])
    save_weights(moved, scale=31.0)
    checks = verify_run(str(honest("fixed")), overrides)
    assert [check.name for check in checks if not check.passed] == ["weights", "redraw"]
    assert checks[2].failures[0].startswith("weights: SHA-256 of the classifier is ")


def test_what_is_no_certify_run_is_refused(honest: Make, spoiled: Make, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no run: there is no config\.json"):
        verify_run(str(tmp_path / "nothing"))
    run = copy_of(honest("fixed"), tmp_path / "other")
    path = run / "config.json"
    text = path.read_text()
    for content, message in (
        ("{", "is damaged"),
        ("[]", r"is not the config\.json of a certify run"),
        (text.replace('"kind": "certify"', '"kind": "predict"'), "holds predictions"),
        (text.replace('"alpha": 0.001', '"alpha": 7'), "certify.alpha must be less than 1"),
        (text.replace('"fingerprint"', '"finger"'), "fingerprint"),
    ):
        path.write_text(content)
        with pytest.raises(StorageError, match=message):
            verify_run(str(run))

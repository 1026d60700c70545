"""`raycp simulate` as a user starts it: its table, its files, its notes, and what it refuses."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]

SMALL = ("--num-estimation", "2000", "--replays", "3", "--log-num-estimation", "10000")


@pytest.fixture
def run(raycp: Run) -> Run:
    """`raycp simulate`: arguments to exit status, stdout and stderr."""
    return partial(raycp, "simulate")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """60 images at sigma 0.5: radii from 0.02 to 1.2, every tenth abstained, every seventh wrong."""
    lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
    for i in range(60):
        predict, radius = (-1, 0.0) if i % 10 == 9 else (int(i % 7 == 0), 0.02 * (i + 1))
        lines.append(f"{20 * i}\t0\t{predict}\t{radius:.3g}\t1\t0:00:16.3")
    path = tmp_path / "log.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_table_the_notes_and_the_files(run: Run, log: Path, tmp_path: Path) -> None:
    code, out, err = run(
        log,
        "--sigma",
        0.5,
        *SMALL,
        "--rule",
        "decide",
        "--rule",
        "anytime",
        "--out",
        tmp_path / "new" / "sim",
    )
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "log.tsv, sigma 0.5, 60 images, 3 replays, seed 0"
    assert lines[1] == "N0 = 100, N = 2,000, alpha = 0.001"
    assert " ".join(lines[3].split()) == "samples per image mean ± median 90% fewer x knows p_A"
    assert lines[4].split()[:2] == ["fixed", "2,100"]
    assert [line.split()[0] for line in lines[5:8]] == ["decide", "anytime", "knows"]
    assert lines[9].split()[-5:] == ["eps=0", "eps=0.25", "eps=0.5", "eps=0.75", "eps=1"]
    assert "p_A is reconstructed" in err and "the 6 abstained images are assumed to have p_A = 0.45" in err
    assert "not a strict limit" in err and "note:" not in out

    folder = tmp_path / "new" / "sim"
    summary = list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text())))
    assert [row["rule"] for row in summary] == ["fixed", "decide", "anytime", "knows p_A"]
    assert float(summary[0]["mean_samples"]) == 2_100
    decide = summary[1]
    assert float(decide["fewer_than_fixed"]) == pytest.approx(2_100 / float(decide["mean_samples"]))
    assert f"{float(decide['mean_samples']):,.0f}" == lines[5].split()[1]
    assert summary[3]["certified_accuracy_at_0.5"] == ""
    images = list(csv.DictReader(io.StringIO((folder / "images.csv").read_text())))
    assert [int(row["image_index"]) for row in images] == [20 * i for i in range(60)]
    assert np.mean([float(row["decide_mean_samples"]) for row in images]) == pytest.approx(
        float(decide["mean_samples"])
    )
    with Image.open(folder / "simulation.png") as picture:
        assert picture.width > 1_500 and len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def test_the_options_reach_the_replays(run: Run, log: Path) -> None:
    code, out, err = run(
        log, "--sigma", 0.5, *SMALL, "--skip-wrong", "--abstained-p", 0.5, "--radii", "0,0.5", "--alpha", 0.01,
        "--seed", 4, "--max-images", 30, "--set", "certify.num_selection=7",
    )  # fmt: skip
    assert code == 0, err
    assert "30 images, 3 replays, seed 4" in out
    assert "N0 = 7, N = 2,000, alpha = 0.01, skip_wrong" in out
    assert "fixed, skip_wrong" in out and "eps=0.5" in out and "eps=0.25" not in out
    assert "to have p_A = 0.5" in err and "replayed on 30 of 60 images" in err
    assert "cost N0 = 7 alone" in err


def test_the_same_command_prints_the_same(run: Run, log: Path) -> None:
    command = (log, "--sigma", 0.5, *SMALL)
    assert run(*command) == run(*command)
    assert run(*command)[1] != run(*command, "--seed", 1)[1]


def test_default_radii_that_n_cannot_reach_are_named(run: Run, log: Path) -> None:
    code, out, err = run(
        log, "--sigma", 0.5, "--num-estimation", 100, "--replays", 1, "--log-num-estimation", 10000
    )
    assert code == 0
    assert "eps=0.75" in out and "eps=1" not in out
    assert "radii 1 are left out: N = 100 cannot certify them" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--sigma", "0"], 2, "must be greater than 0, got 0"),
        (["--sigma", "-0.5"], 2, "must be greater than 0, got -0.5"),
        (["--sigma", "nan"], 2, "must be greater than 0, got nan"),
        ([], 2, "Missing option '--sigma'"),
        (
            ["--sigma", "0.1"],
            1,
            "at sigma 0.1 with N = 100,000 and alpha = 0.001 at most 0.381 can be certified",
        ),
        (["--sigma", "0.5", "--rule", "guess"], 2, "'guess' is not one of"),
        (["--sigma", "0.5", "--replays", "0"], 2, "should be greater than or equal to 1"),
        (["--sigma", "0.5", "--abstained-p", "1.5"], 2, "should be less than or equal to 1"),
        (["--sigma", "0.5", "--log-alpha", "1"], 2, "must lie between 0 and 1, got 1"),
        (["--sigma", "0.5", "--alpha", "0"], 2, "certify.alpha must be greater than 0, got 0"),
        (["--sigma", "0.5", "--num-estimation", "5"], 2, "must be at least 10"),
        (["--sigma", "0.5", "--radii", "0,far"], 2, "takes numbers with commas between"),
        (["--sigma", "0.5", "--radii", "9"], 2, "certify.radii contains 9"),
        (["--sigma", "0.5", "--set", "certify.alhpa=1"], 2, "did you mean certify.alpha?"),
        (["--sigma", "0.5", "--set", "certify=3"], 2, "certify must be a mapping"),
        (["--sigma", "0.5", "--set", "data.name=digits"], 2, "data is not a known key"),
        (["--sigma", "0.5", "--set", "certify.rule=decide"], 2, "certify.rule is set by --rule here"),
        (["--sigma", "0.5", "--set", "certify.sigmas.0=1"], 2, "certify.sigmas.0 is set by --sigma here"),
        (["--sigma", "0.5", "--set", "certify.bound=two_class"], 2, "two_class cannot be replayed"),
        (["--sigma", "0.5", "--set", "certify.sequential.looks=[5,9]"], 2, "must increase and end at"),
    ],
)
def test_what_is_refused(run: Run, log: Path, arguments: list[str], status: int, message: str) -> None:
    code, out, err = run(log, *arguments)
    assert (code, out) == (status, "")
    assert message in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n", "has a header but no images"),
        ("", "is empty: a log has the columns"),
        ("idx\tpredict\tradius\n0\t1\t.5\n", "has no label column"),
        ("idx\tlabel\tpredict\tradius\n0\t\t1\t.5\n", "line 2: label must be a class, at least 0, got ''"),
    ],
)
def test_logs_that_are_refused(run: Run, log: Path, text: str, message: str) -> None:
    log.write_text(text)
    code, out, err = run(log, "--sigma", 0.5)
    assert (code, out) == (1, "")
    assert message in err and err.startswith("error: ")


def test_nothing_there_no_run_and_nowhere_to_write(run: Run, log: Path, tmp_path: Path) -> None:
    assert "neither a log nor a run directory" in run(tmp_path / "none.tsv", "--sigma", 0.5)[2]
    code, _, err = run(tmp_path, "--sigma", 0.5)
    assert code == 1 and "it is not a run directory" in err
    code, _, err = run(log, "--sigma", 0.5, *SMALL, "--out", log)
    assert code == 1 and f"cannot write to {log}" in err

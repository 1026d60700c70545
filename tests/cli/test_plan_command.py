"""`raycp plan`: what a run will cost, predicted from another run or a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

Run = Callable[..., tuple[int, str, str]]

M = 12
"""Images of the earlier run: votes 40, 45, ... of 100."""
RATE = {0.25: 1_000.0, 0.5: 4_000.0}


@pytest.fixture
def run(raycp: Run) -> Run:
    """`raycp plan`: arguments to exit status, stdout and stderr."""
    return partial(raycp, "plan")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """A configuration whose weights are nowhere: 30 digits, three sigmas, N0 = 10, N = 1,000."""

    def write(**sections: Any) -> Path:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "select": {"count": 30}},
            "purifier": {"kind": "none"},
            "classifier": {"kind": "directory", "path": str(tmp_path / "nowhere")},
            "certify": {
                "sigmas": [0.25, 0.5, 1.0],
                "num_selection": 10,
                "num_estimation": 1_000,
                "rule": "decide",
            },
        }
        for name, values in sections.items():
            raw[name] = {**(raw.get(name, {}) if name == "certify" else {}), **values}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A finished run at sigma 0.25 and 0.5, with 110 samples per image."""
    sigma = np.repeat([0.25, 0.5], M)
    index = np.tile(np.arange(M), 2)
    label = np.where(index == 3, 9, 0)
    table = {
        "sigma": sigma, "image_index": index, "label": label, "selected": np.zeros(2 * M, np.int64),
        "predicted": np.zeros(2 * M, np.int64), "radius": np.zeros(2 * M), "n_A": 40 + 5 * index,
        "n": np.full(2 * M, 100), "correct": label == 0, "samples": np.full(2 * M, 110),
        "stop_reason": ["complete"] * 2 * M, "seconds": 110 / np.array([RATE[s] for s in sigma]),
        "numerics": ["cpu float32"] * 2 * M,
    }  # fmt: skip
    manifest = {
        "kind": "certify", "fingerprint": "f00d",
        "config": {"certify": {"sigmas": [0.25, 0.5], "num_selection": 10, "num_estimation": 100}},
        "data": {"image_index": list(range(M))},
    }  # fmt: skip
    folder = tmp_path / "earlier"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(manifest))
    pq.write_table(pa.table(table), folder / "certificates.parquet")
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three images, one abstained."""
    path = tmp_path / "log.tsv"
    path.write_text("idx label predict radius\n0 1 1 0.4\n1 2 3 0.3\n2 2 -1 0.0\n")
    return path


def rows(out: str) -> dict[str, list[str]]:
    """The lines of the table by their first column."""
    return {line.split()[0]: line.split()[1:] for line in out.splitlines()}


def test_fixed_n_is_exact(run: Run, config: Callable[..., Path], earlier: Path) -> None:
    code, out, err = run(
        config(certify={"rule": "fixed"}), "--like", earlier, "--price", 3_600, "--replays", 1
    )
    assert code == 0, err
    samples = 30 * 1_010
    assert rows(out)["0.25"] == [
        "30",
        "1,010",
        f"{samples:,}",
        "0",
        "1.0x",
        "30",
        "0.0084",
        f"{samples / 1000:,.2f}",
    ]
    assert rows(out)["0.5"][5:] == ["8", "0.0021", f"{samples / 4000:.2f}"]
    assert rows(out)["all"][:3] == ["30", "1,010", f"{2 * samples:,}"]
    assert rows(out)["all"][5] == "38"
    assert "CPU-hours" in out.splitlines()[0]
    assert "not predicted: sigma 1 (no p_A for them in" in err
    assert "1,000 at sigma 0.25, 4,000 at sigma 0.5" in err and "cpu float32" in err


def test_skip_wrong_under_fixed_n_is_exact_too(run: Run, config: Callable[..., Path], earlier: Path) -> None:
    """One of the 12 images is wrong and costs N0 alone."""
    path = config(certify={"rule": "fixed", "skip_wrong": True})
    code, out, _ = run(path, "--like", earlier, "--sigma", 0.5, "--images", 1_200, "--replays", 1)
    assert code == 0
    assert rows(out)["0.5"][:3] == [
        "1,200",
        f"{(11 * 1_010 + 10) / 12:,.0f}",
        f"{1_100 * 1_010 + 100 * 10:,}",
    ]


def test_decide_is_cheaper_and_has_a_spread(run: Run, config: Callable[..., Path], earlier: Path) -> None:
    code, out, err = run(config(), "--like", earlier)
    assert code == 0, err
    for sigma in ("0.25", "0.5", "all"):
        _, _, samples, spread, fewer, *_ = rows(out)[sigma]
        assert 30 * 110 < float(samples.replace(",", "")) < 30 * 1_010 * (2 if sigma == "all" else 1)
        assert float(spread.replace(",", "")) > 0
        assert 1 < float(fewer[:-1]) < 10
    mean = [float(rows(out)[s][2].replace(",", "")) for s in ("0.25", "0.5", "all")]
    assert mean[2] == pytest.approx(mean[0] + mean[1], abs=2)
    assert run(config(), "--like", earlier)[1] == out


def test_a_log_predicts_its_own_sigma_and_samples_alone(
    run: Run, config: Callable[..., Path], log: Path
) -> None:
    code, out, err = run(config(), "--like", log, "--sigma", 0.5, "--price", 2)
    assert code == 0, err
    assert list(rows(out)) == ["sigma", "0.5"]
    assert rows(out)["0.5"][-3:] == ["–", "–", "–"]
    assert "not predicted: sigma 0.25, 1" in err and "samples only" in err and "p_A is reconstructed" in err


def test_a_given_throughput_gpus_and_replicas(run: Run, config: Callable[..., Path], log: Path) -> None:
    path = config(
        certify={"rule": "fixed"},
        engine={"gpus_per_replica": 0.5, "replicas": 4},
        numerics={"device": "cuda"},
    )
    code, out, err = run(
        path, "--like", log, "--sigma", 0.5, "--images", 36_000, "--samples-per-second", 1_010, "--price", 2
    )
    assert code == 0, err
    assert rows(out)["0.5"][5:] == ["36,000", "5.00", "10.00"]
    assert "GPU-hours" in out and "on 4 replicas at best 2 h 30 min" in err and "as given" in err


def test_radii_that_one_sigma_cannot_reach_do_not_stop_the_plan(
    run: Run, config: Callable[..., Path], earlier: Path
) -> None:
    code, out, _ = run(config(certify={"radii": [0.0, 1.5]}), "--like", earlier, "--sigma", 0.25)
    assert code == 0
    assert "0.25" in rows(out)


@pytest.mark.parametrize("source", ["earlier", "log"])
def test_images_are_counted_without_reading_them(
    run: Run, config: Callable[..., Path], request: pytest.FixtureRequest, tmp_path: Path, source: str
) -> None:
    like = request.getfixturevalue(source)
    np.savez(tmp_path / "a.npz", images=np.zeros((7, 2, 2), np.uint8), labels=np.zeros(7, np.int64))
    pq.write_table(pa.table({"other": list(range(11))}), tmp_path / "a.parquet")
    counted = {
        6: {"name": "digits", "select": {"indices": [1, 2, 3, 4, 5, 6]}},
        360: {"name": "digits"},
        500: {"name": "cifar10", "path": "nowhere", "select": {"skip": 20}},
        50_000: {"name": "cifar10", "path": "nowhere", "split": "train"},
        4: {"name": "npz", "path": str(tmp_path / "a.npz"), "select": {"start": 3}},
        11: {"name": "parquet", "path": str(tmp_path / "a.parquet")},
    }
    for number, data in counted.items():
        code, out, err = run(
            config(data=data, certify={"rule": "fixed"}), "--like", like, "--sigma", 0.5, "--replays", 1
        )
        assert code == 0, err
        assert rows(out)["0.5"][0] == f"{number:,}"


@pytest.mark.parametrize(
    ("like", "arguments", "status", "message"),
    [
        ("log", [], 2, "needed with the log"),
        ("log", ["--sigma", "0.3"], 2, "sigma 0.3 is not among certify.sigmas = 0.25, 0.5, 1"),
        ("log", ["--sigma", "0"], 2, "must be greater than 0, got 0"),
        ("earlier", ["--sigma", "1"], 2, "it has 0.25, 0.5"),
        ("earlier", ["--set", "certify.sigmas=[2.0]"], 2, "certify.sigmas = 2: none can be predicted"),
        ("earlier", ["--set", "certify.rule=guess"], 2, "certify.rule must be one of"),
        (
            "earlier",
            ["--abstained-p", "0.4"],
            2,
            "leave out --log-num-estimation, --log-alpha and --abstained-p",
        ),
        ("earlier", ["--samples-per-second", "0"], 2, "must be greater than 0, got 0"),
        ("earlier", ["--price", "-1"], 2, "must be greater than 0, got -1"),
        ("earlier", ["--images", "0"], 2, "should be greater than or equal to 1"),
        ("earlier", ["--set", "data={name: folder, path: x}"], 2, "give --images"),
        ("earlier", ["--set", "data={name: parquet, path: x}"], 1, "data.path: cannot read"),
        ("nothing", [], 1, "neither a log nor a run directory"),
    ],
)
def test_what_is_refused(
    run: Run, config: Callable[..., Path], earlier: Path, log: Path, like: str, arguments: list[str], status: int,
    message: str,
) -> None:  # fmt: skip
    code, out, err = run(
        config(), "--like", earlier.with_name(log.name if like == "log" else like), *arguments
    )
    assert (code, out) == (status, "")
    assert message in " ".join(err.replace("│", " ").split())

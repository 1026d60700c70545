"""Where p_A comes from: the radius of a log, the votes of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from log_files import RunRow, write_log, write_run

from raycp.errors import ConfigError, DataError, StorageError
from raycp.logs.published_log import read_log
from raycp.runs import read_run
from raycp.simulate.images import (
    LogConditions,
    ReplayedImages,
    images_of_log,
    images_of_run,
    is_run,
    votes_behind,
)
from raycp.statistics import certified_radius, clopper_pearson_lower


def radius_of(votes: int, sigma: float, n: int = 10_000) -> float:
    return certified_radius(sigma, clopper_pearson_lower(votes, n, 0.001))


@pytest.mark.parametrize("votes", [5_200, 7_000, 9_100, 9_990, 9_999, 10_000])
def test_votes_come_back_from_their_exact_radius(votes: int) -> None:
    assert votes_behind(radius_of(votes, 0.25), 0.25, 10_000, 0.001) == votes


@pytest.mark.parametrize("votes", [6_000, 8_000, 9_500])
def test_a_printed_radius_errs_by_less_than_its_last_digit(votes: int) -> None:
    printed = float(f"{radius_of(votes, 0.5):.3g}")
    found = votes_behind(printed, 0.5, 10_000, 0.001)
    assert abs(radius_of(found, 0.5) - printed) <= abs(radius_of(votes, 0.5) - printed)


def test_a_radius_rounded_up_beyond_the_largest_is_all_votes() -> None:
    largest = radius_of(10_000, 0.25)
    assert votes_behind(largest * 1.004, 0.25, 10_000, 0.001) == 10_000


def log_images(tmp_path: Path, **conditions: float) -> ReplayedImages:
    rows = [(0, 3, 3, radius_of(9_000, 0.5)), (1, 8, -1, 0.0), (2, 8, 1, radius_of(6_000, 0.5))]
    written = LogConditions(num_estimation=10_000, **conditions)  # type: ignore[arg-type]
    return images_of_log(read_log(write_log(tmp_path / "log.tsv", rows)), 0.5, written)


def test_images_of_a_log(tmp_path: Path) -> None:
    images = log_images(tmp_path, abstained_p=0.4)
    assert images.p_A_M == pytest.approx([0.9, 0.4, 0.6], abs=2e-3)
    assert images.right_M.tolist() == [True, False, False]
    assert images.wrong_M.tolist() == [
        False,
        False,
        True,
    ]  # of the abstained one the selected class is unknown
    assert "p_A is reconstructed" in images.notes[0]
    assert "the 1 abstained images are assumed to have p_A = 0.4" in images.notes[1]


def test_a_radius_beyond_the_reach_of_the_given_sigma(tmp_path: Path) -> None:
    log = read_log(write_log(tmp_path / "log.tsv", [(7, 1, 1, 0.95)]))
    with pytest.raises(
        DataError, match=r"image 7 has radius 0.95, but at sigma 0.12 .* at most 0.457 can be"
    ):
        images_of_log(log, 0.12, LogConditions())
    assert images_of_log(log, 0.25, LogConditions()).p_A_M[0] > 0.9999


COMPLETE: list[RunRow] = [
    (0.25, 0, 1, 1, 90, 100, "complete"),
    (0.25, 1, 2, 0, 70, 100, "complete"),
    (0.5, 0, 1, 1, 60, 100, "complete"),
    (0.5, 1, 2, 2, 51, 100, "complete"),
]


def test_images_of_a_run(tmp_path: Path) -> None:
    images = images_of_run(read_run(str(write_run(tmp_path / "run", COMPLETE))), 0.25, False)
    assert images.p_A_M.tolist() == [0.9, 0.7]
    assert images.right_M.tolist() == [True, False]
    assert images.wrong_M.tolist() == [False, True]
    assert images.notes == (
        "p_A is estimated: n_A / n of each certificate of the run (n = 100); the smaller n, the rougher.",
    )


def test_a_sigma_that_is_not_in_the_run(tmp_path: Path) -> None:
    run = read_run(str(write_run(tmp_path / "run", COMPLETE)))
    with pytest.raises(ConfigError, match=r"sigma 1 is not in .*run; it has 0.25, 0.5"):
        images_of_run(run, 1.0, False)


def test_a_run_that_stopped_early_and_skipped(tmp_path: Path) -> None:
    rows: list[RunRow] = [
        (0.5, 0, 1, 1, 95, 100, "decided"),
        (0.5, 1, 2, 0, 0, 0, "skipped_wrong"),
        (0.5, 2, 2, 2, 180, 200, "decided"),
        (0.5, 3, 2, 2, 0, 0, "undecided"),
    ]
    run = read_run(str(write_run(tmp_path / "run", rows, num_images=6)))
    with pytest.raises(ConfigError, match=r"no estimation samples for 1 of its images .* \(--skip-wrong\)"):
        images_of_run(run, 0.5, False)
    images = images_of_run(run, 0.5, True)
    assert images.image_index_M.tolist() == [0, 1, 2]
    assert images.p_A_M[[0, 2]].tolist() == [0.95, 0.9]
    assert images.wrong_M.tolist() == [False, True, False]
    said = " ".join(images.notes)
    assert "n = 100 to 200" in said
    assert "stopped early" in said
    assert "3 of 6 images are left out" in said


def test_a_run_without_an_estimated_image_and_a_run_of_predict(tmp_path: Path) -> None:
    rows: list[RunRow] = [(0.5, 3, 2, 2, 0, 0, "undecided")]
    run = read_run(str(write_run(tmp_path / "run", rows)))
    with pytest.raises(DataError, match=r"has no estimated image at sigma 0.5 yet"):
        images_of_run(run, 0.5, False)
    run.config["kind"] = "predict"
    with pytest.raises(StorageError, match="run of `raycp predict`"):
        images_of_run(run, 0.5, False)


def test_spread_takes_evenly(tmp_path: Path) -> None:
    images = log_images(tmp_path)
    assert images.spread(5) is images
    assert images.spread(2).image_index_M.tolist() == [0, 1]
    assert "replayed on 2 of 3 images" in images.spread(2).notes[-1]
    assert np.array_equal(images.spread(2).p_A_M, images.p_A_M[:2])


def test_log_or_run(tmp_path: Path) -> None:
    assert is_run(str(tmp_path))
    assert is_run("s3://bucket/run")
    assert not is_run(str(write_log(tmp_path / "log.tsv", [])))
    with pytest.raises(DataError, match="neither a log nor a run directory"):
        is_run(str(tmp_path / "nothing"))

"""A log that can be counted with: what is recomputed, what is merged, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_logs import HEADER, rows, write

from raycp.errors import DataError
from raycp.logs.published_log import read_log


def test_correct_is_recomputed_and_the_lie_is_told(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", HEADER, "0 3 3 0.5 0 1.0", "1 3 4 0.9 1 1.0", "2 3 -1 0.0 1 1.0"))
    assert log.correct_M.tolist() == [True, False, False]
    assert log.notes == (
        "the column correct contradicts label == predict in 3 lines (2, 3, 4): it is recomputed.",
    )


def test_a_running_total_is_recognised(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", HEADER, "0 3 3 0.5 1 1.0", "1 3 4 0.9 1 1.0", "2 3 3 0.1 2 1.0"))
    assert log.correct_M.tolist() == [True, False, True]
    assert log.notes[0].startswith("the column correct is a running total, not a flag")


def test_unsorted_lines_are_sorted_and_repeated_ones_left_out(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", HEADER, "20 3 3 0.5 1 1.0", "0 1 2 0.7 0 1.0", "20 3 3 0.5 1 2.0"))
    assert log.image_index_M.tolist() == [0, 20]
    assert log.radius_M.tolist() == [0.7, 0.5]
    assert log.seconds_M.tolist() == [1.0, 1.0]
    assert log.notes == (
        "the lines are not in the order of idx.",
        "left out, because they repeat another line: line 4.",
    )


@pytest.mark.parametrize("other", ["5 1 1 0.6 1 1.0", "5 1 2 0.5 0 1.0", "5 2 1 0.5 0 1.0"])
def test_two_lines_that_differ_are_refused(tmp_path: Path, other: str) -> None:
    path = write(tmp_path / "a", HEADER, "5 1 1 0.5 1 1.0", "6 1 1 0.5 1 1.0", other)
    with pytest.raises(DataError, match=r"image 5 has more than one line, and they differ \(lines 2 and 4\)"):
        read_log(path)


def test_undecided_images_and_radii_beside_an_abstention_count_for_nothing(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", HEADER, "0 3 -2 0.0 0 1.0", "1 3 -1 0.8 0 1.0", "2 3 3 0.8 1 1.0"))
    assert log.predicted_M.tolist() == [-1, -1, 3]
    assert log.radius_M.tolist() == [0.0, 0.0, 0.8]
    assert log.half_unit_M.tolist() == [0.0, 0.0, 0.05]
    assert log.notes == (
        "1 images with predict -2 (undecided) count as abstained.",
        "line 3: a radius beside an abstention counts as 0.",
    )


def test_without_idx_lines_are_counted(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", "6 6 0.913 1 0:00:09.5", "2 -1 0.0 0 0:00:09.5"))
    assert (log.indexed, log.image_index_M.tolist()) == (False, [0, 1])
    assert "there is no idx column: which images these are is not known." in log.notes


def test_damaged_lines_are_refused_unless_they_are_to_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a", HEADER, *rows(3), "3 1 1 nan 1 1.0", "4 1 1 0.9")
    with pytest.raises(
        DataError, match=r"a, line 5: radius must be .* got 'nan' \(2 such lines\). .*--skip-damaged"
    ):
        read_log(path)
    log = read_log(path, skip_damaged=True)
    assert log.image_index_M.tolist() == [0, 1, 2]
    assert log.notes[0].startswith("2 lines that cannot be read are left out: line 5: radius")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n", "has a header but no images"),
        ("idx\tpredict\tradius\n0\t1\t.5\n", "has no label column: certified accuracy cannot be computed"),
        ("idx\tlabel\tpredict\tcorrect\n0\t1\t1\t1\n", "is a log of predictions: it has no radius column"),
        ("idx\tlabel\tpredict\tradius\n0\t\t1\t.5\n", "line 2: label must be a class"),
        ("idx label predict radius\n0 1 .5\n", "line 2: it has 3 fields, but radius is column 4"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path / "a.tsv")
    if "line 2" in message:  # with the only line left out there would be nothing
        with pytest.raises(DataError, match=message):
            read_log(tmp_path / "a.tsv", skip_damaged=True)

"""Logs as they are found in the wild, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_files import write_log

from raycp.errors import DataError
from raycp.simulate.published_log import read_log

ROWS = [(0, 3, 3, 0.73), (20, 8, -1, 0.0), (40, 8, 1, 0.913)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_the_columns_that_count(tmp_path: Path, separator: str, newline: str) -> None:
    log = read_log(write_log(tmp_path / "a.tsv", ROWS, separator, newline))
    assert log.image_index_M.tolist() == [0, 20, 40]
    assert log.label_M.tolist() == [3, 8, 8]
    assert log.predicted_M.tolist() == [3, -1, 1]
    assert log.radius_M.tolist() == [0.73, 0.0, 0.913]


def test_a_time_with_spaces_a_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(
        "\ufeffidx label predict radius correct time\n\n7 1 1 0.5 1 1 day, 0:00:01\n\n", encoding="utf-8"
    )
    assert read_log(path).image_index_M.tolist() == [7]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("radius\tidx\tpredict\tlabel\n.25\t4\t2\t9\n")
    log = read_log(path)
    assert (log.image_index_M[0], log.label_M[0], log.predicted_M[0], log.radius_M[0]) == (4, 9, 2, 0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"its first line must name the columns idx, label, predict, radius; it lacks idx"),
        ("idx\tlabel\tpredict\tradius\tcorrect\ttime\n", "has a header but no images"),
        ("idx\tpredict\tradius\n0\t1\t.5\n", "has no label column: certified accuracy cannot be computed"),
        ("idx\tlabel\tpredict\tradius\n0\t\t1\t.5\n", "line 2 has no label: certified accuracy"),
        ("idx label predict radius\n0 1 .5\n", "line 2 has 3 fields, but the header puts radius in field 4"),
        ("idx label predict radius\n0 cat 1 .5\n", "line 2: label must be an integer, got 'cat'"),
        ("idx label predict radius\n0 1 1 nan\n", "radius must be a number of at least 0, got 'nan'"),
        ("idx label predict radius\n0 1 1 -.5\n", "radius must be a number of at least 0, got '-.5'"),
        ("idx label predict radius\n0 1 1 far\n", "radius must be a number of at least 0, got 'far'"),
        ("idx label predict radius\n0 1 -2 .5\n", "predict must be a class, or -1 for abstain, got -2"),
        ("idx label predict radius\n5 1 1 .5\n5 1 1 .5\n", "image 5 has more than one line"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path / "a.tsv")


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the log"):
        read_log(tmp_path / "none.tsv")
    (tmp_path / "b.tsv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="is not a text file"):
        read_log(tmp_path / "b.tsv")

"""Every variant of a log is read as it is; what is no log is refused."""

from __future__ import annotations

import gzip
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from made_logs import HEADER, rows, write

from raycp.errors import DataError
from raycp.logs.correct_column import correct_column
from raycp.logs.lines import half_units, read_lines


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", ["\t", " ", "   ", ","])
def test_separators_and_line_ends(tmp_path: Path, separator: str, newline: str) -> None:
    lines = read_lines(write(tmp_path / "a", HEADER, *rows(4), separator=separator, newline=newline))
    assert lines.columns == ("idx", "label", "predict", "radius", "correct", "time")
    assert lines.header and not lines.damaged
    assert lines.image_index_M is not None and lines.image_index_M.tolist() == [0, 1, 2, 3]
    assert lines.predicted_M.tolist() == [0, 1, 0, -1]
    assert lines.radius_M is not None and lines.radius_M.tolist() == [0.5, 0.25, 0.5, 0.0]
    assert lines.seconds_M is not None and lines.seconds_M.tolist() == [1.25] * 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:02:31.238689", 151.238689), ("15.4", 15.4), ("1 day, 0:00:01", 86401.0), ("2 days, 1:00:00.5", 176400.5)],
)  # fmt: skip
@pytest.mark.parametrize("separator", ["\t", " ", ","])
def test_times(tmp_path: Path, text: str, seconds: float, separator: str) -> None:
    path = tmp_path / "a"
    fields = [HEADER.split(), ["7", "1", "1", "0.5", "1", text]]
    path.write_text("".join(separator.join(line) + "\n" for line in fields))
    found = read_lines(path).seconds_M
    assert found is not None and found.tolist() == [seconds]


def test_a_time_that_cannot_be_read_damages_nothing(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a", HEADER, "0 1 1 0.5 1 soon"))
    assert lines.seconds_M is not None and np.isnan(lines.seconds_M[0]) and not lines.damaged


def test_aces_has_names_with_spaces_and_selection_logs_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "certification"
    header = [*HEADER.split()[:-1], "unperturbed predict", "unperturbed correct", "time"]
    for separator in ("\t", " "):
        path.write_text(
            separator.join(header) + "\n" + separator.join(["0", "3", "3", "0.9", "1", "4", "0", "0:00:02"])
        )
        lines = read_lines(path)
        assert lines.columns[5:7] == ("unperturbed predict", "unperturbed correct")
        assert lines.correct_M is not None and lines.correct_M.tolist() == [1.0]
        assert lines.seconds_M is not None and lines.seconds_M.tolist() == [2.0]
    path.write_text("idx\tpredict\tradius\tunperturbed predict\ttime\n0\t1\t0.9\t1\t0:00:02\n")
    lines = read_lines(path)
    assert lines.label_M is None and lines.predicted_M.tolist() == [1]


def test_without_header_and_idx(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a", "6 6 0.913 1 0:00:09.5", "2 -1 0.0 0 0:00:09.5"))
    assert (lines.header, lines.image_index_M) == (False, None)
    assert lines.label_M is not None and lines.label_M.tolist() == [6, 2]
    assert lines.predicted_M.tolist() == [6, -1] and lines.line_M.tolist() == [1, 2]


def test_without_header_but_with_idx(tmp_path: Path) -> None:
    six = read_lines(write(tmp_path / "a", *rows(3)))
    five = read_lines(write(tmp_path / "b", *(line.rpartition(" ")[0] for line in rows(3))))
    for lines in (six, five):
        assert not lines.header
        assert lines.image_index_M is not None and lines.image_index_M.tolist() == [0, 1, 2]
        assert lines.correct_M is not None and lines.correct_M.tolist() == [1, 1, 0]


def test_columns_can_be_named_where_there_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "0.5 3 3")
    with pytest.raises(DataError, match=r"has no header, and 3 fields in its first line: .* --columns"):
        read_lines(path)
    lines = read_lines(path, ["radius", "label", "predict"])
    assert lines.radius_M is not None and lines.radius_M.tolist() == [0.5]
    with pytest.raises(DataError, match=r"names its columns itself .*: leave out --columns"):
        read_lines(write(path, HEADER, *rows(2)), ["label", "predict", "radius"])


def test_a_multi_scale_log(tmp_path: Path) -> None:
    header = "idx label predict radius r_neg correct pred_uc corr_uc stage time"
    path = write(
        tmp_path / "a", header, "0 3 3 0.7 -100.0 1 3 1 0 0:00:01", "1 2 -2 0.0 -100.0 0 5 0 2 0:00:01"
    )
    lines = read_lines(path)
    assert lines.predicted_M.tolist() == [3, -2]
    assert lines.stage_M is not None and lines.stage_M.tolist() == [0, 2]


def test_predictions_have_no_radius(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a", "idx label predict basePredict correct time", "0 3 3 5 1 0:00:01", newline="\r\n"
    )
    lines = read_lines(path)
    assert (lines.radius_M, lines.half_unit_M) == (None, None)
    assert lines.columns[3] == "basepredict"


def test_original_idx_is_idx(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a", HEADER.replace("idx", "original_idx"), *rows(2)))
    assert lines.image_index_M is not None and lines.image_index_M.tolist() == [0, 1]


def test_gzip_a_byte_order_mark_blank_lines_and_a_second_header(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", "\ufeff" + HEADER, "", *rows(2), HEADER, *rows(3)[2:])
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        lines = read_lines(path)
        assert lines.image_index_M is not None and lines.image_index_M.tolist() == [0, 1, 2]
        assert not lines.damaged
    assert read_lines(plain).sha256 != read_lines(packed).sha256


def test_a_header_and_no_images(tmp_path: Path) -> None:
    assert len(read_lines(write(tmp_path / "a", HEADER))) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("5 1 1 nan 1 0:00:01", "radius must be a number of at least 0, got 'nan'"),
        ("5 1 1 inf 1 0:00:01", "radius must be .* got 'inf'"),
        ("5 1 1 -0.5 1 0:00:01", "radius must be .* got '-0.5'"),
        ("5 1 1 1_0 1 0:00:01", "radius must be .* got '1_0'"),
        ("5 cat 1 0.5 1 0:00:01", "label must be a class, at least 0, got 'cat'"),
        ("5 -1 -1 0.0 1 0:00:01", "label must be a class, at least 0, got '-1'"),
        ("5 1 -3 0.5 0 0:00:01", "predict must be a class, -1 for abstain or -2 for undecided, got '-3'"),
        ("5 1 1.5 0.5 0 0:00:01", "predict must be .* got '1.5'"),
        ("1e30 1 1 0.5 1 0:00:01", "idx must be a number of at least 0, got '1e30'"),
        ("5 1", "it has 2 fields, but radius is column 4 of 6: it breaks off"),
        ("5 1 1 0.9", "it has 4 fields, but radius is column 4 of 6: it breaks off"),
        ("5 1 1 0.9 1 0:00:01 8", "it has 7 fields, but there are 6 columns"),
    ],
)
def test_damaged_lines_are_set_aside_with_the_reason(tmp_path: Path, line: str, reason: str) -> None:
    lines = read_lines(write(tmp_path / "a", HEADER, *rows(2), line))
    assert len(lines) == 2 and len(lines.damaged) == 1
    assert lines.damaged[0].startswith("line 4: ")
    assert re.search(reason, lines.damaged[0])


def test_a_line_that_lost_its_last_fields_only_is_whole(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a", HEADER, "5 1 1 0.953 1"))
    assert not lines.damaged and lines.correct_M is not None and lines.correct_M.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty: a log has the columns"),
        (
            b"Check gpu start\nsome words\n",
            "is not a certification log: .* lacks predict. It begins 'Check gpu start'",
        ),
        (b"0.000\t0.7\n0.005\t0.6\n", "has no header, and 2 fields"),
        (b"\xff\xfe\x00\x81", "is not a text file"),
        (b"\x1f\x8b not gzip", "begins like a gzip file but cannot be unpacked"),
    ],
)
def test_what_is_no_log(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_lines(tmp_path / "a")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the log"):
        read_lines(tmp_path / "none")


@pytest.mark.parametrize(
    ("texts", "halves"),
    [
        # three significant digits, trailing zeros dropped: 1.0 is 1.00, known from its neighbours
        (["0.953", "0.9", "0.0123", "1.0", "0.0", "3.21e-05"], [5e-4, 5e-4, 5e-5, 5e-3, 0.0, 5e-8]),
        (["0.9530", "1.0000", "0.0001", "0.0000"], [5e-5, 5e-5, 5e-5, 5e-5]),
        (["0.5"], [0.05]),
    ],
)
def test_the_printed_unit(texts: list[str], halves: list[float]) -> None:
    np.testing.assert_allclose(half_units([Decimal(text) for text in texts]), halves, rtol=1e-12)


@pytest.mark.parametrize(
    ("correct", "verdict", "lines"),
    [
        ([1, 1, 0, 1], "agrees", []),
        ([1, 2, 2, 3], "running total", []),
        ([7, 8, 8, 9], "running total", []),  # a run that was gone on with
        ([1, 1, 1, 1], "contradicts", [4]),
        ([0, 1, 1, 2], "running total", []),  # the first image is not counted
        ([1, 2, 2, 2], "contradicts", [3, 4, 5]),
    ],
)
def test_the_correct_column(tmp_path: Path, correct: list[int], verdict: str, lines: list[int]) -> None:
    cells = zip(range(4), (0, 1, 0, 1), (0, 1, 1, 1), correct, strict=True)
    path = write(tmp_path / "a", HEADER, *(f"{i} {label} {p} 0.5 {c} 1.0" for i, label, p, c in cells))
    found = correct_column(read_lines(path))
    assert (found.verdict, found.line_D.tolist()) == (verdict, lines)


def test_correct_is_absent_without_labels_and_true_is_a_flag(tmp_path: Path) -> None:
    assert (
        correct_column(read_lines(write(tmp_path / "a", "idx predict radius", "0 1 0.5"))).verdict == "absent"
    )
    path = write(tmp_path / "a", "idx label predict radius correct", "0 1 1 0.5 True", "1 1 -1 0.0 False")
    assert correct_column(read_lines(path)).verdict == "agrees"

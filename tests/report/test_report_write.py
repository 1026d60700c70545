"""The files of a report."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from raycp.errors import StorageError
from raycp.report.write import write_report

MADE = datetime(2026, 1, 2, tzinfo=UTC)


def test_one_run(hand_run, make_examples: Callable, tmp_path: Path) -> None:
    files = write_report([hand_run.but(examples=make_examples())], tmp_path / "a" / "report", MADE)
    names = ["report.html", "table.csv", "images.csv", "curves.csv", "curves.png", "examples.png"]
    assert [path.name for path in files] == names
    assert sorted(path.name for path in (tmp_path / "a" / "report").iterdir()) == sorted(names)
    with (tmp_path / "a" / "report" / "table.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["certified_images_at_0.5"], row["certified_accuracy_at_0.5"]) == ("1", "0.2")
    with (tmp_path / "a" / "report" / "curves.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert [(step["radius"], step["certified_images"]) for step in steps][-1] == ("0.93159", "1")
    for name in ("curves.png", "examples.png"):
        with Image.open(tmp_path / "a" / "report" / name) as image:
            assert min(image.size) > 100


def test_several_runs(hand_run, make_examples: Callable, make_run: Callable, tmp_path: Path) -> None:
    other = make_run([(0.25, 0, 0, 0, 0.3)], name="other", examples=make_examples())
    files = write_report([hand_run, other], tmp_path, MADE, out=str(tmp_path))
    assert [path.name for path in files][-1] == "examples-2.png"
    assert f"raycp report runs/tiny runs/other --out {tmp_path}" in files[0].read_text()


def test_a_report_is_replaced(hand_run, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    write_report([hand_run], tmp_path, MADE)
    assert "Certified robustness" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_without_any_row_has_a_page_and_a_table(make_run: Callable, tmp_path: Path) -> None:
    files = write_report([make_run([], sigmas=[0.5], num_images=3)], tmp_path, MADE)
    assert [path.name for path in files] == ["report.html", "table.csv"]


def test_a_folder_that_cannot_be_made(hand_run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write the report to .*file.*Not a directory"):
        write_report([hand_run], tmp_path / "file" / "report", MADE)


def test_reports_are_reproducible(hand_run, make_examples: Callable, tmp_path: Path) -> None:
    run = hand_run.but(examples=make_examples())
    first, second = (write_report([run], tmp_path / name, MADE) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

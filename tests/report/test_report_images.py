"""The rows per image: what they say, and that they cannot leave their place in the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raycp.report.image_rows import COLUMNS, image_rows, script_data
from raycp.report.write import write_report

NAMES = [f"class {k}" for k in range(10)]


def test_rows_of_every_outcome(make_run: Callable) -> None:
    rows = [
        (0.5, 1, 4, 4, 0.93159), (0.5, 0, 4, 5, 1.5), (0.5, 2, 4, -1, 0.0), (0.5, 3, 4, -1, 0.0),
        (0.25, 1, 4, 4, 0.2999),
    ]  # fmt: skip
    found = image_rows("tiny", make_run(rows, skipped=[3]), NAMES)
    assert [tuple(row) for row in found] == [COLUMNS] * 5
    short = [(r["sigma"], r["image"], r["label"], r["certified"], r["radius"], r["outcome"]) for r in found]
    assert short == [
        (0.25, 1, "class 4", "class 4", "0.299", "right"),
        (0.5, 0, "class 4", "class 5", "1.500", "wrong"),
        (0.5, 1, "class 4", "class 4", "0.931", "right"),
        (0.5, 2, "class 4", "", "", "abstained"),
        (0.5, 3, "class 4", "", "", "skipped"),
    ]
    assert {row["votes"] for row in found} == {None}  # this table has no such column


def test_votes_and_bounds_are_rounded_down(make_run: Callable) -> None:
    import pyarrow as pa

    run = make_run([(0.5, 1, 4, 4, 0.9), (0.5, 2, 4, -1, 0.0)], skipped=[])
    table = run.certificates
    for name, values in {"p_A_lower": [0.98769, 0.41], "n_A": [995, 430], "n": [1000, 1000]}.items():
        table = table.append_column(name, pa.array(values))
    first, second = image_rows("tiny", run.but(certificates=table), None)
    assert (first["label"], first["p_A"], first["votes"], first["of"]) == ("4", "0.9876", 995, 1000)
    assert (second["p_A"], second["votes"], second["outcome"]) == (None, 430, "abstained")


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<!--", "&lt;", "\u2028'\""])
def test_data_stays_in_its_element(make_run: Callable, name: str) -> None:
    rows = image_rows(name, make_run([(0.5, 1, 0, 0, 0.9)]), [name])
    text = script_data(rows)
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == [list(rows[0].values())] and rows[0]["run"] == rows[0]["label"] == name


def test_the_file_has_all_rows_of_all_runs(make_run: Callable, tmp_path: Path) -> None:
    runs = [make_run([(0.5, i, 0, 0, 0.9) for i in range(3)], name=name) for name in ("a", "b")]
    paths = write_report(runs, tmp_path, datetime(2026, 1, 2, tzinfo=UTC))
    assert tmp_path / "images.csv" in paths
    found = list(csv.DictReader(io.StringIO((tmp_path / "images.csv").read_text())))
    assert [(row["run"], row["image"]) for row in found] == [(n, str(i)) for n in "ab" for i in range(3)]
    assert list(found[0]) == list(COLUMNS)

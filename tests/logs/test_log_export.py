"""A run in the field's format, and back."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.errors import ConfigError
from raycp.logs.export import exported_logs, printed_radius, printed_time
from raycp.logs.imported import Claims, imported_run
from raycp.logs.lines import read_lines
from raycp.logs.published_log import read_log
from raycp.report.formats import cells, heading
from raycp.report.table import certified_table
from raycp.runs import RunResults

Row = tuple[float, int, int, int, float, str]
"""sigma, image_index, label, predicted, radius, stop_reason."""

ROWS: tuple[Row, ...] = (
    (0.25, 0, 3, 3, 0.95285349, "complete"),
    (0.25, 20, 8, -1, 0.0, "complete"),
    (0.25, 40, 8, 1, 0.91999999, "complete"),
    (0.25, 60, 0, 0, 0.25, "complete"),
    (0.25, 80, 0, 0, float(np.nextafter(0.5, 0)), "complete"),
    (0.25, 100, 5, 5, 0.000123456, "complete"),
)


def run_of(rows: Sequence[Row], images: int = 6) -> RunResults:
    sigma, index, label, predicted, radius, reason = zip(*rows, strict=True)
    number = len(rows)
    table = pa.table(
        {
            "sigma": pa.array(sigma), "image_index": pa.array(index), "label": pa.array(label),
            "predicted": pa.array(predicted), "radius": pa.array(radius),
            "correct": pa.array([a == b and b >= 0 for a, b in zip(label, predicted, strict=True)]),
            "stop_reason": pa.array(reason), "samples": pa.array([10_100] * number),
            "seconds": pa.array([151.238689] * number), "numerics": pa.array(["cpu float32"] * number),
        }
    )  # fmt: skip
    certify: dict[str, Any] = {
        "sigmas": sorted(set(sigma)), "num_selection": 100, "num_estimation": 100_000, "alpha": 0.001,
    }  # fmt: skip
    config = {"kind": "certify", "config": {"certify": certify}, "data": {}}
    return RunResults("run", "run", config, table, None, images, len(rows) == images)


def test_the_text() -> None:
    (log,) = exported_logs(run_of(ROWS))
    assert log.name == "sigma_0.25.tsv" and log.notes == ()
    assert log.text.splitlines()[:4] == [
        "idx\tlabel\tpredict\tradius\tcorrect\ttime",
        "0\t3\t3\t0.952\t1\t0:02:31.238689",
        "20\t8\t-1\t0.0\t0\t0:02:31.238689",
        "40\t8\t1\t0.919\t0\t0:02:31.238689",
    ]


@pytest.mark.parametrize("digits", [2, 3, 6, 17])
def test_importing_an_export_gives_the_same_table(tmp_path: Path, digits: int) -> None:
    run = run_of(ROWS)
    (exported,) = exported_logs(run, digits)
    path = tmp_path / exported.name
    path.write_text(exported.text)
    log = read_log(path)
    assert log.notes == ()
    back = imported_run([log], [0.25], Claims(100, 100_000, 0.001), "run", "run")
    first, second = certified_table([run]), certified_table([back])
    assert heading(first) == heading(second)
    (one,), (other,) = ([cells(row) for row in table.rows] for table in (first, second))
    # Radii are rounded down, so that ACR may be smaller; samples are not in the format.
    acr, samples = heading(first).index("ACR"), heading(first).index("samples")
    assert [c for at, c in enumerate(one) if at not in (acr, samples)] == [
        c for at, c in enumerate(other) if at not in (acr, samples)
    ]
    assert other[samples] == "–"
    if digits == 17:
        assert one[acr] == other[acr]
        for name in ("image_index", "label", "predicted", "radius", "correct", "seconds"):
            assert back.certificates[name].to_pylist() == run.certificates[name].to_pylist()
    assert all(a <= b for a, b in zip(log.radius_M, run.certificates["radius"].to_numpy(), strict=True))


def test_one_file_per_sigma() -> None:
    other = [(1.0, *row[1:]) for row in ROWS]
    assert [log.name for log in exported_logs(run_of([*ROWS, *other]))] == ["sigma_0.25.tsv", "sigma_1.tsv"]


def test_what_the_format_cannot_say() -> None:
    rows = [*ROWS[:3], (0.25, 60, 0, -1, 0.0, "skipped_wrong"), (0.25, 80, 0, 0, 0.1, "undecided")]
    (log,) = exported_logs(run_of(rows))
    assert log.notes == (
        "sigma 0.25: partial, 4 of 6 images are decided; the log does not say so.",
        "sigma 0.25: 1 images that skip_wrong left out are written as abstained.",
        "sigma 0.25: 1 undecided images are written with what is certified so far.",
    )
    assert "60\t0\t-1\t0.0\t0\t" in log.text


def test_an_import_is_not_exported(tmp_path: Path) -> None:
    (exported,) = exported_logs(run_of(ROWS))
    (tmp_path / "a").write_text(exported.text)
    back = imported_run([read_log(tmp_path / "a")], [0.25], Claims(), "a", "a")
    with pytest.raises(ConfigError, match="is an imported log: the file it was made from is in this format"):
        exported_logs(back)


@given(st.floats(min_value=0, max_value=1e4, allow_subnormal=False), st.integers(min_value=1, max_value=17))
def test_a_printed_radius_is_the_largest_of_its_digits_below(radius: float, digits: int) -> None:
    text = printed_radius(radius, digits)
    printed, exactly = Decimal(text), Decimal(radius)
    assert printed <= exactly
    assert len(text.replace(".", "").strip("0")) <= digits
    if exactly:
        assert exactly - printed < Decimal(1).scaleb(exactly.adjusted() - digits + 1)
    if digits == 17:
        assert float(text) == radius


@pytest.mark.parametrize(
    ("radius", "text"), [(0.0, "0.0"), (1.0, "1.0"), (0.5, "0.5"), (12.349, "12.3"), (1234.5, "1230.0")]
)
def test_the_look_of_a_radius(radius: float, text: str) -> None:
    assert printed_radius(radius, 3) == text


def test_times_are_read_back(tmp_path: Path) -> None:
    for seconds in (0.0, 0.000001, 151.238689, 90_000.0):
        (tmp_path / "a").write_text(
            f"idx\tlabel\tpredict\tradius\ttime\n0\t1\t1\t.5\t{printed_time(seconds)}\n"
        )
        found = read_lines(tmp_path / "a").seconds_M
        assert found is not None and found.tolist() == [seconds]

"""Whatever is changed in a run is noticed, and the row is named."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import (
    RULES,
    change,
    config_of,
    failures,
    make_run,
    move_votes,
    only_file,
    rewrite,
    rows_of,
    split_ledger,
)

Make = Callable[[str], Path]
COLUMNS = [
    "sigma", "image_index", "label", "selected", "predicted", "radius", "grid_radius", "p_A_lower", "p_B_upper", "n_A",
    "n", "n0", "correct", "stop_reason", "samples", "numerics",
]  # fmt: skip


def flipped(value: Any) -> Any:
    """The nearest other value."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    return value + 1 if isinstance(value, int) else f"{value}."


@pytest.mark.parametrize("name", ["fixed", "e_process", "decide-partial"])
def test_the_smallest_change_of_any_column_is_noticed(spoiled: Make, name: str) -> None:
    run = spoiled(name)
    path = run / "certificates.parquet"
    honest = rows_of(path)
    assert set(honest[0]) == {*COLUMNS, "seconds"}
    number, row = next(
        (n, row) for n, row in enumerate(honest) if row["grid_radius"] and row["predicted"] >= 0
    )
    columns = (
        COLUMNS if name == "fixed" else ["radius", "grid_radius", "p_A_lower", "stop_reason", "n", "numerics"]
    )
    for column in columns:
        rows = [dict(each) for each in honest]
        rows[number][column] = flipped(row[column])
        rewrite(path, rows)
        found = failures(run)
        assert list(found) == ["certificates"], column
        unit = f"sigma {row['sigma']:g}, image {row['image_index']}: "
        if column in ("sigma", "image_index"):
            assert f"{unit}no row in the table" in found["certificates"]
            assert any("in the table, but not of this run" in line for line in found["certificates"])
        else:
            wrong = flipped(row[column])
            assert found["certificates"] == [f"{unit}{column} stored {wrong!r}, derived {row[column]!r}"]
    rewrite(path, [{**each, "seconds": each["seconds"] + 1} for each in honest])
    assert failures(run) == {}


def test_rows_too_many_and_too_few(spoiled: Make) -> None:
    run = spoiled("fixed")
    path = run / "certificates.parquet"
    rows = rows_of(path)
    rewrite(path, [*rows, rows[3]])
    assert failures(run) == {"certificates": ["sigma 0.25, image 6: 2 rows in the table instead of one"]}
    rewrite(path, rows[:3] + rows[4:])
    assert failures(run) == {"certificates": ["sigma 0.25, image 6: no row in the table"]}
    rewrite(path, [*rows, {**rows[3], "image_index": 9}])
    assert failures(run) == {"certificates": ["sigma 0.25, image 9: in the table, but not of this run"]}


def test_swapped_labels(spoiled: Make) -> None:
    """At every sigma, so that the table agrees with itself; only the data set knows better."""
    run = spoiled("fixed")
    path = run / "certificates.parquet"
    rows = rows_of(path)
    one, other = rows[0]["image_index"], rows[3]["image_index"]
    labels = {one: rows[0]["label"], other: rows[3]["label"]}
    swapped = {one: labels[other], other: labels[one]}
    assert labels != swapped
    for row in rows:
        row["label"] = swapped.get(row["image_index"], row["label"])
        row["correct"] = row["predicted"] == row["label"]
    rewrite(path, rows)
    found = failures(run)
    assert list(found) == ["certificates"]
    for sigma in (0.25, 0.5):
        for image in (one, other):
            start = f"sigma {sigma:g}, image {image}: label stored {swapped[image]}, derived {labels[image]}"
            assert any(line.startswith(start) for line in found["certificates"])
    assert len(found["certificates"]) == 4


@pytest.mark.parametrize("name", ["fixed", "decide", "e_process"])
def test_a_changed_count(spoiled: Make, name: str) -> None:
    """One vote of the class that is certified, with the total kept; and one too many."""
    run = spoiled(name)
    path = only_file(run)
    rows = rows_of(path)
    number = next(n for n, row in enumerate(rows) if row["phase"] == "estimation" and row["first"] == 0)
    unit = f"sigma {rows[number]['sigma']:g}, image {rows[number]['image_index']}"
    move_votes(rows[number])
    rewrite(path, rows)
    found = failures(run)
    assert list(found) == ["certificates"]
    assert len(found["certificates"]) == 1
    assert found["certificates"][0].startswith(f"{unit}: ")
    assert "n_A stored" in found["certificates"][0]

    rows[number]["counts"][0] += 1
    rewrite(path, rows)
    found = failures(run)
    assert set(found) == {"ledger", "certificates"}
    assert len(found["ledger"]) == 1
    assert f"counts/{path.name}: {unit}, estimation samples from 0: counts" in found["ledger"][0]
    assert "add up to" in found["ledger"][0]


def test_a_coherent_forgery_is_found_by_drawing_again(weights: Path, spoiled: Make) -> None:
    """Votes moved towards the selected class, and the table made anew from them by raycp itself."""
    run = spoiled("fixed")
    path = only_file(run)
    rows = rows_of(path)
    forged = next(row for row in rows if row["phase"] == "estimation" and 400 < max(row["counts"]) < 500)
    most = forged["counts"].index(max(forged["counts"]))
    other = next(k for k, count in enumerate(forged["counts"]) if count > 1 and k != most)
    forged["counts"][most] += 2
    forged["counts"][other] -= 2
    rewrite(path, rows)
    assert list(failures(run)) == ["certificates"]
    make_run(run, config_of(weights, RULES["fixed"]))
    assert failures(run) == {}
    found = failures(run, num_blocks=len(rows))
    assert list(found) == ["redraw"]
    (line,) = found["redraw"]
    last = forged["num_samples"] - 1
    assert (
        f"sigma {forged['sigma']:g}, image {forged['image_index']}, estimation samples 0 to {last}: class"
        in line
    )
    assert f"class {most} stored {forged['counts'][most]}, drawn {forged['counts'][most] - 2}" in line


def test_ranges_that_contradict_each_other(spoiled: Make) -> None:
    run = spoiled("fixed")
    first, *_ = split_ledger(run, parts=2)
    rows = rows_of(first)
    extra = {**rows[0], "counts": list(rows[0]["counts"])}
    name = f"sigma {extra['sigma']:g}, image {extra['image_index']}, {extra['phase']} samples 0 to"
    rewrite(first, [*rows, extra])
    assert failures(run) == {}
    move_votes(extra)
    rewrite(first, [*rows, extra])
    found = failures(run)
    assert found["ledger"] == [f"{name} {extra['num_samples'] - 1}: counted in two ways that differ"]


def test_a_removed_ledger_file(spoiled: Make) -> None:
    run = spoiled("fixed")
    parts = split_ledger(run)
    lost = {(row["sigma"], row["image_index"]) for row in rows_of(parts[1])}
    assert failures(run) == {}
    parts[1].unlink()
    found = failures(run)
    assert list(found) == ["certificates"]
    named = {line.partition(":")[0] for line in found["certificates"]}
    assert named == {f"sigma {sigma:g}, image {image}" for sigma, image in lost}
    assert all("stop_reason stored 'complete', derived 'undecided'" in line for line in found["certificates"])


def test_ledger_files_that_are_damaged_or_of_another_run(spoiled: Make) -> None:
    run = spoiled("fixed")
    one, two, _ = split_ledger(run)
    rewrite(one, rows_of(one), {b"fingerprint": b"beef"})
    data = bytearray(two.read_bytes())
    data[60] ^= 1
    two.write_bytes(data)
    found = failures(run)["ledger"]
    assert found[0].startswith(f"counts/{one.name}: fingerprint beef, of the run ")
    assert found[1].startswith(f"counts/{two.name}: ")
    assert len(found) == 2


@pytest.mark.parametrize(
    "spoil", [{"first": -1}, {"phase": "prediction"}, {"sigma": 0.3}, {"image_index": 1}]
)
def test_rows_that_are_not_of_the_run(spoiled: Make, spoil: dict[str, Any]) -> None:
    run = spoiled("fixed")
    change(only_file(run), lambda rows: rows[5].update(spoil))
    (line,) = failures(run)["ledger"]
    assert line.startswith(f"counts/{only_file(run).name}: sigma ")

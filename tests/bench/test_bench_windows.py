"""Ratios of measurements that take turns."""

from __future__ import annotations

import pytest

from raycp.bench.windows import Side, Window, ratios, samples_per_cpu_second, spread, throughput


def test_median_and_range() -> None:
    values = spread([3.0, 1.0, 10.0])
    assert (values.median, values.lowest, values.highest, values.count) == (3.0, 1.0, 10.0, 3)
    assert spread([1.0, 2.0, 4.0, 8.0]).median == 3.0


def test_a_machine_that_drifts_does_not_change_a_ratio() -> None:
    """Every side slows down by the same number of samples per window; the engine does 0.9 of the bare rate."""
    speed = [100.0, 96.0, 92.0, 88.0, 84.0]
    sides: list[Side] = ["bare forward", "engine", "bare forward", "engine", "bare forward"]
    values = [(side, v * (0.9 if side == "engine" else 1.0)) for side, v in zip(sides, speed, strict=True)]
    assert ratios(values, "engine", "bare forward") == pytest.approx([0.9, 0.9], rel=1e-12)


def test_the_neighbours_of_a_window_are_those_next_to_it() -> None:
    values: list[tuple[Side, float]] = [
        ("bare forward", 1.0), ("bare forward", 4.0), ("kernel", 7.0), ("engine", 6.0),
        ("kernel", 5.0), ("bare forward", 8.0), ("bare forward", 1000.0),
    ]  # fmt: skip
    assert ratios(values, "engine", "bare forward") == [1.0]
    assert ratios(values, "engine", "kernel") == [1.0]
    assert ratios(values, "bare forward", "engine") == pytest.approx([1 / 6, 4 / 6, 8 / 6, 1000 / 6])


def test_windows_as_rates() -> None:
    window = Window("engine", 50.0, 2.0, {"draw": 18.0, "driver": 0.5, "ray": 1.5})
    assert throughput([window]) == [("engine", 50.0)]
    assert samples_per_cpu_second([window]) == [("engine", 50.0)]  # 20 ms each

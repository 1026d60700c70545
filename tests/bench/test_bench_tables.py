"""Measurements as text and JSON."""

from __future__ import annotations

import json

import pytest

from raycp.bench.dispatch_ceiling import Dispatched, Looked, call_costs
from raycp.bench.driver_memory import DriverMemory
from raycp.bench.measurements import Measurements, Setup
from raycp.bench.processes import Memory
from raycp.bench.tables import Row, Table, describe, plain_text, significant, tables
from raycp.bench.virtual_cluster import Driven
from raycp.bench.windows import Window

MIB = 2**20


def example(numerics: str = "cpu Some CPU, 1 threads, float32, batch 32", ray: bool = True) -> Measurements:
    """Two rounds: bare 100, kernel 99, engine 97; then bare 110, kernel 110, engine 99; then bare 110, kernel 110."""
    figures = {
        "tasks": 8.0,
        "samples_per_task": 64.0,
        "busy_share": 0.995,
        "driver_cores": 0.01,
        "requeued": 0.0,
    }
    engine_cpu = {"draw": 20.0, "driver": 0.1} | ({"ray": 0.4} if ray else {})
    windows = []
    for bare, kernel, engine in ((100.0, 99.0, 97.0), (110.0, 110.0, 99.0), (110.0, 110.0, None)):
        windows.append(Window("bare forward", bare, 1.0, {"draw": 20.0}))
        windows.append(Window("kernel", kernel, 1.0, {"draw": 20.2}))
        if engine is not None:
            windows.append(Window("engine", engine, 1.0, engine_cpu, figures))
    return Measurements(
        machine={"cpus": 2},
        setup=Setup("consistency (2 parameters)", "directory (1 parameters)", (3, 32, 32), 0.25, numerics, 2),
        config={"purifier": {"kind": "consistency"}},
        windows=windows,
        noise={"sound": 50e-6, "float": 150e-6},
        dispatched=[Dispatched(2, 1000.0, 0.5, 0.25), Dispatched(4, 1500.0, 0.4, 0.3)],
        looked=[Looked(1_000, 3.0, 2.0), Looked(2_000, 6.0, 5.0)],
        driven=Driven(1_000, 5.0, 240.0, 200.0, 150.0, 0.05, 0.992),
        memory=DriverMemory(
            10_000, 3, 100_000, 200, 30_000, Memory(500 * MIB, 400 * MIB, 40 * MIB),
            Memory(560 * MIB, 401 * MIB, 40 * MIB), 20.0, 10**6,
        ),
    )  # fmt: skip


def lines(measurements: Measurements) -> dict[str, list[str]]:
    """Each line's words after its name, by its name."""
    names = [row.name.strip() for table in tables(measurements) for row in table.rows]
    found = {}
    for line in plain_text(tables(measurements)).splitlines():
        for name in sorted(names, key=len, reverse=True):
            if line.strip().startswith(name + "  "):
                found[name] = line.strip()[len(name) :].split()
                break
    return found


def test_the_ratio_is_to_the_bare_windows_before_and_after() -> None:
    # 97 / 105 and 99 / 110
    row = lines(example())["engine / bare forward"]
    assert row == ["0.912", "0.900", "0.924"]
    assert lines(example())["bare forward"][:3] != row


def test_ratios_by_cpu_time() -> None:
    assert lines(example())["engine / bare forward, by CPU time"] == ["0.976", "0.976", "0.976"]  # 20 / 20.5
    assert "engine / bare forward, by CPU time" not in lines(example(ray=False))
    assert "engine / bare forward, by CPU time" not in lines(example(numerics="cuda Some GPU"))


def test_shares_and_units() -> None:
    rows = lines(example())
    assert rows["kernel"][-1] == "ms"  # the last one of this name: CPU time
    assert rows["engine, Ray's daemons"] == ["0.4000", "0.4000", "0.4000", "ms"]
    assert rows["replicas inside tasks"] == ["99.2", "%", "of", "the", "time"]
    # 50 us of 2 processes that draw 110 samples/s together: 50e-6 * 55
    assert rows["sound"][:2] == ["50.00", "0.28%"]
    assert rows["driver, Ray's calls included"][0] == "5.0"


def test_memory_at_full_size_is_scaled_and_said_to_be() -> None:
    measurements = example()
    assert measurements.memory is not None
    pixels = 40_000 * 3072
    scaled = measurements.memory.scaled(50_000)
    assert scaled == Memory(800 * MIB + pixels, 401 * MIB, 40 * MIB + pixels)
    text = plain_text(tables(measurements))
    assert "driver memory, 10,000 images x 3 sigmas, N = 100,000" in text
    assert "50,000, at most" in text
    assert lines(measurements)["private"] == ["500", "560", "917", "MiB"]


def test_parts_that_were_not_measured_leave_no_table() -> None:
    measurements = Measurements(machine={}, noise={"sound": 1e-5})
    assert [table.title for table in tables(measurements)] == ["noise"]
    assert plain_text(tables(measurements)).splitlines()[1].split() == [
        "sound",
        "10.00",
        "us",
        "per",
        "sample",
    ]


def test_columns_line_up() -> None:
    text = plain_text(
        [
            Table(
                "a title",
                ("one", "two"),
                (Row("x", ("1", "22"), "s"), Row("longer than it", ("333", "4"), "s")),
            ),
            Table("b", ("one",), (Row("y", ("1",)),)),
        ]
    )
    assert text.splitlines() == [
        "a title           one  two",
        "  x                 1   22  s",
        "  longer than it  333    4  s",
        "",
        "b                 one",
        "  y                 1",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.01234567, "0.0123"), (1.23456, "1.235"), (12.3456, "12.35"), (123.456, "123.5"),
        (9.9996, "10.00"), (99999.6, "100,000"), (12345.6, "12,346"),
    ],
)  # fmt: skip
def test_four_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_what_ray_costs_is_taken_from_few_tasks_in_flight_and_many_calls() -> None:
    costs = call_costs(example().dispatched, example().looked)
    assert costs.task_seconds == pytest.approx(0.5e-3)
    assert costs.look_seconds == pytest.approx(2.5e-6)


def test_everything_is_in_the_record() -> None:
    record = json.loads(json.dumps(example().record()))
    assert len(record["windows"]) == 8
    assert record["ratios"]["engine / bare forward"] == {
        "median": pytest.approx((97 / 105 + 0.9) / 2), "lowest": 0.9, "highest": pytest.approx(97 / 105), "count": 2,
    }  # fmt: skip
    assert record["noise"] == {"sound": 50e-6, "float": 150e-6}
    assert record["looked"][1]["calls"] == 2_000
    assert record["memory"]["peak"]["private"] == 560 * MIB
    assert record["setup"]["image_shape"] == [3, 32, 32]
    assert Measurements(machine={}).record()["ratios"] == {}


def test_what_was_measured_is_said_first() -> None:
    setup = example().setup
    assert setup is not None
    assert describe(setup).splitlines() == [
        "purifier consistency (2 parameters), classifier directory (1 parameters)",
        "3x32x32 images, sigma 0.25, 2 replicas",
        "cpu Some CPU, 1 threads, float32, batch 32",
    ]

"""Measurements as tables of text: what they are, their figures, their units. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raycp.bench.dispatch_ceiling import Dispatched, Looked
from raycp.bench.driver_memory import FULL, DriverMemory
from raycp.bench.measurements import Measurements, Setup
from raycp.bench.training import SIDES, TrainingMeasured
from raycp.bench.virtual_cluster import Driven
from raycp.bench.windows import Side, Spread, Window, spread


@dataclass(frozen=True)
class Row:
    """One quantity."""

    name: str
    figures: tuple[str, ...]
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a title and one heading per figure."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[Row, ...]


DASH = "–"
_SPREAD = ("median", "min", "max")
_CPU_NAMES: dict[tuple[Side, str], str] = {
    ("bare forward", "draw"): "bare forward",
    ("kernel", "draw"): "kernel",
    ("engine", "draw"): "engine, replicas",
    ("engine", "driver"): "engine, driver",
    ("engine", "ray"): "engine, Ray's daemons",
}


def tables(measurements: Measurements) -> list[Table]:
    """What was measured, in the order of the questions it answers."""
    result = []
    if measurements.windows:
        assert measurements.setup is not None
        result += [_throughput(measurements), _cpu(measurements.windows), _engine(measurements.windows)]
    if measurements.noise:
        result.append(_noise(measurements.noise, measurements.windows, measurements.setup))
    if measurements.dispatched:
        result += [_dispatch(measurements.dispatched), _look(measurements.looked)]
    if measurements.driven is not None:
        result.append(_virtual(measurements.driven))
    if measurements.memory is not None:
        result.append(_memory(measurements.memory))
    if measurements.training is not None:
        result += [_training(measurements.training), _training_cpu(measurements.training)]
    return result


def plain_text(tables_: Sequence[Table]) -> str:
    """Aligned columns, the same for all tables: names to the left, figures to the right, then units."""
    names = max(2 + len(row.name) for table in tables_ for row in table.rows)
    names = max([names, *(len(table.title) for table in tables_)])
    figures = max(len(text) for table in tables_ for row in table.rows for text in row.figures)
    figures = max([figures, *(len(text) for table in tables_ for text in table.heading)])
    lines: list[str] = []
    for table in tables_:
        cells = "".join(f"  {text:>{figures}}" for text in table.heading)
        lines += ["", f"{table.title:<{names}}{cells}".rstrip()]
        for row in table.rows:
            cells = "".join(f"  {text:>{figures}}" for text in row.figures)
            lines.append(f"{'  ' + row.name:<{names}}{cells}  {row.unit}".rstrip())
    return "\n".join(lines[1:]) + "\n"


def describe(setup: Setup) -> str:
    """What was measured, in three lines."""
    replicas = "1 replica" if setup.replicas == 1 else f"{setup.replicas} replicas"
    shape = "x".join(map(str, setup.image_shape))
    return (
        f"purifier {setup.purifier}, classifier {setup.classifier}\n"
        f"{shape} images, sigma {setup.sigma:g}, {replicas}\n"
        f"{setup.numerics}"
    )


def significant(value: float) -> str:
    """Four significant digits, never in exponential form: 0.01234, 1.234, 123.4, 12,345."""
    if value == 0:
        return "0"
    digits = max(0, 4 - len(f"{abs(value):.0f}")) if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}"


def _spread_row(name: str, value: Spread, unit: str = "", scale: float = 1.0) -> Row:
    return Row(name, tuple(significant(scale * v) for v in (value.median, value.lowest, value.highest)), unit)


def _throughput(measurements: Measurements) -> Table:
    sides: tuple[Side, ...] = ("bare forward", "kernel", "engine")
    rows = []
    for side in sides:
        values = [w.samples_per_second for w in measurements.windows if w.side == side]
        rows.append(_spread_row(side, spread(values), "samples/s"))
    for name, value in measurements.comparisons().items():
        figures = tuple(f"{v:.3f}" for v in (value.median, value.lowest, value.highest))
        rows.append(Row(name, figures))
    return Table("throughput, steady state", _SPREAD, tuple(rows))


def _cpu(windows: Sequence[Window]) -> Table:
    rows = []
    for (side, who), name in _CPU_NAMES.items():
        values = [w.cpu_ms[who] for w in windows if w.side == side and who in w.cpu_ms]
        if values:
            rows.append(_spread_row(name, spread(values), "ms"))
    return Table("CPU time per sample", _SPREAD, tuple(rows))


def _engine(windows: Sequence[Window]) -> Table:
    def values(name: str) -> Spread | None:
        found = [w.figures[name] for w in windows if w.side == "engine" and name in w.figures]
        return spread(found) if found else None

    quantities = (
        ("busy_share", "replicas inside tasks", "% of the time", 100.0),
        ("driver_cores", "driver", "% of one core", 100.0),
        ("ray_cores", "Ray's daemons", "% of one core", 100.0),
        ("samples_per_task", "samples per task", "", 1.0),
        ("requeued", "tasks repeated", "", 1.0),
    )
    rows = [
        _spread_row(name, value, unit, scale)
        for key, name, unit, scale in quantities
        if (value := values(key)) is not None
    ]
    return Table("engine", _SPREAD, tuple(rows))


def _noise(noise: dict[str, float], windows: Sequence[Window], setup: Setup | None) -> Table:
    kernel = [w.samples_per_second for w in windows if w.side == "kernel"]
    rows = []
    for kind, seconds in noise.items():
        figures = [significant(1e6 * seconds)]
        if kernel and setup is not None:
            figures.append(f"{100 * seconds * spread(kernel).median / setup.replicas:.2f}%")
        rows.append(Row(kind, tuple(figures), "us per sample" + (", of the kernel's time" if kernel else "")))
    return Table("noise", ("time", "share") if kernel else ("time",), tuple(rows))


def _dispatch(dispatched: Sequence[Dispatched]) -> Table:
    rows = [
        Row(
            f"{d.depth} tasks in flight each",
            (
                significant(d.tasks_per_second),
                f"{d.driver_ms_per_task:.3f} ms",
                f"{100 * d.replica_share:.0f}%",
            ),
        )
        for d in dispatched
    ]
    return Table("null model through Ray, 2 replicas", ("tasks/s", "driver CPU", "busy"), tuple(rows))


def _look(looked: Sequence[Looked]) -> Table:
    rows = [
        Row(f"among {look.calls:,} calls", (f"{look.ms:.3f} ms", f"{look.driver_ms:.3f} ms"))
        for look in looked
    ]
    return Table("looking for answers", ("time", "driver CPU"), tuple(rows))


def _virtual(driven: Driven) -> Table:
    rows = (
        Row("tasks per second", (significant(driven.tasks_per_second),)),
        Row("replicas inside tasks", (f"{100 * driven.utilisation:.1f}",), "% of the time"),
        Row("driver, Ray's calls included", (f"{100 * driven.driver_cores:.1f}",), "% of one core"),
    )
    title = f"{driven.replicas:,} replicas, {driven.task_seconds:g} s tasks, on paper"
    return Table(title, ("",), rows)


def _memory(memory: DriverMemory) -> Table:
    title = f"driver memory, {memory.images:,} images x {memory.sigmas} sigmas, N = {memory.num_estimation:,}"
    if memory.before is None or memory.peak is None:
        return Table(title, ("",), (Row("this system does not tell", (DASH,)),))
    columns = {"before": memory.before, "peak": memory.peak}
    if memory.images < FULL:
        columns[f"{FULL:,}, at most"] = memory.scaled(FULL)
    kinds = {
        "private": "private",
        "libraries": "libraries, shared by processes",
        "shared": "Ray's object store",
    }
    rows = [
        Row(name, tuple(_mebibytes(getattr(memory_, kind)) for memory_ in columns.values()), "MiB")
        for kind, name in kinds.items()
    ]
    cpu = Row("CPU time of the whole run", (f"{memory.cpu_seconds:,.0f}",), f"s for {memory.tasks:,} tasks")
    return Table(title, tuple(columns), (*rows, cpu))


def _training(training: TrainingMeasured) -> Table:
    rows = []
    for side in SIDES:
        values = [w.steps / w.seconds for w in training.windows if w.side == side]
        if values:
            rows.append(_spread_row(side, spread(values), "steps/s"))
    for name, value in training.comparisons().items():
        figures = tuple(f"{v:.3f}" for v in (value.median, value.lowest, value.highest))
        rows.append(Row(name, figures))
    size = training.size
    shape = f"3x{size.image_size}x{size.image_size}"
    title = f"training, U-Net of {training.parameters:,} parameters, {shape} images, batch {size.batch_size}"
    return Table(title, _SPREAD, tuple(rows))


def _training_cpu(training: TrainingMeasured) -> Table:
    rows = []
    for side in SIDES:
        values = [1e3 * w.cpu_seconds / w.steps for w in training.windows if w.side == side]
        if values:
            rows.append(_spread_row(side, spread(values), "ms"))
    shares = [w.ray_seconds / w.seconds for w in training.windows if w.ray_seconds is not None]
    if shares:
        rows.append(_spread_row("Ray's own processes", spread(shares), "% of one core", 100.0))
    return Table("CPU time per training step", _SPREAD, tuple(rows))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"

"""What one measurement is, and the statistics over several of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Literal

Side = Literal["bare forward", "kernel", "engine"]


@dataclass(frozen=True)
class Window:
    """One side's measurement over a stretch of time in which no other side was at work."""

    side: Side
    samples_per_second: float
    """Of all replicas or processes together."""
    seconds: float
    cpu_ms: dict[str, float]
    """CPU milliseconds per sample by who spent them: `draw` (the replicas or processes), `driver`, `ray` (its
    daemons); who could not be watched is absent."""
    figures: dict[str, float] = field(default_factory=dict)
    """Further figures of the engine's windows."""


@dataclass(frozen=True)
class Spread:
    """Repeated values of one quantity."""

    median: float
    lowest: float
    highest: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median, minimum and maximum of at least one value."""
    return Spread(median(values), min(values), max(values), len(values))


def ratios(values: Sequence[tuple[str, float]], of: str, to: str) -> list[float]:
    """Each value of one side over those of the other side that are next to it in time.

    Where there is one before and one after, their mean is taken: a machine that slowly gets faster or slower, or
    busier with other people's work, then cancels out.

    Args:
        values: in order of time.
        of: the side that is judged.
        to: the side it is judged by; at least one value.
    """
    result = []
    for position, (side, value) in enumerate(values):
        if side == of:
            before = [other for name, other in values[:position] if name == to][-1:]
            after = [other for name, other in values[position:] if name == to][:1]
            result.append(value / fmean(before + after))
    return result


def throughput(windows: Sequence[Window]) -> list[tuple[Side, float]]:
    """Samples per second of each window."""
    return [(window.side, window.samples_per_second) for window in windows]


def samples_per_cpu_second(windows: Sequence[Window]) -> list[tuple[Side, float]]:
    """Samples per second of CPU time that anybody spent on them.

    On cores that are all busy with this work, the ratio of two sides is the ratio of their throughput; and other
    people's work on the same machine changes it little.
    """
    return [(window.side, 1e3 / sum(window.cpu_ms.values())) for window in windows]

"""Numbers as text: accuracies rounded down, radii by `raycp.statistics.round_down`, parameters exactly."""

from __future__ import annotations

import math

DASH = "–"
"""Stands for "no figure"."""


def percent(count: int, total: int) -> str:
    """count/total in percent, one decimal, rounded down; in integers, so that 29/100 is 29.0 and not 28.9."""
    tenths = 1000 * count // total
    return f"{tenths // 10}.{tenths % 10}"


def exact(value: float) -> str:
    """The shortest decimal that is this float64: 0.25, 1, 0.0625. NaN is what an imported log does not say."""
    if math.isnan(value):
        return "not said"
    return repr(float(value)).removesuffix(".0")


def duration(seconds: float) -> str:
    """Seconds in words: 12.3 s, 4 min 05 s, 2 h 07 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"

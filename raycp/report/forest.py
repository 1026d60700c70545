"""Paired differences drawn as intervals about a zero line: one small SVG for each, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from raycp.report.claims import CONFIRMED, CONTRADICTED, UNDECIDED, CheckedClaim

WIDTH, HEIGHT = 260, 26
"""Of one interval, SVG units."""
KINDS = {CONFIRMED: "confirmed", CONTRADICTED: "contradicted", UNDECIDED: "undecided"}
"""Verdict -> class of its colour."""
_MARGIN = 12


def limit_of(checked: Sequence[CheckedClaim]) -> float:
    """Percentage points from the zero line to the edge that hold every interval: a round number, at least 1."""
    largest = 100 * max(
        (abs(end) for item in checked for end in (item.comparison.low, item.comparison.high)), default=0
    )
    unit = 10.0 ** math.floor(math.log10(max(largest, 1.0)))
    return next(unit * factor for factor in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if unit * factor >= largest)


def interval_svg(item: CheckedClaim, limit: float) -> Markup:
    """The interval of a claim at one sigma and radius, a square at the difference."""
    c = item.comparison
    low, middle, high = (_x(100 * value, limit) for value in (c.low, c.difference, c.high))
    y = HEIGHT / 2
    return Markup(
        f'<svg class="interval {KINDS[item.verdict]}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<path class="grid" d="M{_x(-limit / 2, limit)},0V{HEIGHT}M{_x(limit / 2, limit)},0V{HEIGHT}"/>'
        f'<path class="zero" d="M{_x(0, limit)},0V{HEIGHT}"/>'
        f'<path class="whisker" d="M{low},{y - 4}V{y + 4}M{low},{y}H{high}M{high},{y - 4}V{y + 4}"/>'
        f'<rect x="{middle - 4}" y="{y - 4}" width="8" height="8"/></svg>'
    )


def signed(text: str) -> str:
    """With minus signs for hyphens."""
    return text.replace("-", "−")


def axis_svg(limit: float) -> Markup:
    """The scale, for the head of the column."""
    ticks = "".join(
        f'<text x="{_x(value, limit)}" y="16" text-anchor="middle">{signed(f"{value:+g}") if value else "0"}</text>'
        for value in (-limit, -limit / 2, 0, limit / 2, limit)
    )
    return Markup(f'<svg class="interval" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{ticks}</svg>')


def _x(points: float, limit: float) -> float:
    return round(WIDTH / 2 + points / limit * (WIDTH / 2 - _MARGIN), 1)

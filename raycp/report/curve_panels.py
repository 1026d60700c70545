"""Certified-accuracy curves with their confidence bands as inline SVG, a panel for each sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from raycp.report.curves import Curve
from raycp.report.numerals import exact
from raycp.statistics import share_interval

WIDTH, HEIGHT = 480, 330
"""Of a panel, SVG units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 40


@dataclass(frozen=True)
class Panel:
    """The curves of one sigma."""

    sigma: float
    svg: Markup


@dataclass(frozen=True)
class Scale:
    """From radius and share to SVG units."""

    right: float
    """Radius at the right edge."""
    top: float
    """Share at the upper edge."""

    def x(self, radius: float) -> float:
        """Of a radius."""
        return round(_LEFT + radius / self.right * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, share: float) -> float:
        """Of a certified accuracy between 0 and 1."""
        return round(HEIGHT - _BOTTOM - share / self.top * (HEIGHT - _TOP - _BOTTOM), 1)


def curve_panels(
    curves: Sequence[Curve], methods: Sequence[str], radii: Sequence[float]
) -> tuple[Panel, ...]:
    """Draw the curves; what is of method k has the class `mk`, a band `band`.

    A band holds the exact 95% interval of each point by itself (`share_interval`); a curve of which images are still
    undecided has none, because those that are decided first are no random ones.

    Args:
        curves: of all methods and sigmas.
        methods: the order of the classes.
        radii: those that are marked, pixel units.
    """
    sigmas = sorted({curve.sigma for curve in curves}, key=lambda sigma: (math.isnan(sigma), sigma))
    bands = {id(curve): band(curve) for curve in curves}
    highest = max((float(high_K.max(initial=0)) for _, high_K in bands.values()), default=1.0)
    top = min(1.0, max(0.05, math.ceil(20 * highest) / 20))
    panels = []
    for sigma in sigmas:
        here = [curve for curve in curves if exact(curve.sigma) == exact(sigma)]
        right = 1.05 * max((float(c.radius_K[-1]) for c in here if len(c.radius_K)), default=1.0)
        scale = Scale(right or 1.0, top)
        parts = [_grid(scale, radii)]
        for curve in here:
            number = methods.index(curve.run)
            if curve.decided == curve.num_images and len(curve.radius_K):
                low_K, high_K = bands[id(curve)]
                parts.append(
                    f'<path class="band m{number}" d="{_band_path(scale, curve.radius_K, low_K, high_K)}"/>'
                )
        for curve in here:
            title = f"<title>{Markup.escape(curve.run)}</title>"
            path = _curve_path(scale, curve.radius_K, curve.accuracy_K)
            parts.append(f'<path class="curve m{methods.index(curve.run)}" d="{path}">{title}</path>')
        words = (
            f"Certified accuracy against the L2 radius at σ = {exact(sigma)}; the steps are in curves.csv."
        )
        head = f'<svg class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
        svg = f"{head}{''.join(parts)}</svg>"
        panels.append(Panel(sigma, Markup(svg)))
    return tuple(panels)


def band(curve: Curve) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper end of the interval of every step of a curve [K], each by itself."""
    ends = [share_interval(round(float(a) * curve.total), curve.total) for a in curve.accuracy_K]
    both_K2 = np.array(ends, dtype=np.float64).reshape(-1, 2)
    return both_K2[:, 0], both_K2[:, 1]


def _steps(
    scale: Scale, radius_K: npt.NDArray[np.float64], share_K: npt.NDArray[np.float64]
) -> list[tuple[float, float]]:
    """Corners of a step function that is share_K[i] on (radius_K[i-1], radius_K[i]]; those that fall together once."""
    corners: list[tuple[float, float]] = []
    left = scale.x(0.0)
    for radius, share in zip(radius_K, share_K, strict=True):
        right, y = scale.x(float(radius)), scale.y(float(share))
        corners += [(left, y), (right, y)]
        left = right
    return [corner for i, corner in enumerate(corners) if i == 0 or corner != corners[i - 1]]


def _curve_path(scale: Scale, radius_K: npt.NDArray[np.float64], share_K: npt.NDArray[np.float64]) -> str:
    corners = _steps(scale, radius_K, share_K) or [(scale.x(0.0), scale.y(0.0))]
    return f"M{_points(corners)}V{scale.y(0.0):g}"


def _band_path(
    scale: Scale,
    radius_K: npt.NDArray[np.float64],
    low_K: npt.NDArray[np.float64],
    high_K: npt.NDArray[np.float64],
) -> str:
    upper, lower = _steps(scale, radius_K, high_K), _steps(scale, radius_K, low_K)
    return f"M{_points([*upper, *reversed(lower)])}Z"


def _points(corners: Sequence[tuple[float, float]]) -> str:
    """`x,y` of the first corner, then only what changes."""
    (x, y), *rest = corners
    words = [f"{x:g},{y:g}"]
    for new_x, new_y in rest:
        if new_x != x and new_y != y:
            words.append(f"L{new_x:g},{new_y:g}")
        elif new_x != x:
            words.append(f"H{new_x:g}")
        elif new_y != y:
            words.append(f"V{new_y:g}")
        x, y = new_x, new_y
    return "".join(words)


def _grid(scale: Scale, radii: Sequence[float]) -> str:
    left, right, bottom, top = scale.x(0.0), scale.x(scale.right), scale.y(0.0), scale.y(scale.top)
    parts = []
    for percent in _ticks(100 * scale.top):
        y = scale.y(percent / 100)
        parts.append(f'<path class="grid" d="M{left},{y}H{right}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{percent:g}</text>')
    for radius in _ticks(scale.right):
        x = scale.x(radius)
        parts.append(f'<path class="grid" d="M{x},{bottom}V{top}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{radius:g}</text>')
    for eps in radii:
        if 0 < eps <= scale.right:
            parts.append(f'<path class="mark" d="M{scale.x(eps)},{bottom}V{top}"/>')
    below = f'x="{(left + right) / 2}" y="{HEIGHT - 6}"'
    beside = f'transform="translate(12,{(top + bottom) / 2}) rotate(-90)"'
    parts.append(f'<path class="axis" d="M{left},{top}V{bottom}H{right}"/>')
    parts.append(f'<text {below} text-anchor="middle">L2 radius ε (pixel units)</text>')
    parts.append(f'<text {beside} text-anchor="middle">certified accuracy (%)</text>')
    return "".join(parts)


def _ticks(end: float) -> list[float]:
    """Round numbers from 0 to `end`, four to eight of them."""
    unit = 10.0 ** math.floor(math.log10(end))
    step = next(unit * factor for factor in (0.1, 0.2, 0.5, 1.0, 2.0) if end / (unit * factor) <= 8)
    return [round(step * i, 10) for i in range(int(end / step + 1e-9) + 1)]

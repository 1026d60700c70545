"""The pictures of a comparison, a colour for each method: curves, a panel for each sigma, and accuracy against cost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from raycp.report.curves import Curve
from raycp.report.numerals import exact
from raycp.report.pareto import COSTS, Cost, Point, front
from raycp.report.theme import LIGHT, Theme

_PANEL_INCHES = (3.5, 2.9)
_DPI = 160
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("solid", (0, (5.0, 1.6)), (0, (1.2, 1.4)), (0, (5.0, 1.6, 1.2, 1.6)))
_FILLS = ("full", "none", "left", "bottom")
"""Of a marker, for each dash."""
_AXES: dict[Cost, str] = {"gflop": "GFLOP per image", "seconds": "device seconds per image"}
_LEGEND_CHARACTERS = 96
"""That fit beside each other below two panels."""
_COST_MARGIN = 1.8
_DECADES = 200.0
"""Costs that are further apart than this factor have ticks at powers of ten only."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn: the colour, and the dash as matplotlib has it."""

    colour: str
    dash: Any


def draw_method_curves(curves: Sequence[Curve], title: str, theme: Theme = LIGHT) -> bytes:
    """Certified accuracy over the radius as a PNG.

    Args:
        curves: at least one; `run` is the method.
        title: under which conditions.
        theme: colours of the page it is for.
    """
    sigmas = sorted({curve.sigma for curve in curves})
    looks = looks_of([curve.run for curve in curves], theme)
    columns = min(3, len(sigmas))
    figure, panels = panel_figure(-(-len(sigmas) // columns), columns, len(sigmas), title, theme)
    for axes, sigma in zip(panels, sigmas, strict=True):
        prepared(axes, f"σ = {exact(sigma)}", theme)
        here = [curve for curve in curves if curve.sigma == sigma]
        for curve in here:
            # Constant on (x[i-1], x[i]], as in `curve_plot`; the last point is the fall to 0.
            x = np.concatenate([[0.0], curve.radius_K, curve.radius_K[-1:]])
            y = np.concatenate([[curve.at(0.0)], curve.accuracy_K, np.zeros(min(1, len(curve.radius_K)))])
            look = looks[curve.run]
            axes.step(x, 100 * y, where="pre", color=look.colour, linestyle=look.dash, linewidth=1.5)
        axes.set_xlim(0, 1.05 * max((c.radius_K[-1] for c in here if len(c.radius_K)), default=1.0))
        axes.set_ylim(0, 102)
        axes.set_xlabel("L2 radius ε (pixel units)", fontsize=8, color=theme.text)
        axes.set_ylabel("certified accuracy (%)", fontsize=8, color=theme.text)
    images = {curve.run: curve.num_images for curve in curves}
    of_images = len(set(images.values())) > 1
    keys = [
        Line2D([], [], color=look.colour, linestyle=look.dash, linewidth=2, label=label)
        for method, look in looks.items()
        for label in [f"{method} ({images[method]:,} images)" if of_images else method]
    ]
    return finished_png(figure, keys, theme)


def draw_pareto(points: Sequence[Point], title: str, theme: Theme = LIGHT) -> bytes:
    """Certified accuracy against cost as a PNG: a row for each radius, a column for each cost that is known.

    The line joins the points that no other one beats; see `front`.

    Args:
        points: at least one, of a known cost.
        title: under which conditions.
        theme: colours of the page it is for.
    """
    costs = [kind for kind in COSTS if any(point.cost(kind) is not None for point in points)]
    radii = sorted({point.eps for point in points})
    sigmas = sorted({point.sigma for point in points})
    looks = looks_of([point.method for point in points], theme)
    markers = {sigma: _MARKERS[number % len(_MARKERS)] for number, sigma in enumerate(sigmas)}
    figure, panels = panel_figure(len(radii), len(costs), len(radii) * len(costs), title, theme)
    places = ((eps, kind) for eps in radii for kind in costs)
    for axes, (eps, kind) in zip(panels, places, strict=True):
        prepared(axes, f"ε = {exact(eps)}", theme)
        here = [
            (cost, point) for point in points if point.eps == eps and (cost := point.cost(kind)) is not None
        ]
        unbeaten = front([point for _, point in here], kind)
        ends = [(cost, 100 * point.accuracy) for cost, point in here if point in unbeaten]
        axes.plot(*zip(*sorted(ends)), drawstyle="steps-post", color=theme.muted, linewidth=1.6, zorder=1)
        for cost, point in here:
            style = marker_of(looks[point.method], markers[point.sigma])
            axes.plot([cost], [100 * point.accuracy], zorder=3, **style)
        _prepare_cost(axes, [cost for cost, _ in here])
        axes.margins(y=0.12)
        axes.set_xlabel(_AXES[kind], fontsize=8, color=theme.text)
        axes.set_ylabel("certified accuracy (%)", fontsize=8, color=theme.text)
    keys = [Line2D([], [], label=method, **marker_of(look, "o")) for method, look in looks.items()]
    shapes = [
        Line2D([], [], label=f"σ = {exact(sigma)}", **marker_of(Look(theme.text, "solid"), marker))
        for sigma, marker in markers.items()
    ]
    shapes.append(Line2D([], [], color=theme.muted, linewidth=2, label="unbeaten"))
    panels[0].legend(handles=shapes, fontsize=7, labelcolor=theme.text, facecolor=theme.background)
    return finished_png(figure, keys, theme)


def looks_of(methods: Sequence[str], theme: Theme) -> dict[str, Look]:
    """A colour for each method in the order of appearance; where they run out, again with the next dash."""
    names = list(dict.fromkeys(methods))
    count = len(theme.sigmas)
    return {
        name: Look(theme.sigmas[number % count], _DASHES[number // count % len(_DASHES)])
        for number, name in enumerate(names)
    }


def marker_of(look: Look, shape: str) -> dict[str, Any]:
    """Of a method, for matplotlib: filled, or hollow where a colour comes again, then half filled."""
    return {
        "linestyle": "none",
        "marker": shape,
        "markersize": 7,
        "markeredgewidth": 1.4,
        "color": look.colour,
        "fillstyle": _FILLS[_DASHES.index(look.dash)],
        "markerfacecoloralt": "none",
        "alpha": 0.85,
    }


def panel_figure(rows: int, columns: int, count: int, title: str, theme: Theme) -> tuple[Figure, list[Axes]]:
    """A figure with its title, and so many panels in rows and columns."""
    width = max(2 * _PANEL_INCHES[0], columns * _PANEL_INCHES[0])
    figure = Figure(
        figsize=(width, rows * _PANEL_INCHES[1] + 0.6),
        dpi=_DPI,
        layout="constrained",
        facecolor=theme.background,
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=theme.text, parse_math=False)
    return figure, [figure.add_subplot(rows, columns, number + 1) for number in range(count)]


def _prepare_cost(axes: Axes, costs: Sequence[float]) -> None:
    """A logarithmic axis wide enough for two labelled ticks, whatever the costs are."""
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / _COST_MARGIN, max(costs) * _COST_MARGIN)
    steps = (1.0, 2.0, 5.0) if max(costs) < _DECADES * min(costs) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """500k rather than 500000, which ticks beside each other have no room for."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def prepared(axes: Axes, title: str, theme: Theme) -> None:
    """Give a panel its title, and its colours and grid."""
    axes.set_title(title, loc="left", fontsize=9, color=theme.text)
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.muted, linewidth=0.5, alpha=0.7)
    axes.tick_params(colors=theme.text, which="both", labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.muted)


def finished_png(figure: Figure, keys: Sequence[Line2D], theme: Theme) -> bytes:
    """The figure with its legend below it, as a PNG."""
    longest = max(len(str(key.get_label())) for key in keys)
    columns = max(1, min(len(keys), _LEGEND_CHARACTERS // (longest + 8)))
    legend = figure.legend(
        handles=list(keys), loc="outside lower center", ncols=columns, frameon=False, fontsize=8,
        labelcolor=theme.text,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)  # draws without pyplot and its global state
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()

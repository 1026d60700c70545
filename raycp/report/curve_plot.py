"""The picture of the certified-accuracy curves: one colour per sigma, one line style per run."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from raycp.report.conditions import Conditions, conditions
from raycp.report.curves import Curve
from raycp.report.numerals import exact
from raycp.report.results import RunLike, labels_of
from raycp.report.theme import LIGHT, Theme

_SIZE_INCHES = (7.2, 5.0)
_DPI = 180
_LEGEND: dict[str, Any] = {"frameon": False, "handlelength": 3.2, "fontsize": 9}


def draw_curves(runs: Sequence[RunLike], curves: Sequence[Curve], theme: Theme = LIGHT) -> bytes:
    """The curves as a PNG; see `curve_figure`."""
    figure = curve_figure(runs, curves, theme)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)  # draws without pyplot and its global state
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def curve_figure(runs: Sequence[RunLike], curves: Sequence[Curve], theme: Theme = LIGHT) -> Figure:
    """The curves as a figure, one line each, in their order.

    Args:
        runs: the runs, in the order of the line styles.
        curves: `certified_curves(runs)`, at least one.
        theme: colours of the page it is for.
    """
    labels = labels_of(runs)
    setups = dict(zip(labels, map(conditions, runs), strict=True))
    sigmas = sorted({curve.sigma for curve in curves}, key=lambda sigma: (math.isnan(sigma), sigma))
    colours = dict(zip(sigmas, theme.colours(len(sigmas)), strict=True))
    styles = dict(zip(labels, map(_line_style, range(len(labels))), strict=True))
    end = _right_edge(curves, setups)

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained", facecolor=theme.background)
    axes = figure.add_subplot()
    _prepare(axes, end, theme)
    axes.set_title(_title(curves, setups), loc="left", fontsize=10, color=theme.text)
    for curve in curves:
        # "pre" draws y[i] on (x[i-1], x[i]]: the value at a radius is that of radius >= eps. The last point is the
        # fall to 0; the line does not run on along the axis, where several would hide each other.
        x = np.concatenate([[0.0], curve.radius_K, curve.radius_K[-1:]])
        y = np.concatenate([[curve.at(0.0)], curve.accuracy_K, np.zeros(min(1, len(curve.radius_K)))])
        colour, style = colours[curve.sigma], styles[curve.run]
        axes.step(x, 100 * y, where="pre", color=colour, linestyle=style, linewidth=1.8)

    keys = [_sigma_key(sigma, colour, curves if len(runs) == 1 else ()) for sigma, colour in colours.items()]
    if _one_protocol(setups):
        keys += _mark_largest_radii(axes, setups[labels[0]], colours, end, theme)
    partial = any(curve.decided < curve.num_images for curve in curves)
    columns = 3 if partial else 4  # the keys of unfinished curves are wider
    _colour(
        axes.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, **_LEGEND),
        theme,
    )
    if len(runs) > 1:
        keys = [_run_key(run, style, curves, setups, theme) for run, style in styles.items()]
        _colour(
            figure.legend(handles=keys, loc="outside lower center", ncols=min(3, len(keys)), **_LEGEND), theme
        )
    return figure


def _line_style(index: int) -> Any:
    """Solid for the first run, then a dash and one more dot for each further one."""
    return "solid" if index == 0 else (0, (5.0, 1.6, *((1.0, 1.6) * (index - 1))))


def _right_edge(curves: Sequence[Curve], setups: Mapping[str, Conditions]) -> float:
    ends = [float(curve.radius_K[-1]) for curve in curves if len(curve.radius_K)]
    ends += [eps for setup in setups.values() for eps in setup.radii]
    return 1.05 * max(ends, default=0.0) or 1.0


def _prepare(axes: Axes, end: float, theme: Theme) -> None:
    axes.set_xlim(0, end)
    axes.set_ylim(0, 102)
    axes.set_xlabel("L2 radius ε (pixel units, images in [0,1])", color=theme.text)
    axes.set_ylabel("certified accuracy (% of images)", color=theme.text)
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.muted, linewidth=0.5, alpha=0.7)
    axes.tick_params(colors=theme.text)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.muted)


def _one_protocol(setups: Mapping[str, Conditions]) -> bool:
    return len({(s.num_selection, s.num_estimation, s.alpha, s.bound) for s in setups.values()}) == 1


def _protocol_in_words(setup: Conditions) -> str:
    parts = []
    if setup.num_estimation is not None:
        parts.append(f"N = {setup.num_estimation:,}")
    if setup.alpha is not None:
        parts.append(f"α = {exact(setup.alpha)}")
    return ", ".join(parts) or "N and α not recorded"


def _title(curves: Sequence[Curve], setups: Mapping[str, Conditions]) -> str:
    protocol = _protocol_in_words(next(iter(setups.values()))) if _one_protocol(setups) else "N and α below"
    planned = sorted({curve.num_images for curve in curves})
    if any(curve.decided < curve.num_images for curve in curves):
        images = "PARTIAL"
    else:
        images = " to ".join(f"{count:,}" for count in dict.fromkeys((planned[0], planned[-1]))) + " images"
    return f"Certified accuracy, {protocol}, {images}"


def _sigma_key(sigma: float, colour: str, curves: Sequence[Curve]) -> Line2D:
    label = f"σ = {exact(sigma)}" + _progress([curve for curve in curves if curve.sigma == sigma])
    return Line2D([], [], color=colour, linewidth=2.4, label=label)


def _run_key(
    run: str, style: Any, curves: Sequence[Curve], setups: Mapping[str, Conditions], theme: Theme
) -> Line2D:
    # matplotlib leaves out labels that start with an underscore, which the name of a run may do.
    label = textwrap.fill(f"run {run}", 28)
    if not _one_protocol(setups):
        label += f"\n{_protocol_in_words(setups[run])}"
    label += _progress([curve for curve in curves if curve.run == run])
    return Line2D([], [], color=theme.text, linestyle=style, linewidth=1.6, label=label)


def _mark_largest_radii(
    axes: Axes, setup: Conditions, colours: Mapping[float, str], end: float, theme: Theme
) -> list[Line2D]:
    """A triangle on the axis where N ends each curve; returns the key to them, if there are any."""
    limits = {sigma: setup.largest_radius(sigma) for sigma in colours}
    shown = {sigma: limit for sigma, limit in limits.items() if limit is not None and 0 <= limit <= end}
    for sigma, limit in shown.items():
        axes.plot([limit], [0], marker=6, markersize=7, color=colours[sigma], clip_on=False, zorder=5)
    key = Line2D([], [], color=theme.text, marker=6, linestyle="none", label="largest radius N can certify")
    return [key] if shown else []


def _progress(curves: Sequence[Curve]) -> str:
    """One line per unfinished curve: how many of its images are decided."""
    counts = dict.fromkeys((c.decided, c.num_images) for c in curves if c.decided < c.num_images)
    return "".join(f"\n{decided:,} of {num_images:,} decided" for decided, num_images in counts)


def _colour(legend: Legend, theme: Theme) -> None:
    for text in legend.get_texts():
        text.set_color(theme.text)
        text.set_parse_math(False)

"""The metrics of purified images as a picture: a panel for each, a group for each sigma, a point for each method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from raycp.report.evaluation import METRICS, MetricRow
from raycp.report.method_plots import finished_png, looks_of, marker_of, panel_figure, prepared
from raycp.report.numerals import exact
from raycp.report.theme import LIGHT, Theme

SHOWN = {
    "accuracy": "accuracy of purified samples (%)",
    "fid": "FID to the clean images",
    "lpips": "LPIPS to the clean image",
    "transport": "transport E|x − x̂| (pixel units)",
}
"""The metrics that have a panel, and its title."""
_FAR = 4.0
"""Distances further apart than this factor are drawn on a logarithmic axis."""
_GROUP = 0.8
"""Of the width between two sigmas, what the methods of one take."""


def draw_quality(
    rows: Sequence[MetricRow], methods: Sequence[str], title: str, theme: Theme = LIGHT
) -> bytes:
    """Accuracy, FID, LPIPS and transport, as far as they were measured, with their bootstrap intervals, as a PNG.

    Args:
        rows: of purified images, at least one.
        methods: names in the order of the other pictures of the comparison, which gives them their colours.
        title: under which conditions.
        theme: colours of the page it is for.
    """
    metrics = [metric for metric in METRICS if metric in SHOWN and any(row.metric == metric for row in rows)]
    names = list(dict.fromkeys(row.evaluation for row in rows))
    sigmas = sorted({row.sigma for row in rows})
    looks = looks_of(list(dict.fromkeys([*methods, *names])), theme)
    columns = 3 if len(metrics) == 3 else min(2, len(metrics))
    figure, panels = panel_figure(-(-len(metrics) // columns), columns, len(metrics), title, theme)
    for axes, metric in zip(panels, metrics, strict=True):
        prepared(axes, SHOWN[metric], theme)
        factor = 100 if metric == "accuracy" else 1
        here = [row for row in rows if row.metric == metric]
        lowest, highest = min(row.low for row in here), max(row.high for row in here)
        if metric != "accuracy" and 0 < lowest < highest / _FAR:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        for row in here:
            place = (names.index(row.evaluation) + 0.5) / len(names) - 0.5
            x = sigmas.index(row.sigma) + _GROUP * place
            look = looks[row.evaluation]
            axes.plot(
                [x, x], [factor * row.low, factor * row.high], color=look.colour, linewidth=1.4, alpha=0.85
            )
            axes.plot([x], [factor * row.value], **{**marker_of(look, "o"), "markersize": 5})
        axes.set_xticks(range(len(sigmas)), [f"σ = {exact(sigma)}" for sigma in sigmas])
        axes.set_xlim(-0.5, len(sigmas) - 0.5)
        axes.grid(visible=False, axis="x")
    keys = [Line2D([], [], label=name, **marker_of(looks[name], "o")) for name in names]
    return finished_png(figure, keys, theme)

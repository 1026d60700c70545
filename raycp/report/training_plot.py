"""The pictures of a training: the loss of each stage, and what validation found."""

from __future__ import annotations

import io
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raycp.report.theme import LIGHT, Theme
from raycp.report.training_record import StageRecord

_PANEL_INCHES = (3.6, 2.7)
_DPI = 150
_LOG_RANGE = 5
_NAMES = {
    "accuracy": "accuracy (%)",
    "purified_accuracy": "accuracy after purification (%)",
    "noisy_accuracy": "accuracy on noise (%)",
    "cross_entropy": "cross-entropy",
    "l2": "L2 distance to the clean image (pixel units)",
    "lpips": "LPIPS",
}


def draw_stage(stage: StageRecord, theme: Theme = LIGHT) -> bytes:
    """Loss and validation of one stage as a PNG, one panel for each figure, one line for each noise level."""
    panels = _panels(stage.metrics)
    count = 1 + len(panels)
    columns = min(count, 2 if count in (2, 4) else 3)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), dpi=_DPI, layout="constrained",
        facecolor=theme.background,
    )  # fmt: skip
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    _prepare(axes[0], "loss", theme)
    if stage.loss:
        steps = sorted(stage.loss)
        axes[0].plot(steps, [stage.loss[step] for step in steps], color=theme.sigmas[0], linewidth=1.2)
        if 0 < _LOG_RANGE * min(stage.loss.values()) < max(stage.loss.values()):
            axes[0].set_yscale("log")
    for place, (kind, lines) in zip(axes[1:], panels.items(), strict=True):
        _prepare(place, _NAMES.get(kind, kind), theme)
        factor = 100 if kind.endswith("accuracy") else 1
        for colour, (level, points) in zip(theme.colours(len(lines)), lines.items(), strict=True):
            steps = sorted(points)
            label = f"σ = {level}" if level else None
            values = [factor * points[step] for step in steps]
            place.plot(steps, values, color=colour, linewidth=1.5, marker="o", markersize=3, label=label)
    keys = {label: handle for place in axes for handle, label in zip(*place.get_legend_handles_labels())}
    if keys:
        figure.legend(
            list(keys.values()), list(keys), loc="outside lower center", ncols=len(keys), frameon=False,
            fontsize=8, labelcolor=theme.text,
        )  # fmt: skip
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panels(metrics: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, dict[int, float]]]:
    """Values by kind of figure, noise level ("" without one) and step."""
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for step, figures in metrics.items():
        for name, value in figures.items():
            kind, _, level = name.partition("@")
            panels.setdefault(kind, {}).setdefault(level, {})[step] = value
    return panels


def _prepare(axes: Axes, title: str, theme: Theme) -> None:
    axes.set_title(title, loc="left", fontsize=8, color=theme.text)
    axes.set_xlabel("step", fontsize=7, color=theme.text)
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.muted, linewidth=0.5, alpha=0.7)
    axes.tick_params(colors=theme.text, which="both", labelsize=7)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.muted)

"""The picture of a simulation: what each image costs by its p_A, and what the rules certify."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.special import ndtri

from raycp.report.numerals import exact
from raycp.report.theme import LIGHT, Theme
from raycp.simulate.replay import FIXED, Replayed
from raycp.simulate.simulation import REFERENCE, Simulation

Floats = npt.NDArray[np.float64]

_SIZE_INCHES = (12.6, 5.4)
_DPI = 160
_GROUPS = 150
_TICKS = (0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999)


def draw_simulation(simulation: Simulation, theme: Theme = LIGHT) -> bytes:
    """The two panels as a PNG; see `simulation_figure`."""
    figure = simulation_figure(simulation, theme)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)  # draws without pyplot and its global state
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def simulation_figure(simulation: Simulation, theme: Theme = LIGHT) -> Figure:
    """Left: samples per image against sigma Phi^-1(p_A). Right: certified accuracy against the radius."""
    colours = dict(zip((FIXED, *simulation.rules), theme.colours(1 + len(simulation.rules)), strict=True))
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained", facecolor=theme.background)
    left, right = figure.subplots(1, 2)
    _draw_samples(left, simulation, colours, theme)
    _draw_accuracy(right, simulation, colours, theme)
    protocol = simulation.protocol
    title = (
        f"{simulation.images.name}, σ = {exact(simulation.images.sigma)}, {len(simulation.images):,} images, "
        f"N = {protocol.num_estimation:,}, α = {exact(protocol.alpha)}, {simulation.replays} replays of rules"
        f"{', skip_wrong' if protocol.skip_wrong else ''}"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=theme.text, parse_math=False)
    return figure


def _draw_samples(axes: Axes, simulation: Simulation, colours: dict[str, str], theme: Theme) -> None:
    _prepare(axes, theme)
    images, sigma = simulation.images, simulation.images.sigma
    end = float(ndtri(1 - 0.5 / simulation.protocol.num_estimation))
    z_M = np.clip(ndtri(np.clip(images.p_A_M, 1e-9, 1 - 1e-9)), -end, end)
    shown_M = ~(images.wrong_M & simulation.protocol.skip_wrong)
    for eps in simulation.radii:
        axes.axvline(eps, color=theme.muted, linewidth=1.2, linestyle=(0, (1, 2)), zorder=0)
    drawn = {name: simulation.outcomes[name].samples_RM.mean(axis=0) for name in (FIXED, *simulation.rules)}
    for name, samples_M in drawn.items():
        x, y = z_M[shown_M] * sigma, samples_M[shown_M]
        axes.plot(x, y, ".", color=colours[name], markersize=2, alpha=0.25, zorder=1)
        axes.plot(*_averaged(x, y), color=colours[name], linewidth=1.8, label=name, zorder=3)
    known = shown_M & (simulation.reference_M > 0)
    if known.any():
        order = np.argsort(z_M[known], kind="stable")
        x, y = z_M[known][order] * sigma, simulation.reference_M[known][order]
        axes.plot(x, y, color=theme.text, linewidth=1.3, linestyle=(0, (4, 2)), label=REFERENCE, zorder=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("samples per image, mean over replays", color=theme.text)
    axes.set_xlabel("σ Φ⁻¹(p_A): the radius that p_A allows (pixel units); dotted: eps", color=theme.text)
    top = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
    low, high = axes.get_xlim()
    ticks = [p for p in _TICKS if low <= sigma * ndtri(p) <= high]
    top.set_xticks([sigma * float(ndtri(p)) for p in ticks], [f"{p:g}" for p in ticks])
    top.set_xlabel("p_A (right end: not a single miss)", color=theme.text)
    top.tick_params(colors=theme.text)
    top.spines["top"].set_color(theme.muted)
    _legend(axes, theme)


def _averaged(x: Floats, y: Floats) -> tuple[list[float], list[float]]:
    """Means of x and y over groups of neighbours in x, at most `_GROUPS` of them."""
    order = np.argsort(x, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order)))
    return [float(x[group].mean()) for group in groups], [float(y[group].mean()) for group in groups]


def _draw_accuracy(axes: Axes, simulation: Simulation, colours: dict[str, str], theme: Theme) -> None:
    _prepare(axes, theme)
    right_M = simulation.images.right_M
    curves = {name: _curve(simulation.outcomes[name], right_M) for name in colours}
    for name, (x, y) in curves.items():
        axes.step(x, 100 * y, where="pre", color=colours[name], linewidth=1.8, label=name)
        found = [at for at in simulation.accuracies if at.rule == name]
        axes.plot([at.eps for at in found], [100 * at.accuracy.mean for at in found], "o", markersize=5,
                  color=colours[name], zorder=4, clip_on=False)  # fmt: skip
    axes.plot([], [], "o", color=theme.text, markersize=5, label="at the eps of the table")
    axes.set_xlim(0, 1.03 * max([float(x[-1]) for x, _ in curves.values()] + [simulation.radii[-1]]) or 1.0)
    axes.set_ylim(0, None)
    axes.set_xlabel("L2 radius ε (pixel units, images in [0,1])", color=theme.text)
    axes.set_ylabel("certified accuracy (% of images), mean over replays", color=theme.text)
    _legend(axes, theme)


def _curve(outcome: Replayed, right_M: npt.NDArray[np.bool_]) -> tuple[Floats, ...]:
    """Radii, and the share of (replay, image) pairs that are right with at least that radius."""
    held = outcome.radius_RM[:, right_M]
    radii, counts = np.unique(held[held >= 0], return_counts=True)
    share = counts[::-1].cumsum()[::-1] / outcome.radius_RM.size
    x = np.concatenate([[0.0], radii, radii[-1:]])
    y = np.concatenate([share[:1] if share.size else [0.0], share, np.zeros(min(1, len(radii)))])
    return x, y


def _prepare(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.muted, linewidth=0.5, alpha=0.7)
    axes.tick_params(which="both", colors=theme.text)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.muted)


def _legend(axes: Axes, theme: Theme) -> None:
    legend = axes.legend(frameon=False, fontsize=9, loc="best")
    for text in legend.get_texts():
        text.set_color(theme.text)
        text.set_parse_math(False)

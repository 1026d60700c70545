"""A simulation and a plan as aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from raycp.report.numerals import DASH, exact
from raycp.simulate.replay import FIXED
from raycp.simulate.simulation import Figure, Simulation


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns under one line of headings: names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        [
            row[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines) + "\n"


def simulation_text(simulation: Simulation) -> str:
    """Under which conditions, the table of samples, and the table of certified accuracies."""
    images, protocol = simulation.images, simulation.protocol
    title = (
        f"{images.name}, sigma {exact(images.sigma)}, {len(images):,} images, {simulation.replays} "
        f"replay{'s' if simulation.replays > 1 else ''}, seed {simulation.seed}\n"
        f"N0 = {protocol.num_selection:,}, N = {protocol.num_estimation:,}, alpha = {exact(protocol.alpha)}"
        f"{', skip_wrong' if protocol.skip_wrong else ''}\n"
    )
    return "\n".join([title, aligned(_cost_rows(simulation)), aligned(_accuracy_rows(simulation))])


def _cost_rows(simulation: Simulation) -> list[list[str]]:
    rows = [["samples per image", "mean", "±", "median", "90%", "fewer", "x knows p_A"]]
    for cost in simulation.costs:
        times = DASH if cost.times_reference is None else f"{cost.times_reference:.2f}"
        rows.append(
            [
                cost.rule,
                f"{cost.mean.mean:,.0f}",
                _error(cost.mean, 0),
                f"{cost.median:,.0f}",
                f"{cost.percentile_90:,.0f}",
                f"{cost.fewer:.1f}x",
                times,
            ]
        )
    return rows


def _accuracy_rows(simulation: Simulation) -> list[list[str]]:
    rows = [["certified accuracy, %", *(f"eps={exact(eps)}" for eps in simulation.radii)]]
    for rule in (FIXED, *simulation.rules):
        found = [accuracy for accuracy in simulation.accuracies if accuracy.rule == rule]
        rows.append([rule, *(f"{100 * at.accuracy.mean:.2f}" for at in found)])
        if rule != FIXED:
            rows.append(["  below fixed, points", *(f"{100 * at.gap.mean:.3f}" for at in found)])
            rows.append(["  ±", *(_error(at.gap, 3, 100) for at in found)])
    return rows


def _error(figure: Figure, decimals: int, scale: float = 1) -> str:
    return DASH if figure.error is None else f"{scale * figure.error:,.{decimals}f}"

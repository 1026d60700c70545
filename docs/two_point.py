"""The figure and the table of docs/transport.md, from closed forms and quadrature. Run: python docs/two_point.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from raycp.quality.two_point import consistency_distance, posterior_mean_distance

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#5b6169"  # Okabe and Ito
LEVELS = np.geomspace(0.15, 20, 200)
DRAWN = np.geomspace(0.3, 15, 9)
TABLE = (0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
DRAWS = 200_000
Floats = npt.NDArray[np.float64]


def drawn(t: float) -> dict[str, tuple[float, float]]:
    """Mean |x0 - x_hat| and mean squared, by Monte Carlo, of both maps."""
    rng = np.random.default_rng(0)
    x0 = rng.choice([-1.0, 1.0], DRAWS)
    x = x0 + t * rng.normal(size=DRAWS)
    found = {}
    for name, purified in (("consistency", np.sign(x)), ("posterior mean", np.tanh(x / t**2))):
        error = np.abs(x0 - purified)
        found[name] = (float(error.mean()), float((error**2).mean()))
    return found


def plot() -> None:
    """Distance and squared distance against t, exact and drawn; the ratio of the two maps."""
    maps = {"consistency": (consistency_distance, BLUE), "posterior mean": (posterior_mean_distance, ORANGE)}
    labels = {"consistency": "consistency, sign(x)", "posterior mean": "one-step DDPM, tanh(x / t²)"}
    samples = {float(t): drawn(float(t)) for t in DRAWN}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for power, title in ((1, "transport  E |x0 - x̂|"), (2, "squared distance  E |x0 - x̂|²")):
        ax = axes[power - 1]
        for name, (exact, colour) in maps.items():
            ax.plot(LEVELS, [exact(t, power) for t in LEVELS], color=colour, label=labels[name])
            ax.plot(DRAWN, [samples[t][name][power - 1] for t in samples], "o", color=colour, ms=4)
        ax.set(title=title, ylim=(0, 1.05 * power))
    for power, style, label in ((1, "-", "transport"), (2, "--", "squared distance")):
        ratio = [posterior_mean_distance(t, power) / consistency_distance(t, power) for t in LEVELS]
        axes[2].plot(LEVELS, ratio, style, color=GREY, label=label)
    axes[2].axhline(1, color="#c8ccd2", lw=1, zorder=0)
    axes[2].set(title="one-step DDPM / consistency", ylim=(0, 2.05))
    axes[2].legend(loc="lower right", frameon=False)
    for ax in axes:
        ax.set(xscale="log", xlabel="noise t, model units")
        ax.set_xticks([0.2, 0.5, 1, 2, 5, 20], ["0.2", "0.5", "1", "2", "5", "20"])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].plot([], [], "o", color=GREY, ms=4, label="drawn; the lines are exact")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "two-point.png", dpi=110)
    plt.close(figure)


def main() -> None:
    """The figure, and the table in Markdown."""
    plot()
    print("| t | T consistency | T one-step DDPM | squared, consistency | squared, one-step DDPM |")
    print("|---|---|---|---|---|")
    for t in TABLE:
        figures = [f(t, power) for power in (1, 2) for f in (consistency_distance, posterior_mean_distance)]
        print(f"| {t:g} | " + " | ".join(f"{value:.4g}" for value in figures) + " |")


if __name__ == "__main__":
    main()

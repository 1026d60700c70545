"""The figures of docs/sequential.md, computed exactly from raycp. Run: python docs/sequential_plots.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from raycp.certify.boundaries import BoundaryTable, boundary_tables
from raycp.config import CertifyProtocol
from raycp.statistics import certified_radius, clopper_pearson_lower
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import (
    binomial_pmf,
    crossing_probability,
    efficacy_boundary,
    geometric_looks,
    spending,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5b6169"  # Okabe and Ito
SIGMA, N, ALPHA = 0.5, 100_000, 1e-3
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
Floats = npt.NDArray[np.float64]


def table_of(rule: str) -> BoundaryTable:
    """The boundaries of a run with the default looks."""
    protocol = CertifyProtocol.model_validate(
        {"rule": rule, "sigmas": (SIGMA,), "num_estimation": N, "alpha": ALPHA}
    )
    return boundary_tables(protocol, {SIGMA: 0.0}, RADII)[SIGMA]


def least_votes(n: int, p0: float, alpha: float) -> int:
    """The fewest votes of n that a fixed-N bound takes as proof of p_A > p0."""
    return int(efficacy_boundary(p0, [n], [alpha])[0])


def save(figure: Figure, name: str) -> None:
    """Write a small PNG."""
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / name, dpi=110)
    plt.close(figure)


def add_probability_axis(ax: Axes, shares: tuple[float, ...]) -> None:
    """p_A on top of an axis of true radii in units of sigma."""
    top = ax.secondary_xaxis("top")
    top.set_xticks(ndtri(shares), [f"{share:g}" for share in shares])
    top.set_xlabel("true $p_A$")


def error_curves(table: BoundaryTable) -> None:
    """The error of a whole table against the true radius: highest at the radii of its grid, lowest just beyond one."""
    looks = table.looks_J.tolist()
    p_G = ndtr(table.radii_G / SIGMA)
    shown = range(1, len(p_G), 3)
    z = table.radii_G[list(shown)] / SIGMA
    at = [crossing_probability(p_G[g], looks, table.efficacy_GJ[g])[-1] for g in shown]
    beyond = [crossing_probability(p_G[g - 1] * (1 + 1e-9), looks, table.efficacy_GJ[g])[-1] for g in shown]
    peeking = [
        crossing_probability(p_G[g], looks, [least_votes(n, p_G[g], ALPHA) for n in looks])[-1] for g in shown
    ]
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    ax.plot(z, peeking, color=ORANGE, lw=1.6, ls="-.", label="mistake: a Clopper-Pearson bound at every look")
    ax.axhline(ALPHA, color="black", lw=1.2, ls="--", label=r"$\alpha = 0.001$")
    ax.plot(z, at, color=BLUE, lw=1.4, label="decide, true radius on the grid of radii")
    ax.fill_between(
        z, beyond, at, color=BLUE, alpha=0.25, lw=0, label="decide, true radius between two of them"
    )
    ax.set(yscale="log", ylim=(8e-6, 5e-2), xlim=(-0.05, 3.9), xlabel=r"true radius / $\sigma$")
    ax.set_ylabel("probability of a false certificate")
    add_probability_axis(ax, (0.5, 0.7, 0.9, 0.98, 0.999, 0.9999))
    ax.grid(alpha=0.3)
    ax.legend(loc="lower left", framealpha=1)
    save(figure, "sequential-error.png")
    print(f"error on the grid: {min(at):.2e} to {max(at):.2e}; peeking: up to {max(peeking):.2e}")


def operating_curve(table: BoundaryTable, p: float) -> tuple[float, Floats]:
    """Expected samples, and the chance of each radius of the table, exactly.

    At every look a prefix of the radii is certified and a suffix given up, so that the state is the count and the two
    lengths; paths with the same state are one.
    """
    efficacy_RJ, futility_RJ = table.efficacy_GJ[table.decided_R], table.futility_RJ
    R, looks = len(efficacy_RJ), table.looks_J.tolist()
    states: dict[tuple[int, int], tuple[int, Floats]] = {(0, 0): (0, np.ones(1))}
    expected, certified_R, drawn = 0.0, np.zeros(R), 0
    for j, look in enumerate(looks):
        first, pmf = binomial_pmf(look - drawn, p)
        expected += (look - drawn) * sum(mass.sum() for _, mass in states.values())
        drawn = look
        reached: dict[tuple[int, int], list[tuple[int, Floats]]] = {}
        for (certified, given_up), (lowest, before) in states.items():
            mass, start = np.convolve(before, pmf), lowest + first
            counts = start + np.arange(len(mass))
            now = np.maximum(certified, (counts[:, None] >= efficacy_RJ[:, j]).sum(axis=1))
            up = np.maximum(given_up, (counts[:, None] <= futility_RJ[:, j]).sum(axis=1))
            for key in {(int(a), int(b)) for a, b in zip(now, up, strict=True)}:
                part = np.flatnonzero((now == key[0]) & (up == key[1]) & (mass > 1e-12))
                if not part.size:
                    continue
                if sum(key) >= R:
                    certified_R[: key[0]] += mass[part].sum()
                else:
                    piece = np.where((now == key[0]) & (up == key[1]), mass, 0.0)[part[0] : part[-1] + 1]
                    reached.setdefault(key, []).append((start + int(part[0]), piece))
        states = {key: merged(pieces) for key, pieces in reached.items()}
    return expected, certified_R


def merged(pieces: list[tuple[int, Floats]]) -> tuple[int, Floats]:
    """The sum of masses that begin at different counts."""
    lowest = min(start for start, _ in pieces)
    total = np.zeros(max(start + len(mass) for start, mass in pieces) - lowest)
    for start, mass in pieces:
        total[start - lowest : start - lowest + len(mass)] += mass
    return lowest, total


def power_and_samples(table: BoundaryTable) -> None:
    """The chance of a radius just inside the true one, and the samples per image against the true radius."""
    offsets = np.array([-0.06, -0.03, -0.015, -0.007, *np.arange(0, 0.045, 0.004), 0.05, 0.06, 0.08, 0.1])
    z = np.unique(np.concatenate([(r / SIGMA + offsets) for r in RADII] + [np.linspace(-0.6, 3.4, 81)]))
    curves = [operating_curve(table, float(ndtr(x))) for x in z]
    samples, power_R = np.array([c[0] for c in curves]), np.array([c[1] for c in curves])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
    for radius, colour, marker in ((0.0, BLUE, "o"), (0.5, ORANGE, "s"), (1.0, GREEN, "^")):
        r, z0 = RADII.index(radius), radius / SIGMA
        near = np.abs(z - z0) <= 0.11
        u = least_votes(N, float(ndtr(z0)), ALPHA)
        fixed = [crossing_probability(float(ndtr(x)), [N], [u])[-1] for x in z[near]]
        style = {"color": colour, "marker": marker, "ms": 4, "lw": 1.5}
        top.plot(z[near] - z0, power_R[near, r], label=f"decide, radius {radius:g}", **style)
        top.plot(
            z[near] - z0, fixed, label=f"fixed N, radius {radius:g}", **(style | {"ls": ":", "mfc": "white"})
        )
    top.set(xlim=(-0.02, 0.105), ylim=(-0.03, 1.05), ylabel="probability of the certificate")
    top.set_xlabel(r"(true radius $-$ radius to be certified) / $\sigma$")
    top.legend(loc="lower right", framealpha=1)
    bottom.plot(z, samples, color=BLUE, lw=1.8, label="decide, expected")
    bottom.axhline(N, color=ORANGE, lw=1.3, ls="--", label="fixed N")
    bottom.set(yscale="log", ylim=(80, 2e5), ylabel="samples per image", xlabel=r"true radius / $\sigma$")
    bottom.legend(loc="lower right", framealpha=1)
    add_probability_axis(bottom, (0.3, 0.5, 0.69, 0.84, 0.933, 0.977, 0.994, 0.999))
    for ax in (top, bottom):
        ax.grid(alpha=0.3)
    save(figure, "sequential-power.png")
    for x in (-0.5, 0.25, 1.25, 3.0):
        print(f"true radius {x:g} sigma: {np.interp(x, z, samples):.0f} samples expected")
    print(f"most samples expected: {samples.max():.0f}, at true radius {z[samples.argmax()]:.3f} sigma")


def last_radius(votes: int, looks: tuple[int, ...], spent_J: Floats) -> float:
    """The largest radius / sigma that so many votes at the last look certify, to 1e-4."""
    low, high = 0.0, 4.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if efficacy_boundary(float(ndtr(middle)), looks, spent_J)[-1] <= votes:
            low = middle
        else:
            high = middle
    return low


def radius_at_the_last_look() -> None:
    """What a run to the end costs in radius against a fixed-N bound on the same votes."""
    looks = geometric_looks(N)
    votes = N - np.unique(np.r_[0, 1, 2, 3, np.round(np.geomspace(4, 0.49 * N, 30))]).astype(int)
    fixed = np.array([certified_radius(1.0, clopper_pearson_lower(int(k), N, ALPHA)) for k in votes])
    figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for name, share, colour, style in (("decide", 0.3, BLUE, "o-"), ("anytime", 0.5, GREEN, "s--")):
        spent_J = spending(len(looks), ALPHA, share)
        lost = fixed - np.array([last_radius(int(k), looks, spent_J) for k in votes])
        label = f"{name} ({share:g} of $\\alpha$ kept for the last look)"
        ax.plot(fixed, lost, style, color=colour, lw=1.4, ms=3.5, label=label)
        print(
            f"{name}: sigmas lost at the last look: {lost[fixed < 2].max():.4f} below 2 sigma, {lost.max():.4f}"
        )
    mixture = np.array([certified_radius(1.0, e_process_lower(int(k), N, ALPHA)) for k in votes])
    ax.plot(fixed, fixed - mixture, "^-.", color=PINK, lw=1.4, ms=3.5, label="e_process")
    ax.set(
        xlabel=r"radius / $\sigma$ of Clopper-Pearson on the same 100,000 votes",
        xlim=(0, 3.85),
        ylim=(0, 0.07),
    )
    ax.set_ylabel(r"radius lost / $\sigma$")
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left", framealpha=1)
    save(figure, "sequential-radius.png")


def boundaries(table: BoundaryTable) -> None:
    """Efficacy and futility of three radii as shares of votes."""
    figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
    looks = table.looks_J
    for radius, colour, marker in ((0.0, BLUE, "o"), (0.5, ORANGE, "s"), (1.0, GREEN, "^")):
        (r,) = np.flatnonzero(table.radii_G[table.decided_R] == radius)
        efficacy, futility = table.efficacy_GJ[table.decided_R[r]], table.futility_RJ[r]
        there, give_up = efficacy <= looks, futility >= 0
        give_up[-1] = False
        ax.plot(looks[there], efficacy[there] / looks[there], color=colour, marker=marker, ms=3.5, lw=1.2)
        ax.plot(
            looks[give_up],
            futility[give_up] / looks[give_up],
            color=colour,
            marker=marker,
            ms=3.5,
            lw=1.2,
            ls=":",
            mfc="white",
        )
        ax.axhline(float(ndtr(radius / SIGMA)), color=colour, lw=0.8, alpha=0.7)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        ax.text(1.4e5, float(ndtr(radius / SIGMA)), f"radius {radius:g}", color=colour, va="center", bbox=box)
    ax.plot([], [], color=GREY, marker="o", ms=3.5, label="certified at or above")
    ax.plot([], [], color=GREY, marker="o", ms=3.5, ls=":", mfc="white", label="given up at or below")
    ax.set(
        xscale="log",
        xlim=(90, 3.2e5),
        ylim=(0.3, 1.02),
        xlabel="samples $L_j$",
        ylabel="share of votes $H_j / L_j$",
    )
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", framealpha=1)
    save(figure, "sequential-boundaries.png")


def main() -> None:
    """Write all figures."""
    table = table_of("decide")
    error_curves(table)
    power_and_samples(table)
    radius_at_the_last_look()
    boundaries(table)


if __name__ == "__main__":
    main()

"""The figure and the table of docs/scale.md: the real driver over replicas on paper, Ray's calls charged to its clock.

raycp bench --only dispatch --json dispatch.json
python docs/scale_plots.py dispatch.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

from raycp.bench.dispatch_ceiling import Dispatched, Looked, call_costs
from raycp.bench.virtual_cluster import Driven, Troubles, drive

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent / "figures"
COLOURS = ("#cc79a7", "#d55e00", "#0072b2", "#009e73")  # Okabe and Ito
REPLICAS = (100, 200, 500, 1_000, 2_000, 4_000)
TASK_SECONDS = (1.0, 2.0, 5.0, 20.0)
TROUBLES = {
    "none": Troubles(),
    "one in twenty replicas 4 times slower": Troubles(straggler_share=0.05),
    "each replica lost after an hour on average, 60 s to replace it": Troubles(
        mean_life_seconds=3600.0, start_seconds=60.0
    ),
    "both": Troubles(straggler_share=0.05, mean_life_seconds=3600.0, start_seconds=60.0),
    "both, lost after ten minutes": Troubles(
        straggler_share=0.05, mean_life_seconds=600.0, start_seconds=60.0
    ),
}
SECONDS = 60.0


def plot(found: dict[float, list[Driven]]) -> None:
    """Utilisation and the driver's load against the number of replicas."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for colour, (seconds, driven) in zip(COLOURS, found.items(), strict=True):
        label = f"tasks of {seconds:g} s"
        for axes, figures in (
            (left, [100 * d.utilisation for d in driven]),
            (right, [100 * d.driver_cores for d in driven]),
        ):
            axes.plot([d.replicas for d in driven], figures, "o-", color=colour, label=label, ms=4)
    for axes, title in ((left, "replicas inside tasks, % of their time"), (right, "driver, % of a core")):
        axes.set(xscale="log", xlabel="replicas", title=title, ylim=(0, 105))
        axes.set_xticks(REPLICAS, [f"{n:,}" for n in REPLICAS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.axhline(95, color="#5b6169", lw=1, ls=":")
    left.legend(loc="lower left")
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / "scale.png", dpi=110)


def main(path: str) -> None:
    """The figure, and the tables in Markdown."""
    record = json.loads(Path(path).read_text())
    calls = call_costs(
        [Dispatched(**d) for d in record["dispatched"]], [Looked(**k) for k in record["looked"]]
    )
    print(
        f"{1e3 * calls.task_seconds:.2f} ms per task, {1e6 * calls.look_seconds:.2f} us per call and look\n"
    )
    found = {s: [drive(n, s, SECONDS, calls=calls) for n in REPLICAS] for s in TASK_SECONDS}
    plot(found)
    print("| replicas | " + " | ".join(f"{s:g} s" for s in TASK_SECONDS) + " |")
    for position, n in enumerate(REPLICAS):
        cells = [found[s][position] for s in TASK_SECONDS]
        print(
            f"| {n:,} | "
            + " | ".join(f"{100 * d.utilisation:.1f} ({100 * d.driver_cores:.0f})" for d in cells)
            + " |"
        )
    print()
    for name, troubles in TROUBLES.items():
        driven = drive(1_000, 5.0, 5 * SECONDS, calls=calls, troubles=troubles)
        print(
            f"| {name} | {100 * driven.utilisation:.1f} | {100 * driven.driver_cores:.0f} | {driven.lost} |"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The cascade beside the noise levels it is made of: certified accuracy, ACR, abstentions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raycp.report.numerals import DASH, exact, percent
from raycp.report.results import RunLike
from raycp.report.table import certified_table
from raycp.statistics import ABSTAIN, average_certified_radius, certified_accuracy, round_down

NAME = "cascade"


def cascade_records(run: RunLike, certificates: pa.Table) -> list[dict[str, Any]]:
    """One record per noise level of a run, one of their envelope, and the cascade's last; in full precision.

    Args:
        run: the run.
        certificates: of the cascade; columns predicted, radius, correct.

    Returns:
        Records: row, certified_accuracy_at_EPS in [0, 1] (None: not attainable), acr (None: envelope), abstained.
    """
    table = certified_table([run])
    records = []
    for row in table.rows:
        name = "envelope" if row.sigma is None else f"sigma {exact(row.sigma)}"
        accuracies = [cell.accuracy for cell in row.cells]
        records.append(_record(name, table.radii, accuracies, row.acr, row.abstained))
    radius_M = certificates["radius"].to_numpy()
    correct_M = certificates["correct"].to_numpy(zero_copy_only=False)
    predicted_M = certificates["predicted"].to_numpy()
    accuracies = [certified_accuracy(radius_M, correct_M, eps) for eps in table.radii]
    acr = average_certified_radius(radius_M, correct_M)
    return [*records, _record(NAME, table.radii, accuracies, acr, int((predicted_M == ABSTAIN).sum()))]


def cascade_text(run: RunLike, certificates: pa.Table, sigmas: Sequence[float], alpha: float) -> str:
    """The same for reading, accuracies in percent, rounded down; and which noise level decides how often."""
    records, total = cascade_records(run, certificates), len(certificates)
    radii = [name.rpartition("_")[2] for name in records[0] if name.startswith("certified_accuracy_at_")]
    lines = [["", *(f"eps={eps}" for eps in radii), "ACR", "abstained"]]
    for record in records:
        accuracies = [record[f"certified_accuracy_at_{eps}"] for eps in radii]
        acr, abstained = record["acr"], record["abstained"]
        lines.append(
            [
                record["row"],
                *(DASH if a is None else percent(round(a * total), total) for a in accuracies),
                DASH if acr is None else round_down(acr, 3),
                DASH if abstained is None else str(abstained),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))])
        for line in lines
    )
    decides = certificates["sigma"].to_numpy()
    shares = ", ".join(f"sigma {exact(sigma)} of {int(np.sum(decides == sigma))}" for sigma in sigmas)
    return (
        f"{table}\nOf {total} images decides {shares}. One certificate per image, alpha = {exact(alpha)}.\n"
    )


def _record(
    name: str,
    radii: Sequence[float],
    accuracies: Sequence[float | None],
    acr: float | None,
    abstained: int | None,
) -> dict[str, Any]:
    at = {f"certified_accuracy_at_{exact(eps)}": value for eps, value in zip(radii, accuracies, strict=True)}
    return {"row": name, **at, "acr": acr, "abstained": abstained}

"""The table as text: aligned columns, CSV and JSON records. Figures are rounded down, never up."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from raycp.report.numerals import DASH, exact, percent
from raycp.report.table import ENVELOPE, Table, TableRow
from raycp.statistics import round_down


def heading(table: Table) -> list[str]:
    """Names of the columns of `cells`."""
    radii = [f"eps={exact(eps)}" for eps in table.radii]
    return ["run", "sigma", "images", *radii, "ACR", "abstained", "samples", "seconds"]


def cells(row: TableRow) -> list[str]:
    """One row as text: accuracies in percent, radii with three decimals, both rounded down."""
    images = f"{row.decided}/{row.num_images}" if row.partial else str(row.num_images)
    accuracies = [DASH if c.count is None else percent(c.count, c.total) for c in row.cells]
    return [
        row.run,
        "envelope" if row.sigma is None else exact(row.sigma),
        images,
        *accuracies,
        DASH if row.acr is None else round_down(row.acr, 3),
        DASH if row.abstained is None else str(row.abstained),
        DASH if row.samples is None else f"{row.samples:,}",
        DASH if row.seconds is None else f"{row.seconds:,.1f}",
    ]


def plain_text(table: Table) -> str:
    """Aligned columns under one line of headings: names to the left, figures to the right."""
    return aligned([heading(table), *(cells(row) for row in table.rows)])


def aligned(lines: Sequence[Sequence[str]], names: int = 1) -> str:
    """Lines of cells as columns: the first `names` of them to the left, figures to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = (
        [
            text.ljust(width) if column < names else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in padded) + "\n"


def records(table: Table) -> list[dict[str, Any]]:
    """One flat dict of plain values per row, in full precision; None where there is no figure.

    Beside imported logs also the counts with every radius read half a printed unit lower and higher.
    """
    rounded = any(cell.printed for row in table.rows for cell in row.cells)
    result = []
    for row in table.rows:
        record: dict[str, Any] = {
            "run": row.run,
            "row": "sigma" if row.sigma is not None else ENVELOPE,
            "sigma": None if row.sigma is None or math.isnan(row.sigma) else row.sigma,
            "images": row.num_images,
            "decided": row.decided,
        }
        for cell in row.cells:
            at = exact(cell.eps)
            record[f"certified_accuracy_at_{at}"] = cell.accuracy
            record[f"certified_images_at_{at}"] = cell.count
            if rounded:
                least, most = cell.printed or (cell.count, cell.count)
                record[f"certified_images_read_lower_at_{at}"] = least
                record[f"certified_images_read_higher_at_{at}"] = most
            record[f"certified_images_lower_bound_at_{at}"] = cell.lower_bound
        record |= {
            "acr": row.acr,
            "abstained": row.abstained,
            "skipped_wrong": row.skipped,
            "samples": row.samples,
            "seconds": row.seconds,
            "largest_attainable_radius": _finite(row.largest_radius),
        }
        result.append(record)
    return result


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Flat records as CSV with a header line; an absent figure is an empty field."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _finite(radius: float | None) -> float | None:
    return radius if radius is not None and radius >= 0 else None

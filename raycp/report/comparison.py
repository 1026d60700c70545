"""The table of a comparison: certified accuracy of every method, and beside it what the method costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raycp.report.conditions import NOT_RECORDED, conditions
from raycp.report.formats import aligned, cells, heading, records
from raycp.report.numerals import DASH
from raycp.report.results import RunLike
from raycp.report.table import Table, TableRow

IMPORTED = " (imported)"
"""What stands after the name of published logs."""


@dataclass(frozen=True)
class MethodRow:
    """One sigma of one method, or (sigma None) an envelope, which has no cost of its own."""

    row: TableRow
    classifier: str | None
    """None: an envelope over methods that do not share it; likewise `data`."""
    data: str | None
    evaluations: int | None
    """Calls of the purifier's network for one sample; None where the run did not record them."""
    operations: float | None
    """Floating-point operations of one sample, all networks; None likewise."""
    imported: bool
    """Whether it is of published logs: nothing was drawn, and cost and classifier are not known."""

    @property
    def seconds_per_sample(self) -> float | None:
        """Device seconds, as the run measured them."""
        return self.row.seconds / self.row.samples if self.row.seconds and self.row.samples else None

    @property
    def samples_per_image(self) -> float | None:
        """Mean over the images with a row."""
        return self.row.samples / self.row.listed if self.row.samples and self.row.listed else None

    def per_image(self, per_sample: float | None) -> float | None:
        """A cost of a sample as one of an image."""
        samples = self.samples_per_image
        return None if per_sample is None or samples is None else per_sample * samples


def method_rows(runs: Sequence[RunLike], table: Table) -> list[MethodRow]:
    """The rows of a table of these runs, in its order."""
    of_label = {run.name: run for run in runs}
    return [
        _joint_row([_method_row(of_label[member], row) for member in row.members or (row.run,)])
        for row in table.rows
    ]


def _joint_row(rows: Sequence[MethodRow]) -> MethodRow:
    """One row of what is true of all of these."""
    first = rows[0]
    return replace(
        first,
        classifier=first.classifier if len({row.classifier for row in rows}) == 1 else None,
        data=first.data if len({row.data for row in rows}) == 1 else None,
        imported=all(row.imported for row in rows),
    )


def _method_row(run: RunLike, row: TableRow) -> MethodRow:
    setup = conditions(run)
    cost = (run.config.get("sample_cost") or {}).get(str(row.sigma), {})
    classifier = setup.classifier if setup.core is None else f"{setup.classifier} or the core {setup.core}"
    return MethodRow(
        row,
        classifier,
        setup.data,
        cost.get("evaluations"),
        cost.get("operations"),
        imported=bool(setup.imported),
    )


def comparison_text(table: Table, rows: Sequence[MethodRow]) -> str:
    """The table for reading: accuracies and radii rounded down; classifier and data where methods differ in them."""
    drawn = [row for row in rows if not row.imported and row.row.sigma is not None]
    names = [
        (name, [_said(getattr(row, name)) for row in rows])
        for name in ("classifier", "data")
        if len({getattr(row, name) for row in drawn}) > 1
    ]
    _, *middle, _ = heading(table)
    lines = [["method", *(name for name, _ in names), *middle, "evaluations", "GFLOP/sample", "ms/sample"]]
    for number, row in enumerate(rows):
        method, *middle, _ = cells(row.row)
        cost = [
            DASH if row.evaluations is None else str(row.evaluations),
            _three_digits(row.operations, 1e-9),
            _three_digits(row.seconds_per_sample, 1e3),
        ]
        method += IMPORTED * row.imported
        lines.append([method, *(values[number] for _, values in names), *middle, *cost])
    return aligned(lines, names=1 + len(names))


def _said(text: str | None) -> str:
    return DASH if text is None or text == NOT_RECORDED else text


def _three_digits(value: float | None, unit: float) -> str:
    return DASH if value is None else f"{value * unit:.3g}"


def comparison_records(table: Table, rows: Sequence[MethodRow]) -> list[dict[str, Any]]:
    """One flat dict of plain values per row, in full precision; None where there is no figure."""
    result = []
    for record, row in zip(records(table), rows, strict=True):
        del record["run"]
        result.append(
            {
                "method": row.row.run,
                "imported": row.imported,
                "classifier": row.classifier,
                "data": row.data,
            }
            | record
            | {
                "network_evaluations": row.evaluations,
                "gflop_per_sample": None if row.operations is None else row.operations / 1e9,
                "seconds_per_sample": row.seconds_per_sample,
                "members": " ".join(row.row.members),
            }
        )
    return result

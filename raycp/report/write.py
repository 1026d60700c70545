"""Write a report: report.html; the table, the curves and the images as CSV; the curves and example samples as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from raycp.errors import StorageError
from raycp.report.conditions import conditions
from raycp.report.curve_plot import draw_curves
from raycp.report.curves import certified_curves, curve_records
from raycp.report.examples import read_examples
from raycp.report.formats import csv_text, records
from raycp.report.grid import draw_grid
from raycp.report.page import all_image_rows, render_page
from raycp.report.results import RunLike
from raycp.report.table import certified_table


def write_report(runs: Sequence[RunLike], folder: Path, made: datetime, out: str | None = None) -> list[Path]:
    """Write the report of one or several runs into `folder`, replacing an earlier one file by file.

    Args:
        runs: at least one run.
        folder: made if it does not exist.
        made: the time to print on the page.
        out: the `--out` the user gave, for the command that the page prints.

    Returns:
        The files, the page first. Without a decided image there is no picture of curves, without example samples
        none of a grid; with several runs there is one grid each, examples-1.png on.

    Raises:
        StorageError: the certificates or examples are damaged, or the folder cannot be written.
    """
    table, curves = certified_table(runs), certified_curves(runs)
    contents: dict[str, str | bytes] = {
        "report.html": render_page(runs, table, curves, made, out),
        "table.csv": csv_text(records(table)),
    }
    rows = all_image_rows(runs)
    if rows:
        contents["images.csv"] = csv_text(rows)
    if curves:
        contents["curves.csv"] = csv_text(curve_records(curves))
        contents["curves.png"] = draw_curves(runs, curves)
    for number, run in enumerate(runs, start=1):
        examples = read_examples(run, conditions(run).class_names)
        if examples.triplets:
            contents["examples.png" if len(runs) == 1 else f"examples-{number}.png"] = draw_grid(examples)
    return write_files(folder, contents)


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write files into a folder, made if need be, each whole at once.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_replace(folder / name, content) for name, content in contents.items()]
    except OSError as err:
        raise StorageError(f"cannot write the report to {folder}: {err.strerror or err}.") from err


def _replace(path: Path, content: str | bytes) -> Path:
    """Write beside the file and rename, so that nobody reads half of it."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return beside.replace(path)

"""One self-contained HTML page: no network, no script but its own, light and dark, fit for paper."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import raycp
from raycp.report.conditions import NOT_RECORDED, Conditions, conditions
from raycp.report.curve_plot import draw_curves
from raycp.report.curves import Curve
from raycp.report.examples import COLUMNS, Examples, png, read_examples
from raycp.report.image_rows import CASES, OUTCOMES, image_rows, script_data
from raycp.report.numerals import DASH, duration, exact, percent
from raycp.report.provenance import configuration_text, numerics_in_words, recorded_facts, report_command
from raycp.report.results import RunLike, SigmaResults, labels_of, read_sigmas
from raycp.report.summary import headline, indices_in_words, spread_in_words, summary
from raycp.report.table import ENVELOPE, RHO, Table, TableRow
from raycp.report.theme import DARK, LIGHT
from raycp.statistics import round_down


@dataclass(frozen=True)
class SigmaSection:
    """The details of one sigma of one run, as text; a dash where nothing is decided yet."""

    row: TableRow
    headline: str
    right: str
    """Images whose certified class is their label."""
    wrong: str
    """Images with a certificate for another class."""
    abstained: str
    skipped: str
    radius_spread: str
    largest_radius: str
    lower_bounds: tuple[str, ...]
    """Per radius of the table."""
    device_time: str
    indices: str
    """The decided images."""


@dataclass(frozen=True)
class RunSection:
    """What the page says about one run."""

    label: str
    run: RunLike
    conditions: Conditions
    summary: str
    sigmas: tuple[SigmaSection, ...]
    indices: str
    """The images of the run."""
    examples: Examples
    numerics: str
    facts: list[tuple[str, str]]
    configuration: str

    @property
    def partial(self) -> bool:
        """Whether images of this run are still undecided."""
        return not self.run.complete or any(sigma.row.partial for sigma in self.sigmas)


def render_page(
    runs: Sequence[RunLike], table: Table, curves: Sequence[Curve], made: datetime, out: str | None = None
) -> str:
    """The report as HTML; pure but for reading the template.

    Args:
        runs: the runs, in the order of the table.
        table: `certified_table(runs)`.
        curves: `certified_curves(runs)`.
        made: the time to print, with its zone.
        out: the `--out` of the command, for the line that makes the report again.
    """
    runs = tuple(runs)
    script = script_text("table.js", "images.js")
    sections = [run_section(label, run, table) for label, run in zip(labels_of(runs), runs, strict=True)]
    rows = all_image_rows(runs)
    return (
        environment()
        .get_template("report.html")
        .render(
            sections=sections,
            rows=rows,
            data=script_data(rows),
            outcomes=OUTCOMES,
            cases=CASES,
            script=script,
            script_source=script_source(script) if rows else "",
            table=table,
            curves_light=draw_curves(runs, curves, LIGHT) if curves else None,
            curves_dark=draw_curves(runs, curves, DARK) if curves else None,
            columns=COLUMNS,
            envelope=ENVELOPE,
            rho=RHO,
            percent=percent,
            round_down=round_down,
            light=LIGHT,
            dark=DARK,
            made=made,
            version=raycp.__version__,
            command=report_command(runs, out),
        )
    )


def environment() -> Environment:
    """The templates of this package, with the filters they use."""
    made = Environment(
        loader=PackageLoader("raycp.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"exact": exact, "data_uri": _data_uri, "png": png}
    return made


def run_section(label: str, run: RunLike, table: Table) -> RunSection:
    """What a page says about one run.

    Args:
        label: what `table` calls it.
        run: the run.
        table: its rows, among others.
    """
    setup, results = conditions(run), read_sigmas(run)
    rows = [row for row in table.rows if row.run == label and row.sigma is not None]
    sigmas = tuple(_sigma_section(row, result) for row, result in zip(rows, results, strict=True))
    decided = np.concatenate([result.image_index_M for result in results])
    return RunSection(
        label=label,
        run=run,
        conditions=setup,
        summary=summary(rows, setup),
        sigmas=sigmas,
        indices=indices_in_words(decided if setup.image_index is None else setup.image_index),
        examples=read_examples(run, setup.class_names),
        numerics=numerics_in_words(results),
        facts=recorded_facts(run),
        configuration=configuration_text(run),
    )


def _sigma_section(row: TableRow, results: SigmaResults) -> SigmaSection:
    right = int(results.correct_M.sum())
    certified = int((~results.abstained_M & ~results.skipped_M).sum())
    limit = row.largest_radius
    return SigmaSection(
        row=row,
        headline=headline(row),
        right=str(right) if row.decided else DASH,
        wrong=str(certified - right) if row.decided else DASH,
        abstained=DASH if row.abstained is None else str(row.abstained),
        skipped=DASH if row.skipped is None else str(row.skipped),
        radius_spread=spread_in_words(results),
        largest_radius=NOT_RECORDED if limit is None else round_down(limit, 3) if limit >= 0 else "none",
        lower_bounds=tuple(
            DASH
            if c.lower_bound is None
            else f"{percent(c.lower_bound, c.total)}% ({c.lower_bound}/{c.total})"
            for c in row.cells
        ),
        device_time=DASH if row.seconds is None else duration(row.seconds),
        indices=indices_in_words(results.image_index_M),
    )


def all_image_rows(runs: Sequence[RunLike]) -> list[dict[str, Any]]:
    """`image_rows` of several runs, one after the other."""
    names = zip(labels_of(runs), runs, strict=True)
    return [row for label, run in names for row in image_rows(label, run, conditions(run).class_names)]


def script_text(*names: str) -> str:
    """Scripts of this package, one after the other."""
    folder = resources.files("raycp.report")
    return "".join(folder.joinpath(name).read_text("utf-8") for name in names)


def script_source(script: str) -> str:
    """What the content security policy says for this one script to run, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"; script-src 'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")

"""The comparison of the methods of a suite as one self-contained HTML page, made like that of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import raycp
from raycp.report.claims import CONFIDENCE, verdict_counts
from raycp.report.curve_panels import curve_panels
from raycp.report.findings import Findings
from raycp.report.forest import KINDS, axis_svg, interval_svg, limit_of, signed
from raycp.report.image_rows import OUTCOMES, script_json
from raycp.report.method_images import method_image_data, same_images, sample_grid
from raycp.report.method_plots import draw_pareto, looks_of
from raycp.report.method_table import shown_groups
from raycp.report.method_words import (
    claim_outcomes,
    cost_sentence,
    leaders,
    metric_outcomes,
    shared_conditions,
    subject,
)
from raycp.report.numerals import DASH, duration
from raycp.report.page import RunSection, environment, run_section, script_source, script_text
from raycp.report.paired import interval_text
from raycp.report.quality import named
from raycp.report.quality_page import quality_section
from raycp.report.table import ENVELOPE
from raycp.report.theme import DARK, LIGHT

_STROKE = 1.8
"""Width of a curve, SVG units; comparison.css has it too."""


@dataclass(frozen=True)
class Making:
    """What the page says of its own making, which is not found in the runs.

    Attributes:
        suite: the words of a command that name the suite, `raycp compare SUITE` and its overrides.
        command: the command line that makes the page again.
        made: the time, with its zone.
        absent: why a method of the suite has no row, by its name.
    """

    suite: tuple[str, ...]
    command: str
    made: datetime
    absent: Mapping[str, str] = field(default_factory=dict)

    def alone(self, method: str) -> str:
        """The command that makes the run of one method elsewhere."""
        return shlex.join([*self.suite, "--out", "DIR", "--only", method])


@dataclass(frozen=True)
class MethodSection:
    """What the page says of one method beside its rows."""

    section: RunSection
    network: str
    """Where the weights of the purifier lie."""
    evaluations: str
    """Of the purifier's network, for a sample."""
    state: str
    samples: str
    device_time: str
    abstained: str
    skipped: str
    """Images that `skip_wrong` left out of the estimation."""


def render_comparison(found: Findings, making: Making) -> str:
    """The page as HTML; pure but for reading the template.

    Raises:
        StorageError: the examples of a method are damaged.
    """
    same = same_images(found.runs)
    groups = shown_groups(found, same)
    methods = [run.name for run in found.runs]
    drawn = found.drawn
    data = method_image_data(same, found.table.radii)
    script = script_text("table.js", "comparison.js")
    sections = [_method(run_section(run.name, run, found.table), found) for run in found.runs]
    items = found.checked.items
    limit = limit_of(items)
    rules = {section.section.conditions.rule for section in sections}
    return (
        environment()
        .get_template("comparison.html")
        .render(
            making=making,
            found=found,
            methods=sections,
            sections=[section.section for section in sections],
            subject=subject(found),
            conditions=shared_conditions(found.runs),
            leaders=leaders(groups, found.table.radii),
            outcomes=claim_outcomes(found),
            metric_outcomes=metric_outcomes(found),
            cost=cost_sentence(found),
            groups=groups,
            envelope=ENVELOPE,
            verdicts=verdict_counts,
            claims=[(claim, [item for item in items if item.claim is claim]) for claim in found.claims],
            confidence=CONFIDENCE,
            named=named,
            kinds=KINDS,
            axis=axis_svg(limit),
            interval=lambda item: interval_svg(item, limit),
            difference=lambda item: signed(interval_text(item.comparison)),
            panels=curve_panels(found.curves, drawn, found.table.radii),
            looks=_looks(drawn),
            sequential=bool(rules & {"decide"}),
            pareto=_pareto(found),
            quality=quality_section(found),
            grid=sample_grid(same),
            same=same,
            rows=bool(data["sigmas"]),
            shown_sigmas=[at["sigma"] for at in data["sigmas"]],
            labels=sorted({data["classes"][label] for at in data["sigmas"] for label in at["labels"]}),
            data=script_json(data),
            image_outcomes=OUTCOMES,
            script=script,
            script_source=script_source(script),
            sheets=("comparison.css",),
            light=LIGHT,
            dark=DARK,
            names=methods,
            version=raycp.__version__,
        )
    )


def _pareto(found: Findings) -> list[bytes]:
    """Accuracy against cost for a light page and for a dark one; none where no cost is known."""
    if not found.priced:
        return []
    title = found.common_conditions([point.images for point in found.points])
    return [draw_pareto(found.points, title, theme) for theme in (LIGHT, DARK)]


@dataclass(frozen=True)
class MethodLook:
    """How a method is drawn on the page."""

    method: str
    light: str
    dark: str
    dashes: str
    """SVG `stroke-dasharray`."""


def _looks(methods: Sequence[str]) -> list[MethodLook]:
    light, dark = looks_of(methods, LIGHT), looks_of(methods, DARK)
    return [
        MethodLook(name, light[name].colour, dark[name].colour, _dashes(light[name].dash)) for name in methods
    ]


def _dashes(dash: Any) -> str:
    """Of a matplotlib dash (offset, lengths in line widths); see `looks_of`."""
    return "none" if dash == "solid" else " ".join(f"{_STROKE * length:g}" for length in dash[1])


def _method(section: RunSection, found: Findings) -> MethodSection:
    run, name = section.run, section.label
    rows = [row for row in found.rows if row.row.run == name and row.row.sigma is not None]
    purifier = (run.config.get("config") or {}).get("purifier") or {}
    evaluations = dict.fromkeys(row.evaluations for row in rows)
    decided, wanted = sum(row.row.decided for row in rows), sum(row.row.num_images for row in rows)
    seconds = _sum([row.row.seconds for row in rows])
    samples = _sum([row.row.samples for row in rows])
    return MethodSection(
        section=section,
        network=(purifier.get("model") or {}).get("path") or DASH,
        evaluations=", ".join(DASH if number is None else f"{number:,}" for number in evaluations),
        state="imported" if section.conditions.imported else _state(decided, wanted),
        samples=DASH if samples is None else f"{samples:,.0f}",
        device_time=DASH if seconds is None else duration(seconds),
        abstained=_whole([row.row.abstained for row in rows]),
        skipped=_whole([row.row.skipped for row in rows]) if section.conditions.skip_wrong else DASH,
    )


def _state(decided: int, wanted: int) -> str:
    return f"all {wanted:,} decided" if decided == wanted else f"{wanted - decided:,} of {wanted:,} undecided"


def _sum(values: Sequence[float | None]) -> float | None:
    """The sum of what is known; None where that is nothing."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _whole(values: Sequence[int | None]) -> str:
    total = _sum(values)
    return DASH if total is None else f"{total:,.0f}"

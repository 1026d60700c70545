"""One row per image and noise level: what is certified of it, from how many votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from raycp.report.results import SKIPPED, UNDECIDED, RunLike
from raycp.statistics import ABSTAIN, round_down

COLUMNS = (
    "run",
    "sigma",
    "image",
    "label",
    "certified",
    "radius",
    "p_A",
    "votes",
    "of",
    "samples",
    "outcome",
    "case",
)
"""Columns of `image_rows`, and of images.csv."""
OUTCOMES = {
    "right": "certified, class is the label",
    "wrong": "certified, class is not the label",
    "abstained": "no certificate",
    "skipped": "not estimated, selected class is wrong",
    "undecided": "still being sampled",
}

CASES = {
    "certified": "The selector chose the smoothed classifier.",
    "core": "The selector chose the core classifier.",
    "agreement": "The selector abstained; core and smoothed classifier say the same class.",
    "none": "",
}
"""What a row of a composition follows from, by its column `case`."""


def image_rows(label: str, run: RunLike, class_names: Sequence[str] | None) -> list[dict[str, Any]]:
    """The certificates of a run as flat records, by sigma and image.

    Args:
        label: what the run is called.
        run: the run.
        class_names: names of its classes; None: their numbers.

    Returns:
        Records with the keys `COLUMNS`: `certified` is a class, empty without a certificate; `radius` and `p_A` (the
        lower bound) are text, rounded down; `votes` of `of` estimation samples are for the selected class. None where
        the run did not record it, or where the core of a composition answers, whose class has no votes. `case` is what
        a composition's row follows from, None for a smoothed classifier alone.
    """

    def name(number: int) -> str:
        known = class_names is not None and 0 <= number < len(class_names)
        return class_names[number] if known and class_names is not None else str(number)

    rows = []
    for row in run.certificates.sort_by([("sigma", "ascending"), ("image_index", "ascending")]).to_pylist():
        outcome = _outcome(row)
        certified = row["predicted"] != ABSTAIN and outcome != "skipped"
        case = row.get("case")
        bound, votes, of = row.get("p_A_lower"), row.get("n_A"), row.get("n")
        if case is not None and row["selected"] != row["certified_class"]:
            bound = votes = of = None
        values = (
            label, row["sigma"], row["image_index"], name(row["label"]),
            name(row["predicted"]) if certified else "",
            round_down(row["radius"], 3) if certified else "",
            None if bound is None or not certified else round_down(bound, 4),
            votes, of, row["samples"], outcome, case,
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _outcome(row: dict[str, Any]) -> str:
    if row["stop_reason"] == SKIPPED:
        return "skipped"
    if row["correct"]:
        return "right"
    if row["predicted"] != ABSTAIN:
        return "wrong"
    return "undecided" if row["stop_reason"] == UNDECIDED else "abstained"


def script_data(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a page, a list each; see `script_json`."""
    return script_json([list(row.values()) for row in rows])


def script_json(content: Any) -> str:
    """Plain values as JSON with nothing that could end the element it stands in."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

"""A run in the field's format: `idx label predict radius correct time`, one file per sigma.

Source of the format: certify.py of locuslab/smoothing (Cohen et al. 2019). Deviation from it: radii are rounded down to
the printed digits, never up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_DOWN, Context, Decimal

import numpy as np
import pyarrow.compute as pc

from raycp.errors import ConfigError
from raycp.logs.lines import FIELD_COLUMNS
from raycp.report.conditions import conditions
from raycp.report.numerals import exact
from raycp.report.results import SigmaResults, read_sigmas
from raycp.runs import RunResults
from raycp.statistics import ABSTAIN

# The exact decimal of a float64 may have hundreds of digits.
_WIDE = Context(prec=1100)


@dataclass(frozen=True)
class ExportedLog:
    """One noise level of a run as a log.

    Attributes:
        name: of the file.
        text: its content.
        notes: what the format cannot say, one sentence each.
    """

    name: str
    text: str
    notes: tuple[str, ...]


def exported_logs(run: RunResults, digits: int = 3) -> list[ExportedLog]:
    """The certificates of a run as logs, one per sigma with a decided image.

    Args:
        run: of `raycp certify`, finished or partial.
        digits: significant digits of a radius, at least 1; 17 lose nothing.

    Raises:
        ConfigError: an imported log, which is in this format already, or nothing is decided yet.
        StorageError: a run of `raycp predict`, or a damaged one.
    """
    if run.config.get("kind") == "imported":
        raise ConfigError(f"{run.path} is an imported log: the file it was made from is in this format.")
    logs = [_exported(run, results, digits) for results in read_sigmas(run) if len(results.image_index_M)]
    if not logs:
        raise ConfigError(f"{run.path} has no decided image yet: there is nothing to export.")
    return logs


def printed_radius(radius: float, digits: int) -> str:
    """A radius of at least 0 to so many significant digits, rounded down; without trailing zeros, as the field's."""
    exactly = Decimal(radius)
    if not exactly:
        return "0.0"
    unit = Decimal(1).scaleb(exactly.adjusted() - digits + 1)
    text = format(exactly.quantize(unit, rounding=ROUND_DOWN, context=_WIDE), "f")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def printed_time(seconds: float) -> str:
    """`0:02:31.238689`, as Python prints a duration."""
    return str(timedelta(seconds=seconds))


def _exported(run: RunResults, results: SigmaResults, digits: int) -> ExportedLog:
    where = f"sigma {exact(results.sigma)}"
    table = run.certificates.filter(pc.equal(run.certificates["sigma"], results.sigma)).sort_by("image_index")
    predicted_M, seconds_M = table["predicted"].to_numpy(), table["seconds"].to_numpy()
    radius_M = np.where(predicted_M == ABSTAIN, 0.0, results.radius_M)
    rows = zip(
        results.image_index_M.tolist(),
        results.label_M.tolist(),
        predicted_M.tolist(),
        radius_M.tolist(),
        results.correct_M.tolist(),
        seconds_M.tolist(),
        strict=True,
    )
    lines = ["\t".join(FIELD_COLUMNS)] + [
        f"{index}\t{label}\t{predicted}\t{printed_radius(radius, digits)}\t{int(correct)}\t{printed_time(seconds)}"
        for index, label, predicted, radius, correct, seconds in rows
    ]
    notes = []
    setup = conditions(run)
    if setup.core is not None and setup.alpha is not None:
        notes.append(
            f"{where}: a composition with the core {setup.core}; a radius above 0 follows from two bounds at alpha/2 = "
            f"{exact(setup.alpha / 2)} each, which the log does not say."
        )
    if results.decided < results.num_images:
        notes.append(
            f"{where}: partial, {results.decided:,} of {results.num_images:,} images are decided; the log does not say "
            "so."
        )
    if results.skipped_M.any():
        notes.append(
            f"{where}: {int(results.skipped_M.sum()):,} images that skip_wrong left out are written as abstained."
        )
    if results.undecided_M.any():
        notes.append(
            f"{where}: {int(results.undecided_M.sum()):,} undecided images are written with what is certified so far."
        )
    return ExportedLog(f"sigma_{exact(results.sigma)}.tsv", "\n".join(lines) + "\n", tuple(notes))

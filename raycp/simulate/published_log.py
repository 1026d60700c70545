"""The field's certification log: one line per image, `idx label predict radius correct time`, -1 for an abstention.

Source: the output of certify.py in locuslab/smoothing (Cohen et al. 2019). Its `correct` column is not read: some
published logs hold a running total there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raycp.errors import DataError
from raycp.statistics import ABSTAIN

_NEEDED = ("idx", "label", "predict", "radius")


@dataclass(frozen=True, eq=False)
class PublishedLog:
    """M images of one log, in its order."""

    path: Path
    image_index_M: npt.NDArray[np.int64]
    label_M: npt.NDArray[np.int64]
    predicted_M: npt.NDArray[np.int64]
    """-1 where abstained."""
    radius_M: npt.NDArray[np.float64]
    """L2, pixel units, as printed: to 3 significant digits, and it may be rounded up."""


def read_log(path: Path) -> PublishedLog:
    """Read a log; columns are separated by tabs, or all by spaces.

    Raises:
        DataError: not such a log, no images or no labels in it, or a line that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as err:
        raise DataError(f"cannot read the log {path}: {err.strerror or err}.") from err
    except UnicodeDecodeError as err:
        raise DataError(f"{path} is not a text file; a log is a table {' '.join(_NEEDED)} in text.") from err
    header = lines[0] if lines else ""
    separator = "\t" if "\t" in header else None
    columns = [name.strip() for name in header.split(separator)]
    missing = [name for name in _NEEDED if name not in columns]
    if missing == ["label"]:
        raise DataError(_no_label(f"{path} has no label column"))
    if missing:
        raise DataError(
            f"{path} is not a certification log: its first line must name the columns {', '.join(_NEEDED)}; it lacks "
            f"{', '.join(missing)}."
        )
    at = [columns.index(name) for name in _NEEDED]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            rows.append(_row(f"{path}, line {number}", line.split(separator), at))
    if not rows:
        raise DataError(f"{path} has a header but no images: the run that wrote it was aborted or is empty.")
    index, label, predicted, radius = zip(*rows, strict=True)
    seen, counts = np.unique(index, return_counts=True)
    if counts.max() > 1:
        raise DataError(f"{path}: image {seen[counts.argmax()]} has more than one line; keep one per image.")
    return PublishedLog(
        path=path,
        image_index_M=np.array(index, dtype=np.int64),
        label_M=np.array(label, dtype=np.int64),
        predicted_M=np.array(predicted, dtype=np.int64),
        radius_M=np.array(radius, dtype=np.float64),
    )


def _row(where: str, fields: list[str], at: list[int]) -> tuple[int, int, int, float]:
    if len(fields) <= max(at):
        raise DataError(
            f"{where} has {len(fields)} fields, but the header puts {_NEEDED[at.index(max(at))]} in field "
            f"{max(at) + 1}. A log that breaks off, or whose labels are empty, cannot be replayed."
        )
    texts = dict(zip(_NEEDED, (fields[position].strip() for position in at), strict=True))
    if not texts["label"]:
        raise DataError(_no_label(f"{where} has no label"))
    numbers = {}
    for name in ("idx", "label", "predict"):
        try:
            numbers[name] = int(texts[name])
        except ValueError as err:
            raise DataError(f"{where}: {name} must be an integer, got {texts[name]!r}.") from err
    try:
        radius = float(texts["radius"])
    except ValueError:
        radius = math.nan
    if not 0 <= radius < math.inf:
        raise DataError(f"{where}: radius must be a number of at least 0, got {texts['radius']!r}.")
    if numbers["predict"] < ABSTAIN:
        raise DataError(f"{where}: predict must be a class, or -1 for abstain, got {numbers['predict']}.")
    return numbers["idx"], numbers["label"], numbers["predict"], radius


def _no_label(what: str) -> str:
    return (
        f"{what}: certified accuracy cannot be computed without the true classes. Take a log with labels, or add "
        "them."
    )

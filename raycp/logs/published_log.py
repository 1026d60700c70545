"""A certification log that can be counted with: one line per image, with label, prediction and radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raycp.errors import DataError
from raycp.logs.correct_column import correct_column, some_lines
from raycp.logs.lines import UNDECIDED, Floats, Ints, LogLines, read_lines
from raycp.statistics import ABSTAIN


@dataclass(frozen=True, eq=False)
class PublishedLog:
    """M images of one log, in the order of their index.

    Attributes:
        path, sha256: of the file.
        indexed: whether the log says which images these are; if not, `image_index_M` counts its lines from 0.
        image_index_M: index in the data set.
        label_M: true class.
        predicted_M: class, -1 where abstained (or undecided).
        radius_M: L2, pixel units, as printed: it may be rounded up. 0 where abstained.
        half_unit_M: half a unit of the last printed digit of each radius.
        seconds_M: NaN where the log does not say.
        notes: what was found and done, one sentence each.
    """

    path: Path
    sha256: str
    indexed: bool
    image_index_M: Ints
    label_M: Ints
    predicted_M: Ints
    radius_M: Floats
    half_unit_M: Floats
    seconds_M: Floats
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.radius_M)

    @property
    def correct_M(self) -> npt.NDArray[np.bool_]:
        """From label and prediction; a column of the log that says so may lie."""
        correct_M: npt.NDArray[np.bool_] = (self.predicted_M == self.label_M) & (self.predicted_M != ABSTAIN)
        return correct_M

    def only(self, image_index: Ints) -> PublishedLog:
        """The log of these of its images alone; a note says so where there were others.

        Args:
            image_index: int64, all of them in the log.
        """
        keep_M = np.isin(self.image_index_M, image_index)
        if keep_M.all():
            return self
        of_image = ("image_index_M", "label_M", "predicted_M", "radius_M", "half_unit_M", "seconds_M")
        kept = {name: getattr(self, name)[keep_M] for name in of_image}
        note = f"of its {len(self):,} images the {int(keep_M.sum()):,} that the methods have."
        return replace(self, **kept, notes=(*self.notes, note))


def read_log(path: Path, columns: Sequence[str] = (), skip_damaged: bool = False) -> PublishedLog:
    """Read a certification log of any variant, see `raycp.logs.lines`.

    Args:
        path: the file, plain or gzipped.
        columns: names of its columns, where it has no header of its own.
        skip_damaged: leave out lines that cannot be read, and say so in the notes.

    Raises:
        DataError: not a certification log, no images, no labels or radii in it, a line that cannot be read, or two
            lines that say different things of one image.
    """
    lines = read_lines(path, columns)
    _check_complete(lines, skip_damaged)
    assert lines.label_M is not None and lines.radius_M is not None and lines.half_unit_M is not None
    indexed = lines.image_index_M is not None
    index_M = lines.image_index_M if lines.image_index_M is not None else np.arange(len(lines))
    keep, notes = _one_line_per_image(lines, index_M)
    predicted_M = np.maximum(lines.predicted_M, ABSTAIN)
    abstained_M = predicted_M == ABSTAIN
    seconds_M = lines.seconds_M if lines.seconds_M is not None else np.full(len(lines), np.nan)
    return PublishedLog(
        path=path,
        sha256=lines.sha256,
        indexed=indexed,
        image_index_M=index_M[keep],
        label_M=lines.label_M[keep],
        predicted_M=predicted_M[keep],
        radius_M=np.where(abstained_M, 0.0, lines.radius_M)[keep],
        half_unit_M=np.where(abstained_M, 0.0, lines.half_unit_M)[keep],
        seconds_M=seconds_M[keep],
        notes=(*_notes(lines), *notes),
    )


def _check_complete(lines: LogLines, skip_damaged: bool) -> None:
    path = lines.path
    if lines.damaged and not (skip_damaged and len(lines)):
        more = f" ({len(lines.damaged):,} such lines)" if len(lines.damaged) > 1 else ""
        raise DataError(
            f"{path}, {lines.damaged[0]}{more}. Mend the log; `raycp logs import --skip-damaged`, in a suite "
            "skip_damaged: true, leaves such lines out."
        )
    if not len(lines):
        raise DataError(f"{path} has a header but no images: the run that wrote it was aborted or is empty.")
    if lines.radius_M is None:
        raise DataError(
            f"{path} is a log of predictions: it has no radius column, so there is nothing certified in it. Take the "
            "log of a certification."
        )
    if lines.label_M is None:
        raise DataError(
            f"{path} has no label column: certified accuracy cannot be computed without the true classes. (The logs "
            "of the selection models of ACES are like this; `raycp logs audit` reads them.)"
        )


def _one_line_per_image(lines: LogLines, index_M: Ints) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Positions of the lines to keep, in the order of the index: of lines that repeat each other the first."""
    assert lines.label_M is not None and lines.radius_M is not None
    order = np.argsort(index_M, kind="stable")
    again = np.flatnonzero(np.diff(index_M[order]) == 0) + 1
    notes = [] if np.array_equal(order, np.arange(len(order))) else ["the lines are not in the order of idx."]
    for at in again:
        one, other = order[at - 1], order[at]
        if any(column[one] != column[other] for column in (lines.label_M, lines.predicted_M, lines.radius_M)):
            raise DataError(
                f"{lines.path}: image {index_M[one]} has more than one line, and they differ (lines "
                f"{lines.line_M[one]} and {lines.line_M[other]}); keep one per image."
            )
    if len(again):
        repeated = np.sort(lines.line_M[order[again]])
        notes.append(f"left out, because they repeat another line: {some_lines(repeated)}.")
    return np.delete(order, again), notes


def _notes(lines: LogLines) -> list[str]:
    assert lines.radius_M is not None
    notes = []
    if not lines.header:
        notes.append(f"the file has no header; its columns are taken to be {' '.join(lines.columns)}.")
    if lines.image_index_M is None:
        notes.append("there is no idx column: which images these are is not known.")
    if lines.damaged:
        notes.append(
            f"{len(lines.damaged):,} lines that cannot be read are left out: {lines.damaged[0]}"
            f"{'' if len(lines.damaged) == 1 else '; and others'}."
        )
    correct = correct_column(lines)
    if correct.verdict in ("running total", "contradicts"):
        notes.append(correct.in_words)
    undecided = int((lines.predicted_M == UNDECIDED).sum())
    if undecided:
        notes.append(f"{undecided:,} images with predict {UNDECIDED} (undecided) count as abstained.")
    odd_M = (lines.predicted_M < 0) & (lines.radius_M > 0)
    if odd_M.any():
        notes.append(f"{some_lines(lines.line_M[odd_M])}: a radius beside an abstention counts as 0.")
    if lines.stage_M is not None and lines.stage_M.any():
        notes.append(
            "a cascade of several sigma and alpha (column stage): no single one holds for all lines."
        )
    return notes

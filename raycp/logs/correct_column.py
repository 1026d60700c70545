"""What the `correct` column of a log holds, set against its labels and predictions. It is used for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raycp.logs.lines import LogLines

Verdict = Literal["absent", "agrees", "running total", "contradicts"]


@dataclass(frozen=True, eq=False)
class CorrectColumn:
    """What the column says.

    Attributes:
        verdict: `running total` if each line adds 1 to the line before where it is correct.
        line_D: the D lines that contradict `label == predict`; none of a running total.
    """

    verdict: Verdict
    line_D: npt.NDArray[np.int64]

    @property
    def in_words(self) -> str:
        """The verdict as a sentence."""
        return {
            "absent": "there is no column correct, or no label; correct is label == predict.",
            "agrees": "correct is label == predict in every line.",
            "running total": "the column correct is a running total, not a flag: correct is recomputed from label and "
            "predict.",
            "contradicts": f"the column correct contradicts label == predict in {some_lines(self.line_D)}: it is "
            "recomputed.",
        }[self.verdict]


def correct_column(lines: LogLines) -> CorrectColumn:
    """Judge the column."""
    none = np.zeros(0, dtype=np.int64)
    if lines.correct_M is None or lines.label_M is None:
        return CorrectColumn("absent", none)
    right_M = (lines.label_M == lines.predicted_M) & (lines.predicted_M >= 0)
    differ_M = lines.correct_M != right_M  # NaN differs
    if not differ_M.any():
        return CorrectColumn("agrees", none)
    if len(lines) > 1 and np.array_equal(np.diff(lines.correct_M), right_M[1:].astype(np.float64)):
        return CorrectColumn("running total", none)
    return CorrectColumn("contradicts", lines.line_M[differ_M])


def some_lines(line_D: npt.NDArray[np.int64], most: int = 5) -> str:
    """`line 7`, `lines 7 and 9`, `52 lines (7, 9, 12, 14, 15, ...)`."""
    shown = ", ".join(str(line) for line in line_D[:most])
    if len(line_D) == 1:
        return f"line {shown}"
    return f"{len(line_D):,} lines ({shown}{', ...' if len(line_D) > most else ''})"

"""Student's interval of a mean over images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from raycp.quality.bootstrap import Interval


def student_interval(values_n: npt.NDArray[np.float64], confidence: float) -> Interval:
    """The mean of n >= 2 values and Student's two-sided interval of its expectation.

    Exact for values from a normal distribution, and so far out as joint intervals need it, where a bootstrap of the
    same values is too narrow; else it holds as n grows, the sooner the more symmetric the values are, as differences of
    two methods on the same images are.

    Args:
        values_n: one value per image, drawn independently.
        confidence: of the interval.
    """
    n, mean = len(values_n), float(values_n.mean())
    error = float(values_n.std(ddof=1)) / math.sqrt(n)
    reach = float(stats.t.isf((1 - confidence) / 2, n - 1)) * error
    return Interval(mean, mean - reach, mean + reach)

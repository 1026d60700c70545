"""Class counts of one phase of one image: every sample enters once, whatever arrives, and in whatever order."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt


class Tally:
    """Counts over a set of sample ranges that never overlap.

    A range is accepted if none of its samples was accepted before, and ignored otherwise: a repeated task, or a part
    of the ledger that was compacted but not yet deleted, changes nothing.
    """

    __slots__ = ("_starts", "_stops", "counts_K", "num_samples")

    def __init__(self, num_classes: int) -> None:
        self.counts_K: npt.NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self.num_samples = 0
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, first: int, num_samples: int, counts_K: npt.NDArray[np.int64]) -> bool:
        """Add the counts of samples `first .. first + num_samples - 1`; false if any of them is here already."""
        stop = first + num_samples
        at = bisect_right(self._starts, first)
        if (at > 0 and self._stops[at - 1] > first) or (at < len(self._starts) and self._starts[at] < stop):
            return False
        joins_left = at > 0 and self._stops[at - 1] == first
        joins_right = at < len(self._starts) and self._starts[at] == stop
        if joins_left and joins_right:
            self._stops[at - 1] = self._stops.pop(at)
            self._starts.pop(at)
        elif joins_left:
            self._stops[at - 1] = stop
        elif joins_right:
            self._starts[at] = first
        else:
            self._starts.insert(at, first)
            self._stops.insert(at, stop)
        self.counts_K += counts_K
        self.num_samples += num_samples
        return True

    def covers(self, num_samples: int) -> bool:
        """Whether the samples drawn are exactly `0 .. num_samples - 1`."""
        if num_samples == 0:
            return not self._starts
        return self._starts == [0] and self._stops == [num_samples]

    def missing(self, num_samples: int) -> list[tuple[int, int]]:
        """The ranges [first, stop) of `0 .. num_samples - 1` that are not here."""
        gaps, reached = [], 0
        for start, stop in zip(self._starts, self._stops, strict=True):
            if start >= num_samples:
                break
            if start > reached:
                gaps.append((reached, start))
            reached = stop
        if reached < num_samples:
            gaps.append((reached, num_samples))
        return gaps

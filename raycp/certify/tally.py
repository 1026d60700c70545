"""Class counts of one phase of one image: every sample enters once, whatever arrives, and in whatever order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt


class Tally:
    """Counts over a set of sample ranges that never overlap.

    A range is accepted if none of its samples was accepted before, and ignored otherwise: a repeated task, or a part
    of the ledger that was compacted but not yet deleted, changes nothing.

    Args:
        num_classes: K.
        cuts: sample numbers, increasing, at which the counts of the samples before are wanted on their own. A range
            that reaches across a cut is ignored too: its counts cannot be told apart.
    """

    __slots__ = ("_cuts", "_num_classes", "_segments", "_starts", "_stops", "num_samples")

    def __init__(self, num_classes: int, cuts: Sequence[int] = ()) -> None:
        self._num_classes = num_classes
        self._cuts = cuts
        self._segments: dict[int, npt.NDArray[np.int64]] = {}
        """Counts between cut s - 1 and cut s."""
        self.num_samples = 0
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, first: int, num_samples: int, counts_K: npt.NDArray[np.int64]) -> bool:
        """Add the counts of samples `first .. first + num_samples - 1`; false if they cannot be taken in."""
        stop = first + num_samples
        at = bisect_right(self._starts, first)
        if (at > 0 and self._stops[at - 1] > first) or (at < len(self._starts) and self._starts[at] < stop):
            return False
        segment = bisect_right(self._cuts, first)
        if bisect_left(self._cuts, stop) != segment:
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
        if segment not in self._segments:
            self._segments[segment] = np.zeros(self._num_classes, dtype=np.int64)
        self._segments[segment] += counts_K
        self.num_samples += num_samples
        return True

    @property
    def counts_K(self) -> npt.NDArray[np.int64]:
        """Counts of all samples that are here, int64 [K]."""
        return sum(self._segments.values(), np.zeros(self._num_classes, dtype=np.int64))

    @property
    def prefix(self) -> int:
        """The largest n for which samples `0 .. n - 1` are all here."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    def counts_at_cuts(self, selected: int) -> npt.NDArray[np.int64]:
        """Votes for one class among the samples before each cut, for the cuts whose samples before are all here."""
        complete = bisect_right(self._cuts, self.prefix)
        votes = [int(self._segments[segment][selected]) for segment in range(complete)]
        return np.cumsum(np.array(votes, dtype=np.int64))

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


def cut_at(cuts: Sequence[int], first: int, stop: int) -> list[tuple[int, int]]:
    """The range [first, stop) in pieces, none of which reaches across a cut."""
    edges = [first, *cuts[bisect_right(cuts, first) : bisect_left(cuts, stop)], stop]
    return list(pairwise(edges))

"""Class counts of the first n samples of a stream, from ranges that may repeat and overlap."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


class ContradictionError(Exception):
    """Ranges that no samples can have at once."""

    def __init__(self, first: int, stop: int) -> None:
        super().__init__(f"samples {first} to {stop - 1}")


class Prefixes:
    """A range of samples [first, stop) with counts c says P(stop) = P(first) + c, where P(n) counts samples 0 .. n-1.

    So ranges are edges between sample numbers, and P follows by walking them from 0, either way. A repeated range is
    the same edge once more; ranges that were cut in several ways are several paths. Paths that disagree, or a P that
    falls, are a contradiction.
    """

    def __init__(self, num_classes: int) -> None:
        self._edges: defaultdict[int, list[tuple[int, Counts]]] = defaultdict(list)
        self._zero = np.zeros(num_classes, dtype=np.int64)
        self._known: dict[int, Counts] | None = None

    def add(self, first: int, num_samples: int, counts_K: Counts) -> None:
        """Take in a range."""
        self._edges[first].append((first + num_samples, counts_K))
        self._edges[first + num_samples].append((first, -counts_K))
        self._known = None

    def __call__(self, n: int) -> Counts | None:
        """P(n), int64 [K]; None if it does not follow from the ranges.

        Raises:
            ContradictionError: the ranges cannot all be true.
        """
        if self._known is None:
            known = self._walk(0)
            seen = set(known)
            for start in list(self._edges):  # ranges behind a gap may contradict each other as well
                if start not in seen:
                    seen |= self._walk(start).keys()
            self._known = known
        return self._known.get(n)

    def _walk(self, start: int) -> dict[int, Counts]:
        """P(n) - P(start) for every n that is connected with `start`."""
        reached, open_ends = {start: self._zero}, [start]
        while open_ends:
            here = open_ends.pop()
            for there, counts_K in self._edges.get(here, ()):
                total = reached[here] + counts_K
                if there not in reached:
                    reached[there] = total
                    open_ends.append(there)
                elif not np.array_equal(reached[there], total):
                    raise ContradictionError(min(here, there), max(here, there))
        for first, stop in pairwise(sorted(reached)):
            if (reached[stop] < reached[first]).any():
                raise ContradictionError(first, stop)
        return reached

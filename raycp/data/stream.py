"""The order of a training set that streams: groups are shuffled, then images within windows of a few groups.

Images that lie together in a file are read together, so a window is what a reader holds at a time. Everything is a
function of the key and the sizes of the groups: no state is kept, and nothing before a sample has to be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Samples `first` to `stop` - 1, whose images lie in the same few groups."""

    first: int
    stop: int


class StreamOrder:
    """Which image each sample of a training is, over any number of epochs.

    An epoch permutes the groups, cuts their sequence into windows of about equal size, and permutes the images of each
    window; every image occurs once per epoch. Images are numbered from 0 through the groups in stored order.

    Args:
        group_rows: int64 [G], images of each group; their sum M is at least 1.
        window: images per window, roughly; at least 1. The nearest division of an epoch into equal windows is taken,
            and a group is never cut.
        key: (seed, number of the stage).
    """

    def __init__(self, group_rows: NDArray[np.int64], window: int, key: tuple[int, int]) -> None:
        self.num_images = int(group_rows.sum())
        assert self.num_images > 0 and window > 0
        self._group_rows = group_rows
        self._num_windows = max(1, round(self.num_images / window))
        self._key = key
        self._epoch = -1, _Epoch(*[np.empty(0, np.int64)] * 3)
        self._window = Window(0, 0), np.empty(0, np.int64)

    def rows(self, first: int, stop: int) -> NDArray[np.int64]:
        """Numbers of the images of the samples `first` to `stop` - 1, in their order."""
        parts = [np.empty(0, np.int64)]
        for window in self.windows(first, stop):
            low, high = max(first, window.first), min(stop, window.stop)
            parts.append(self._window_rows(window)[low - window.first : high - window.first])
        return np.concatenate(parts)

    def windows(self, first: int, stop: int) -> Iterator[Window]:
        """The windows that hold the samples `first` to `stop` - 1, in order, the first and the last one whole."""
        while first < stop:
            window = self._window_of(first)
            yield window
            first = window.stop

    def _window_of(self, sample: int) -> Window:
        epoch, place = divmod(sample, self.num_images)
        bounds = self._cut(epoch).bounds
        number = int(np.searchsorted(bounds, place, side="right")) - 1
        start = epoch * self.num_images
        return Window(start + int(bounds[number]), start + int(bounds[number + 1]))

    def _window_rows(self, window: Window) -> NDArray[np.int64]:
        if window == self._window[0]:
            return self._window[1]
        number, place = divmod(window.first, self.num_images)
        epoch = self._cut(number)
        low = np.searchsorted(epoch.group_first, place)
        high = np.searchsorted(epoch.group_first, place + window.stop - window.first)
        rows = np.concatenate(
            [np.arange(start, start + size) for start, size in epoch.groups[low:high].tolist()]
        )
        rows = rows[self._permutation(len(rows), number, place)]
        self._window = window, rows
        return rows

    def _permutation(self, size: int, *place: int) -> NDArray[np.int64]:
        """Of 0..size-1, keyed by `place`.

        The words of NumPy's bit generators stay the same between its versions, unlike `Generator.permutation`.
        """
        words = np.random.Philox(np.random.SeedSequence(self._key, spawn_key=place)).random_raw(size)
        return np.argsort(words, kind="stable")

    def _cut(self, number: int) -> _Epoch:
        if number == self._epoch[0]:
            return self._epoch[1]
        order = self._permutation(len(self._group_rows), number)
        order = order[self._group_rows[order] > 0]
        sizes = self._group_rows[order]
        stored_first = np.cumsum(self._group_rows)[order] - sizes
        first = np.cumsum(sizes) - sizes
        # The window that an even division puts the group's first image in.
        windows = first * self._num_windows // self.num_images
        bounds = np.append(first[np.diff(windows, prepend=-1) > 0], self.num_images)
        epoch = _Epoch(np.stack([stored_first, sizes], axis=1), first, bounds)
        self._epoch = number, epoch
        return epoch


@dataclass(frozen=True)
class _Epoch:
    """One epoch.

    Attributes:
        groups: int64 [G,2], number of the first image and size of each group, in the order of the epoch.
        group_first: int64 [G], place in the epoch at which each group begins.
        bounds: int64 [W+1], places at which windows begin, and the end.
    """

    groups: NDArray[np.int64]
    group_first: NDArray[np.int64]
    bounds: NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """What one worker takes of each batch: `size` samples from place `first` on.

    Args:
        batch_size: samples of a step, over all workers.
        rank, world_size: of the worker; world_size divides batch_size.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1

    @property
    def size(self) -> int:
        """Samples of a step that are the worker's."""
        return self.batch_size // self.world_size

    def of(self, first: int, stop: int) -> NDArray[np.int64]:
        """The worker's samples among `first` to `stop` - 1, ascending."""
        samples = np.arange(first, stop)
        mine: NDArray[np.int64] = samples[samples % self.batch_size // self.size == self.rank]
        return mine

"""The tally: each sample once, whatever arrives and in whatever order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raycp.certify.tally import Tally

N = 40
RANGES = st.lists(
    st.integers(0, N - 1).flatmap(lambda first: st.tuples(st.just(first), st.integers(1, N - first))),
    max_size=25,
)


def counts_of(first: int, num_samples: int) -> np.ndarray:
    """Counts over N classes in which sample i votes for class i: the counts say which samples are in."""
    counts = np.zeros(N, dtype=np.int64)
    counts[first : first + num_samples] = 1
    return counts


@given(RANGES)
def test_each_sample_enters_once(ranges: list[tuple[int, int]]) -> None:
    tally, here = Tally(N), set()
    for first, num_samples in ranges:
        samples = set(range(first, first + num_samples))
        accepted = tally.add(first, num_samples, counts_of(first, num_samples))
        assert accepted == here.isdisjoint(samples)
        if accepted:
            here |= samples
        assert tally.counts_K.tolist() == [int(i in here) for i in range(N)]
        assert tally.num_samples == len(here)
        for stop in range(N + 3):
            wanted = set(range(stop))
            assert tally.covers(stop) == (here == wanted)
            gaps = tally.missing(stop)
            assert [i for a, b in gaps for i in range(a, b)] == sorted(wanted - here)
            assert all(a < b for a, b in gaps)
            assert all(before[1] < after[0] for before, after in pairwise(gaps))


@given(st.permutations(range(12)), st.data())
def test_any_order_of_a_partition_fills_it(order: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, N - 1), min_size=11, max_size=11)))
    ranges = [(a, b - a) for a, b in zip([0, *cuts], [*cuts, N], strict=True)]
    tally = Tally(N)
    for position, index in enumerate(order):
        assert not tally.covers(N)
        assert tally.add(*ranges[index], counts_of(*ranges[index]))
        assert tally.num_samples == sum(ranges[i][1] for i in order[: position + 1])
        assert not tally.add(*ranges[index], counts_of(*ranges[index]))
    assert tally.covers(N)
    assert tally.missing(N) == []
    assert tally.counts_K.tolist() == [1] * N


def test_a_partly_known_range_is_refused_whole() -> None:
    tally = Tally(N)
    assert tally.add(10, 10, counts_of(10, 10))
    for first, num_samples in [(9, 2), (19, 1), (19, 5), (10, 1), (0, 40), (14, 2), (10, 10)]:
        assert not tally.add(first, num_samples, counts_of(first, num_samples))
    assert tally.missing(30) == [(0, 10), (20, 30)]
    assert tally.missing(10) == [(0, 10)]
    assert tally.missing(15) == [(0, 10)]
    assert tally.add(9, 1, counts_of(9, 1)) and tally.add(20, 1, counts_of(20, 1))
    assert tally.missing(30) == [(0, 9), (21, 30)]


def test_the_added_counts_are_not_kept() -> None:
    """They may be a view of a task's whole result, or be changed by whoever made them."""
    tally, counts = Tally(2), np.array([1, 2])
    tally.add(0, 3, counts)
    counts[:] = 100
    tally.add(3, 3, np.array([3, 0]))
    assert tally.counts_K.tolist() == [4, 2]

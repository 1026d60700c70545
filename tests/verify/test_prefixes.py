"""Prefix counts against a plain list of samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.verify.prefixes import ContradictionError, Prefixes

NUM_SAMPLES, NUM_CLASSES = 30, 3
CLASSES = np.random.default_rng(5).integers(0, NUM_CLASSES, NUM_SAMPLES)

ranges = st.lists(
    st.tuples(st.integers(0, NUM_SAMPLES - 1), st.integers(1, 12)).map(
        lambda r: (r[0], min(sum(r), NUM_SAMPLES))
    ),
    max_size=25,
)


def counted(first: int, stop: int) -> np.ndarray:
    return np.bincount(CLASSES[first:stop], minlength=NUM_CLASSES)


def made_of(pieces: list[tuple[int, int]]) -> Prefixes:
    prefixes = Prefixes(NUM_CLASSES)
    for first, stop in pieces:
        prefixes.add(first, stop - first, counted(first, stop))
    return prefixes


def connected(pieces: list[tuple[int, int]], start: int) -> set[int]:
    found = {start}
    for _ in range(NUM_SAMPLES):
        found |= {end for piece in pieces for end in piece if found & set(piece)}
    return found


@settings(max_examples=100, deadline=None)
@given(pieces=ranges)
def test_a_prefix_is_known_where_ranges_add_up_to_it(pieces: list[tuple[int, int]]) -> None:
    prefixes = made_of(pieces)
    known = connected(pieces, 0)
    for n in range(NUM_SAMPLES + 1):
        found = prefixes(n)
        assert (found is not None) == (n in known)
        if found is not None:
            assert found.tolist() == counted(0, n).tolist()


@settings(max_examples=100, deadline=None)
@given(pieces=ranges.filter(len), data=st.data())
def test_a_wrong_count_is_a_contradiction_where_there_is_another_way(
    pieces: list[tuple[int, int]], data: st.DataObject
) -> None:
    first, stop = pieces.pop(data.draw(st.integers(0, len(pieces) - 1)))
    prefixes = made_of(pieces)
    prefixes.add(first, stop - first, counted(first, stop) + np.array([1, -1, 0]))
    if stop in connected(pieces, first):
        with pytest.raises(ContradictionError, match=r"samples \d+ to \d+"):
            prefixes(0)


def test_a_part_cannot_have_more_than_the_whole() -> None:
    prefixes = Prefixes(2)
    prefixes.add(0, 10, np.array([10, 0]))
    prefixes.add(5, 5, np.array([4, 1]))
    with pytest.raises(ContradictionError, match="samples 0 to 4"):
        prefixes(10)


def test_a_range_that_comes_later_is_not_forgotten() -> None:
    prefixes = made_of([(0, 5)])
    assert prefixes(9) is None
    prefixes.add(5, 4, counted(5, 9))
    found = prefixes(9)
    assert found is not None and found.tolist() == counted(0, 9).tolist()

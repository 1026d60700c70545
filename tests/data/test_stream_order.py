"""The order of a stream: every image once per epoch, near its group, and the same from wherever one starts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.data.stream import Share, StreamOrder

GROUPS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


def order_of(groups: list[int], window: int, key: tuple[int, int] = (5, 2)) -> StreamOrder:
    return StreamOrder(np.array(groups), window, key)


@settings(max_examples=80, deadline=None)
@given(groups=GROUPS, window=st.integers(1, 40), epoch=st.integers(0, 3))
def test_every_image_occurs_once_per_epoch(groups: list[int], window: int, epoch: int) -> None:
    order, size = order_of(groups, window), sum(groups)
    assert sorted(order.rows(epoch * size, (epoch + 1) * size).tolist()) == list(range(size))


@settings(max_examples=80, deadline=None)
@given(groups=GROUPS, window=st.integers(1, 40), first=st.integers(0, 150), count=st.integers(0, 80))
def test_a_sample_is_the_same_from_wherever_one_starts(
    groups: list[int], window: int, first: int, count: int
) -> None:
    whole = order_of(groups, window).rows(0, 300)
    assert (
        order_of(groups, window).rows(first, first + count).tolist() == whole[first : first + count].tolist()
    )


@settings(max_examples=80, deadline=None)
@given(groups=GROUPS, window=st.integers(1, 40), first=st.integers(0, 150), count=st.integers(1, 80))
def test_windows_are_whole_groups_and_follow_each_other(
    groups: list[int], window: int, first: int, count: int
) -> None:
    order = order_of(groups, window)
    windows = list(order.windows(first, first + count))
    assert windows[0].first <= first < windows[0].stop
    assert windows[-1].first < first + count <= windows[-1].stop
    group_of = np.repeat(np.arange(len(groups)), groups)
    for one in windows:
        rows = order.rows(one.first, one.stop)
        for group in set(group_of[rows].tolist()):
            assert np.isin(np.flatnonzero(group_of == group), rows).all()
    assert all(before.stop == after.first for before, after in pairwise(windows))


def test_windows_are_of_about_the_size_asked_for() -> None:
    order = order_of([100] * 98, 1000)  # 9.8 windows to an epoch: ten of 980, give or take a group
    windows = list(order.windows(0, 9800))
    assert len(windows) == 10
    assert all(abs(one.stop - one.first - 980) <= 100 for one in windows)
    assert [(one.first, one.stop) for one in order_of([7], 3).windows(0, 8)] == [(0, 7), (7, 14)]


def test_groups_and_images_are_shuffled_anew_in_each_epoch_stage_and_seed() -> None:
    groups = [50] * 40
    first = order_of(groups, 500).rows(0, 2000)
    others = [
        order_of(groups, 500).rows(2000, 4000),
        order_of(groups, 500, (5, 3)).rows(0, 2000),
        order_of(groups, 500, (6, 2)).rows(0, 2000),
    ]
    for other in others:
        # A random permutation of 2,000 keeps one image in place on average, and more than 10 once in 10^8.
        assert (first == other).sum() <= 10
        # The groups of the first window too: 10 of 40 are the same ten once in 8 * 10^8.
        assert set(first[:500] // 50) != set(other[:500] // 50)
    window = first[:500]
    # Neighbours in a file are not neighbours in a window: about one pair is by chance.
    assert (np.abs(np.diff(window)) == 1).sum() <= 10
    # Any place of a window holds an image of any of its groups: the mean place is 249.5 +- 20 for 50 of 500.
    for group in set((window // 50).tolist()):
        assert np.flatnonzero(window // 50 == group).mean() == pytest.approx(249.5, abs=110)


def test_the_order_is_kept_across_versions() -> None:
    """A resumed training may meet another NumPy."""
    assert order_of([2, 3, 0, 1, 4], 4, (7, 1)).rows(8, 22).tolist() == [
        5,
        2,
        6,
        7,
        5,
        8,
        9,
        2,
        1,
        0,
        4,
        3,
        9,
        5,
    ]


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_shares_of_the_workers_make_the_batch(world: int) -> None:
    shares = [Share(12, rank, world) for rank in range(world)]
    parts = [share.of(17, 60) for share in shares]
    assert sorted(np.concatenate(parts).tolist()) == list(range(17, 60))
    for rank, part in enumerate(parts):
        size = 12 // world
        assert shares[rank].size == size
        whole = part[(part >= 24) & (part < 36)]
        assert whole.tolist() == list(range(24 + rank * size, 24 + (rank + 1) * size))

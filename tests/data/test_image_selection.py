"""Selection: every skip-th image from start, at most count of them, or an explicit list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.config.data import Selection
from raycp.data.selection import select_indices
from raycp.errors import DataError


@given(
    num_images=st.integers(1, 300),
    start=st.integers(0, 299),
    skip=st.integers(1, 320),
    count=st.none() | st.integers(1, 320),
)
def test_selection_is_what_its_words_say(num_images: int, start: int, skip: int, count: int | None) -> None:
    select = Selection(start=start, skip=skip, count=count)
    expected = [index for index in range(num_images) if index >= start and (index - start) % skip == 0]
    expected = [index for rank, index in enumerate(expected) if count is None or rank < count]
    if not expected:
        with pytest.raises(DataError):
            select_indices(select, num_images, "the set")
        return
    chosen = select_indices(select, num_images, "the set")
    assert chosen.dtype == np.int64
    assert chosen.tolist() == expected


def test_the_protocol_of_the_papers() -> None:
    cifar = select_indices(Selection(skip=20), 10_000, "CIFAR-10")
    assert len(cifar) == 500 and cifar[0] == 0 and cifar[-1] == 9980
    imagenet = select_indices(Selection(skip=100, count=500), 50_000, "ImageNet")
    assert len(imagenet) == 500 and imagenet[-1] == 49_900
    # With skip 20 the published scripts stop at `--max 400` after 20 images; count counts images.
    assert len(select_indices(Selection(skip=20, count=400), 10_000, "CIFAR-10")) == 400


@given(order=st.permutations(range(12)), length=st.integers(1, 12))
def test_explicit_indices_keep_their_order(order: list[int], length: int) -> None:
    chosen = select_indices(Selection(indices=tuple(order[:length])), 12, "the set")
    assert chosen.dtype == np.int64
    assert chosen.tolist() == order[:length]


def test_an_index_outside_is_named_with_the_size() -> None:
    assert select_indices(Selection(indices=(9999,)), 10_000, "S").tolist() == [9999]
    with pytest.raises(DataError) as caught:
        select_indices(Selection(indices=(5, 10_000)), 10_000, "the test split")
    assert str(caught.value) == (
        "select.indices names image 10000, but the test split has 10000 images; indices run from 0 to 9999."
    )


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        select_indices(Selection(start=360), 360, "the digits")
    assert str(caught.value) == (
        "select.start = 360 selects nothing: the digits has 360 images, and start must be below that."
    )


@pytest.mark.parametrize("select", [Selection(), Selection(indices=(0,))])
def test_an_empty_set_is_an_error(select: Selection) -> None:
    with pytest.raises(DataError, match="the file has no images"):
        select_indices(select, 0, "the file")

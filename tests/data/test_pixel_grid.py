"""The 1/255 grid: what is on it, and what sound noise refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.data import ImageSet, require_grid
from raycp.data.grid import grid_levels
from raycp.errors import DataError

LEVELS = np.arange(256)
Floats = np.ndarray[Any, Any]


@pytest.mark.parametrize(
    "make",
    [
        lambda k: k.astype(np.float32) / np.float32(255),
        lambda k: k.astype(np.float32) * np.float32(1 / 255),
        lambda k: k / 255,
        lambda k: (k.astype(np.float32) / np.float32(255)).astype(np.float64),
        lambda k: (k / 255 * 2 - 1).astype(np.float32) * np.float32(0.5) + np.float32(0.5),
    ],
    ids=["divided", "multiplied", "float64", "float32 as float64", "through [-1,1]"],
)
def test_every_usual_way_to_write_a_level_is_on_the_grid(make: Callable[[Floats], Floats]) -> None:
    levels, on_grid = grid_levels(make(LEVELS))
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, LEVELS)
    assert on_grid.all()


@given(
    level=st.integers(0, 255),
    distance=st.floats(1e-6, 0.5 / 255),
    sign=st.sampled_from([-1, 1]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_millionth_off_is_off(level: int, distance: float, sign: int, dtype: Any) -> None:
    value = level / 255 + sign * distance
    if 0 <= value <= 1:
        assert not grid_levels(np.array([value], dtype))[1].any()


def image_set(images: Any) -> ImageSet:
    indices = np.arange(len(images), dtype=np.int64) * 20
    return ImageSet(indices, images, np.zeros(len(images), np.int64), None, "the arrays in x.npz")


def test_uint8_images_pass_as_they_are() -> None:
    images = image_set(np.zeros((2, 1, 3, 3), np.uint8))
    assert require_grid(images) is images


def test_float_images_on_the_grid_become_their_levels() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), dtype=np.uint8)
    images = image_set(levels / np.float32(255))
    assert images.images.dtype == np.float32
    exact = require_grid(images)
    assert exact.images.dtype == np.uint8
    np.testing.assert_array_equal(exact.images, levels)
    np.testing.assert_array_equal(exact.indices, images.indices)


def test_the_first_value_off_the_grid_is_named_with_the_two_ways_out() -> None:
    values = np.zeros((3, 2, 4, 5), np.float32)
    values[1, 1, 2, 3] = 0.25
    values[1, 1, 3, 0] = 0.75
    values[2, 0, 0, 0] = 0.125
    with pytest.raises(DataError) as caught:
        require_grid(image_set(values))
    assert str(caught.value) == (
        "image 20 of the arrays in x.npz has the value 0.25 (channel 1, row 2, column 3), which is not on the grid "
        "k/255 that certify.noise=sound needs. Either quantise the images once, uint8 round(255 x), and certify "
        "those images, or set certify.noise=float (unsound in theory)."
    )

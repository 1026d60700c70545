"""The digits: the split, the quantisation, and the pixels against scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raycp.config.data import DigitsData, Selection
from raycp.data import load_images, require_grid
from raycp.errors import DataError

# round(255 k / 16) for k = 0..16, by hand; 127.5 goes to 128 by either rule.
LEVEL = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]


def test_the_two_splits_share_the_rows_in_order() -> None:
    digits = load_digits()
    test = load_images(DigitsData(name="digits"))
    train = load_images(DigitsData(name="digits", split="train"))
    assert test.images.shape == (360, 1, 8, 8) and train.images.shape == (1437, 1, 8, 8)
    assert test.images.dtype == np.uint8
    assert test.indices.tolist() == list(range(360)) and train.indices.tolist() == list(range(1437))
    for row in range(1797):
        split, index = (test, row // 5) if row % 5 == 0 else (train, row - row // 5 - 1)
        expected = [[LEVEL[int(level)] for level in line] for line in digits.images[row]]
        assert split.images[index, 0].tolist() == expected
        assert split.labels[index] == digits.target[row]


def test_indices_count_within_the_split() -> None:
    whole = load_images(DigitsData(name="digits", split="train"))
    some = load_images(DigitsData(name="digits", split="train", select=Selection(indices=(1436, 5, 0))))
    assert some.indices.tolist() == [1436, 5, 0]
    np.testing.assert_array_equal(some.images, whole.images[[1436, 5, 0]])
    np.testing.assert_array_equal(some.labels, whole.labels[[1436, 5, 0]])
    with pytest.raises(DataError, match="image 360, but the test split of the digits has 360 images"):
        load_images(DigitsData(name="digits", select=Selection(indices=(360,))))


def test_names_source_and_grid() -> None:
    digits = load_images(DigitsData(name="digits", select=Selection(skip=36)))
    assert len(digits) == 10
    assert digits.class_names == tuple("0123456789")
    assert digits.source == "the test split of the digits"
    assert require_grid(digits) is digits

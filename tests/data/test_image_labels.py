"""Labels: integers, at least 0, below the number of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raycp.data.labels import checked_labels
from raycp.errors import DataError

INDICES = np.array([40, 20, 60], np.int64)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integer_type_becomes_int64(dtype: Any) -> None:
    labels = checked_labels(np.array([0, 9, 3], dtype), INDICES, tuple("0123456789"), "S")
    assert labels.dtype == np.int64 and labels.tolist() == [0, 9, 3]


def test_a_negative_label_is_named_with_its_image() -> None:
    with pytest.raises(DataError) as caught:
        checked_labels(np.array([1, -1, -2]), INDICES, None, "the parquet file x")
    assert str(caught.value) == (
        "image 20 of the parquet file x has the label -1; labels must be at least 0 (-1 usually marks a test set "
        "without labels, which cannot be scored)."
    )


def test_a_label_beyond_the_classes_is_named() -> None:
    assert checked_labels(np.array([2, 0, 1]), INDICES, ("a", "b", "c"), "S").max() == 2
    with pytest.raises(DataError) as caught:
        checked_labels(np.array([2, 0, 3]), INDICES, ("a", "b", "c"), "S")
    assert str(caught.value) == (
        "image 60 of S has the label 3; allowed are 0 to 2, the 3 classes of the data set."
    )


def test_an_unsigned_label_that_would_wrap_is_refused() -> None:
    with pytest.raises(DataError, match="image 20 of S has the label 9223372036854775808"):
        checked_labels(np.array([1, 2**63, 0], np.uint64), INDICES, None, "S")


@pytest.mark.parametrize(
    "labels", [np.array([0.0, 1.0, 2.0]), np.array([True, False, True]), np.array(["a"] * 3)]
)
def test_labels_that_are_not_integers_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match="the labels of S must be integers"):
        checked_labels(labels, INDICES, None, "S")

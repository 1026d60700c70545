"""The handwritten digits of scikit-learn: a real data set that needs no download."""

from __future__ import annotations

import numpy as np

from raycp.config.data import DigitsData
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.selection import select_indices

CLASS_NAMES = tuple("0123456789")


def read_digits(config: DigitsData) -> ImageSet:
    """The 8x8 digits, levels k in 0..16 quantised once to round(255 k / 16).

    Every fifth of the 1,797 rows, from row 0, is a test image (360); the other 1,437 are for training.
    """
    # Imported here: it takes longer than reading most data sets, which do not need it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 5 == 0
    rows = np.flatnonzero(is_test if config.split == "test" else ~is_test)
    source = f"the {config.split} split of the digits"
    indices = select_indices(config.select, len(rows), source)
    rows = rows[indices]
    images = np.rint(255 * digits.images[rows, None] / 16).astype(np.uint8)
    labels = checked_labels(digits.target[rows], indices, CLASS_NAMES, source)
    return ImageSet(indices, images, labels, CLASS_NAMES, source)

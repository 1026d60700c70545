"""Labels are class numbers: present, integer, at least 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.errors import DataError


def checked_labels(
    labels: NDArray[Any],
    indices: NDArray[np.int64],
    class_names: tuple[str, ...] | None,
    source: str,
) -> NDArray[np.int64]:
    """The labels as int64.

    Args:
        labels: integers [M] of any width, as stored.
        indices: int64 [M], for messages.
        class_names: names of the classes, which bound the labels; None leaves them unbounded.
        source: where the labels come from, for messages.

    Returns:
        int64 [M].

    Raises:
        DataError: labels that are not integers, are negative, or are not below the number of classes.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"the labels of {source} must be integers, got {labels.dtype}.")
    limit = np.iinfo(np.int64).max if class_names is None else len(class_names) - 1
    wrong = np.flatnonzero((labels < 0) | (labels > limit))
    if len(wrong):
        row = wrong[0]
        if labels[row] < 0:
            raise DataError(
                f"image {indices[row]} of {source} has the label {labels[row]}; labels must be at least 0 "
                f"(-1 usually marks a test set without labels, which cannot be scored)."
            )
        allowed = f"0 to {limit}" + (
            f", the {len(class_names)} classes of the data set" if class_names else ""
        )
        raise DataError(
            f"image {indices[row]} of {source} has the label {labels[row]}; allowed are {allowed}."
        )
    return labels.astype(np.int64)

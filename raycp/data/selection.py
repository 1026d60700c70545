"""Which images of a split are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import Selection
from raycp.errors import DataError


def select_indices(select: Selection, num_images: int, source: str) -> NDArray[np.int64]:
    """Indices of the selected images: `indices` as given, or `range(start, num_images, skip)[:count]`.

    The papers' own `--max` compares the data set index with the limit, and so stops early with a skip above 1;
    here `count` counts images.

    Returns:
        int64 [M], M at least 1.

    Raises:
        DataError: an index outside the split, or nothing selected.
    """
    if num_images == 0:
        raise DataError(f"{source} has no images.")
    if select.indices is not None:
        for index in select.indices:
            if index >= num_images:
                raise DataError(
                    f"select.indices names image {index}, but {source} has {num_images} images; indices run "
                    f"from 0 to {num_images - 1}."
                )
        return np.array(select.indices, dtype=np.int64)
    chosen = range(select.start, num_images, select.skip)[: select.count]
    if not chosen:
        raise DataError(
            f"select.start = {select.start} selects nothing: {source} has {num_images} images, and start must "
            f"be below that."
        )
    return np.array(chosen, dtype=np.int64)

"""The grid of pixel values k/255, k = 0..255, on which sound noise needs its images.

On the grid, rounding x + noise to the grid equals x plus rounded noise exactly, so that the noise does not
depend on x; off it, Cohen's theorem does not apply to the sampler.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.data.images import ImageSet
from raycp.errors import DataError

# Spacing of float32 just above 1. Covers k/255 computed in float32 by division, by multiplication with 1/255 or
# through [-1,1] and back, also when stored as float64; the grid's own spacing is 30,000 times as wide.
GRID_TOLERANCE = 2.0**-23


def grid_levels(values: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Nearest level k of each value, and whether the value is k/255 up to `GRID_TOLERANCE`.

    Args:
        values: floats in [0,1], any shape.

    Returns:
        levels: uint8, same shape.
        on_grid: bool, same shape.
    """
    exact = values.astype(np.float64)
    levels = np.rint(255.0 * exact)
    return levels.astype(np.uint8), np.abs(exact - levels / 255.0) <= GRID_TOLERANCE


def require_grid(images: ImageSet) -> ImageSet:
    """The same set with its images as uint8 levels, as sound noise needs them.

    Raises:
        DataError: a value is not on the 1/255 grid; names the first image and value, and the two ways out.
    """
    if images.images.dtype == np.uint8:
        return images
    levels = np.empty(images.images.shape, np.uint8)
    for row, image in enumerate(images.images):
        levels[row], on_grid = grid_levels(image)
        if not on_grid.all():
            channel, y, x = np.argwhere(~on_grid)[0]
            raise DataError(
                f"image {images.indices[row]} of {images.source} has the value {image[channel, y, x]} (channel "
                f"{channel}, row {y}, column {x}), which is not on the grid k/255 that certify.noise=sound needs. "
                f"Either quantise the images once, uint8 round(255 x), and certify those images, or set "
                f"certify.noise=float (unsound in theory)."
            )
    return ImageSet(images.indices, levels, images.labels, images.class_names, images.source)

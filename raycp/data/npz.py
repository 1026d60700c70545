"""Images and labels in a NumPy `.npz` archive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import NpzData
from raycp.data.grid import grid_levels
from raycp.data.images import ImageSet
from raycp.data.labels import checked_labels
from raycp.data.location import local_path, shown
from raycp.data.npz_member import Member, read_member
from raycp.data.selection import select_indices
from raycp.errors import DataError

_CHANNELS = (1, 3, 4)


def read_npz(config: NpzData) -> ImageSet:
    """Images uint8 or float, [M,H,W], [M,H,W,C] or [M,C,H,W]; labels [M].

    Floats become uint8 levels when all selected images lie on the 1/255 grid, else float32. Of four axes the
    channel axis is the one with 1, 3 or 4 entries; where both or neither could be, `data.layout` decides.
    """
    path = local_path(config.path)
    source = f"the arrays in {shown(path)}"
    images = read_member(path, config.images_key, "data.images_key")
    labels = read_member(path, config.labels_key, "data.labels_key")
    channel_axis = _channel_axis(images, config)
    if images.dtype != np.uint8 and images.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise DataError(
            f"the array {images.key} of {path} is {images.dtype}; images must be uint8, or float32 or float64 "
            f"in [0,1]."
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"the array {labels.key} of {path} has the shape {list(labels.shape)}, but there are "
            f"{images.shape[0]} images; labels must be [{images.shape[0]}]."
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"the array {labels.key} of {path} is {labels.dtype}; labels must be integers.")
    indices = select_indices(config.select, images.shape[0], source)
    pixels = images.rows(indices)
    if pixels.dtype != np.uint8:
        pixels = _as_levels(pixels, indices, source)
    if channel_axis is None:
        pixels = pixels[:, None]
    pixels = np.ascontiguousarray(np.moveaxis(pixels, channel_axis or 1, 1))
    return ImageSet(
        indices, pixels, checked_labels(labels.rows(indices), indices, None, source), None, source
    )


def _channel_axis(images: Member, config: NpzData) -> int | None:
    """Axis of the channels in the stored array; None for [M,H,W]."""
    shape = images.shape
    if len(shape) == 3:
        return None
    if len(shape) != 4:
        raise DataError(
            f"the array {images.key} of {images.path} has the shape {list(shape)}; images must be [M,H,W], [M,H,W,C] "
            f"or [M,C,H,W]."
        )
    if config.layout is not None:
        return 3 if config.layout == "HWC" else 1
    candidates = [axis for axis in (1, 3) if shape[axis] in _CHANNELS]
    if len(candidates) != 1:
        raise DataError(
            f"the array {images.key} of {images.path} has the shape {list(shape)}, in which "
            f"{'either' if candidates else 'neither'} of axes 1 and 3 could be 1, 3 or 4 channels; set data.layout "
            f"to HWC or CHW."
        )
    return candidates[0]


def _as_levels(
    pixels: NDArray[Any], indices: NDArray[np.int64], source: str
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Floats in [0,1] -> uint8 levels if all of them are on the grid, else float32."""
    levels = np.empty(pixels.shape, np.uint8)
    all_on_grid = True
    for row, image in enumerate(pixels):
        inside = (image >= 0) & (image <= 1)  # False for NaN too
        if not inside.all():
            raise DataError(
                f"image {indices[row]} of {source} has the value {image[~inside][0]}; float images must be in "
                f"[0,1] (divide by 255, or save uint8)."
            )
        if all_on_grid:
            levels[row], on_grid = grid_levels(image)
            all_on_grid = bool(on_grid.all())
    return levels if all_on_grid else pixels.astype(np.float32)

"""Images, labels and indices from every supported layout, quantised once and checked."""

from raycp.data.grid import require_grid
from raycp.data.images import ImageSet
from raycp.data.load import load_images

__all__ = ["ImageSet", "load_images", "require_grid"]

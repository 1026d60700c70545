"""Images, labels and indices from every supported layout, quantised once and checked."""

from raycp.data.grid import require_grid
from raycp.data.images import ImageSet, count_classes
from raycp.data.load import load_images

__all__ = ["ImageSet", "count_classes", "load_images", "require_grid"]

"""The LPIPS distance on an ImageNet backbone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raycp.config.base import Frozen, Location


class Backbone(Frozen):
    """LPIPS (Zhang et al. 2018) on a network trained on ImageNet, for colour images."""

    net: Literal["vgg", "alex", "squeeze"]
    weights: Location | None = None
    """File of the network's weights, torchvision's names; null: the file that torchvision keeps in its cache."""
    resize: int | None = Field(224, ge=1)
    """Height and width to which images are resized first (224 in the paper); null: not at all."""

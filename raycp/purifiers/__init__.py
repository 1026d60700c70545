"""Purifiers: a noisy image and the standard deviation of its noise, to a clean image."""

from raycp.purifiers.build import build_purifier
from raycp.purifiers.pixels import PixelPurifier, Purifier

__all__ = ["PixelPurifier", "Purifier", "build_purifier"]

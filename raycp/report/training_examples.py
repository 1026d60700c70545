"""Clean, noisy and purified images of a training as one picture: three rows for each noise level."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from raycp.report.examples import COLUMNS
from raycp.report.grid import font
from raycp.report.numerals import exact
from raycp.report.theme import LIGHT, Theme

_SIDE = 96
_GAP = 4
_MARGIN = 16
_LINE = 24
_NAMES = 80


def draw_examples(pixels: npt.NDArray[np.uint8], sigmas: Sequence[float], theme: Theme = LIGHT) -> bytes:
    """The images as a PNG, enlarged by a whole factor.

    Args:
        pixels: uint8 [sigmas, 3, B, C, H, W], clean, noisy and purified; C is 1 or 3.
        sigmas: the noise levels, pixel units.
        theme: colours of the page it is for.
    """
    levels, rows, columns, _, height, width = pixels.shape
    scale = max(1, _SIDE // max(height, width))
    across, down = scale * width + _GAP, scale * height + _GAP
    size = (2 * _MARGIN + _NAMES + columns * across, 2 * _MARGIN + levels * (_LINE + rows * down + _GAP))
    picture = Image.new("RGB", size, theme.background)
    draw = ImageDraw.Draw(picture)
    top = _MARGIN
    for sigma, level in zip(sigmas, pixels, strict=True):
        draw.text((_MARGIN, top), f"σ = {exact(sigma)}", fill=theme.text, font=font(bold=True))
        top += _LINE
        for name, row in zip(COLUMNS, level, strict=True):
            draw.text((_MARGIN, top + down // 2), name, fill=theme.text, font=font(), anchor="lm")
            for column, image_CHW in enumerate(row):
                tile = Image.fromarray(image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0))
                enlarged = tile.convert("RGB").resize(
                    (scale * width, scale * height), Image.Resampling.NEAREST
                )
                picture.paste(enlarged, (_MARGIN + _NAMES + column * across, top))
            top += down
        top += _GAP
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()

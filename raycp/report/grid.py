"""The example samples as one PNG: a band per sigma, triplets of clean, noisy and purified image side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from raycp.report.examples import COLUMNS, Examples, Triplet
from raycp.report.numerals import exact
from raycp.report.theme import LIGHT, Theme

BORDER = 4
"""Width of a frame, pixels; it lies around the image, not over it."""

_IMAGE_SIDE = 128
_GAP = 6
_TRIPLET_GAP = 34
_MARGIN = 20
_LINE = 20
_TRIPLETS_PER_LINE = 3
_FONT_SIZE = 14


@dataclass(frozen=True)
class Layout:
    """Where things lie, pixels. Images are enlarged by a whole factor, nearest neighbour."""

    scale: int
    width: int
    """Of an enlarged image."""
    height: int
    per_line: int

    @classmethod
    def of(cls, examples: Examples) -> Layout:
        """The layout for these images, which all have one size."""
        height, width = examples.triplets[0].images[0].shape[:2]
        scale = max(1, _IMAGE_SIDE // max(height, width))
        most = max(len(triplets) for triplets in examples.by_sigma().values())
        return cls(scale, scale * width, scale * height, min(_TRIPLETS_PER_LINE, most))

    @property
    def triplet_width(self) -> int:
        """Of three framed images."""
        return 3 * (self.width + 2 * BORDER) + 2 * _GAP

    @property
    def triplet_height(self) -> int:
        """Of the column headers, the framed images and the caption."""
        return _LINE + self.height + 2 * BORDER + _LINE + _GAP

    @property
    def page_width(self) -> int:
        """Of the whole picture."""
        return 2 * _MARGIN + self.per_line * self.triplet_width + (self.per_line - 1) * _TRIPLET_GAP

    def image_position(self, band_top: int, number: int, column: int) -> tuple[int, int]:
        """Left upper pixel of an image (inside its frame): the `number`-th triplet of the band at `band_top`."""
        line, place = divmod(number, self.per_line)
        left = (
            _MARGIN + place * (self.triplet_width + _TRIPLET_GAP) + column * (self.width + 2 * BORDER + _GAP)
        )
        top = band_top + int(1.6 * _LINE) + line * (self.triplet_height + _GAP) + _LINE
        return left + BORDER, top + BORDER

    def band_height(self, triplets: int) -> int:
        """Of the heading of a sigma and the lines of its triplets."""
        lines = -(-triplets // self.per_line)
        return int(1.6 * _LINE) + lines * (self.triplet_height + _GAP) + _LINE


def draw_grid(examples: Examples, theme: Theme = LIGHT) -> bytes:
    """The triplets as a PNG.

    The purified image is framed in green where the base classifier is right on that sample and in red where it is
    wrong; the caption says it in words, label -> predicted. The other two carry a neutral frame: nothing classifies
    them.
    """
    layout = Layout.of(examples)
    bands = examples.by_sigma()
    height = 2 * _MARGIN + _LINE + sum(layout.band_height(len(triplets)) for triplets in bands.values())
    picture = Image.new("RGB", (layout.page_width, height), theme.background)
    draw = ImageDraw.Draw(picture)
    top = _MARGIN
    for sigma, triplets in bands.items():
        _draw_band(picture, draw, layout, top, sigma, triplets, theme)
        top += layout.band_height(len(triplets))
    legend = "Purified image: green (✓) where the base classifier is right on this sample, red (✗) where it is wrong."
    draw.text(
        (_MARGIN, top), _fitted(draw, legend, layout.page_width - 2 * _MARGIN), fill=theme.text, font=font()
    )
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _draw_band(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    top: int,
    sigma: float,
    triplets: Sequence[Triplet],
    theme: Theme,
) -> None:
    draw.text((_MARGIN, top), f"σ = {exact(sigma)}", fill=theme.text, font=font(bold=True))
    for number, triplet in enumerate(triplets):
        for column, (title, pixels) in enumerate(zip(COLUMNS, triplet.images, strict=True)):
            left, upper = layout.image_position(top, number, column)
            verdict = theme.right if triplet.right else theme.wrong
            frame = (
                left - BORDER,
                upper - BORDER,
                left + layout.width + BORDER - 1,
                upper + layout.height + BORDER - 1,
            )
            draw.rectangle(frame, fill=verdict if column == 2 else theme.muted)
            image = Image.fromarray(pixels).convert("RGB")
            picture.paste(
                image.resize((layout.width, layout.height), Image.Resampling.NEAREST), (left, upper)
            )
            heading = (left + layout.width // 2, upper - BORDER - _LINE + 2)
            draw.text(heading, title, fill=theme.text, font=font(), anchor="ma")
        left, upper = layout.image_position(top, number, 0)
        caption = f"{'✓' if triplet.right else '✗'} image {triplet.image_index}: {triplet.label} → {triplet.predicted}"
        place = (left - BORDER, upper + layout.height + BORDER + 3)
        draw.text(place, _fitted(draw, caption, layout.triplet_width), fill=theme.text, font=font())


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """`text` on one line, cut with an ellipsis where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font()) <= width:
        return text
    while text and draw.textlength(f"{text}…", font=font()) > width:
        text = text[:-1]
    return f"{text}…"


def font(bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: Pillow's own font lacks σ, → and the verdict marks."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, _FONT_SIZE)

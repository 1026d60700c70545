"""Colours of figures on light and on dark pages; the sigmas are told apart by colour-blind readers too."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib


@dataclass(frozen=True)
class Theme:
    """Colours as #rrggbb."""

    background: str
    text: str
    muted: str
    """Gridlines, and frames that carry no verdict."""
    right: str
    """Frame of a sample that the base classifier gets right."""
    wrong: str
    sigmas: tuple[str, ...]
    """One per noise level, in increasing order. Source: Okabe and Ito 2008, lightened on the dark page."""
    many: str
    """The matplotlib colour map for more noise levels than that; its ends stay off the background."""

    def colours(self, count: int) -> tuple[str, ...]:
        """One colour for each of `count` noise levels."""
        if count <= len(self.sigmas):
            return self.sigmas[:count]
        colour_map = matplotlib.colormaps[self.many]
        positions = (0.1 + 0.75 * i / (count - 1) for i in range(count))
        return tuple(matplotlib.colors.to_hex(colour_map(position)) for position in positions)


LIGHT = Theme(
    background="#ffffff",
    text="#1b1f24",
    muted="#c8ccd2",
    right="#13934b",
    wrong="#d3263f",
    sigmas=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    many="viridis",
)

DARK = Theme(
    background="#14171b",
    text="#e4e7eb",
    muted="#4a5058",
    right="#2fbf71",
    wrong="#ff5a6e",
    sigmas=("#56b4e9", "#ff8f3d", "#2fc79c", "#e29ac4", "#f3c13a", "#9fd8f7", "#ffffff"),
    many="viridis_r",
)

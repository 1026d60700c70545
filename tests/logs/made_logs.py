"""Small logs that the tests make: look-alikes of the published variants, and synthetic ones of known N and alpha."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import numpy as np

from raycp.statistics import ABSTAIN, certified_radius, clopper_pearson_lower

HEADER = "idx label predict radius correct time"
Print = Callable[[float], str]

PRINTS: dict[str, Print] = {
    "3 digits": lambda radius: f"{radius:.3}",
    "4 decimals": lambda radius: f"{radius:.4f}",
    "2 decimals": lambda radius: f"{radius:.2f}",
    "in full": lambda radius: repr(float(radius)),
    "3 digits, down": lambda radius: str(_down(Decimal(radius))),
}


def _down(radius: Decimal) -> Decimal:
    return (
        radius
        if not radius
        else radius.quantize(Decimal(1).scaleb(radius.adjusted() - 2), rounding=ROUND_DOWN)
    )


def write(path: Path, *lines: str, separator: str = "\t", newline: str = "\n") -> Path:
    """A file of lines whose fields are given with spaces between."""
    text = "".join(separator.join(line.split(" ")) + newline for line in lines)
    path.write_bytes(text.encode())
    return path


def certified_log(
    path: Path, n: int, alpha: float, sigma: float, printed: Print, images: int = 600, seed: int = 0
) -> Path:
    """A log as certify() makes it: half of the images are easy, the others anything; every fifth label differs."""
    generator = np.random.default_rng(seed)
    easy = 1 - 10 ** generator.uniform(-6, -0.3, images // 2)
    p = np.concatenate([easy, generator.uniform(0.3, 1, images - images // 2)])
    lines = [HEADER]
    radii: dict[int, float] = {}
    for index, votes in enumerate(generator.binomial(n, p).tolist()):
        if votes not in radii:
            radii[votes] = certified_radius(sigma, clopper_pearson_lower(votes, n, alpha))
        abstained = radii[votes] < 0
        predict = ABSTAIN if abstained else 3
        label = 4 if index % 5 == 0 else 3
        radius = printed(0.0 if abstained else radii[votes])
        lines.append(f"{index} {label} {predict} {radius} {int(label == predict)} 0:00:01.5")
    return write(path, *lines)


def rows(count: int, radius: Sequence[str] = ("0.5", "0.25")) -> list[str]:
    """Lines of a sound log: labels 0 and 1 in turn, the last image abstained."""
    lines = []
    for index in range(count):
        predict, text = (index % 2, radius[index % len(radius)]) if index < count - 1 else (-1, "0.0")
        lines.append(f"{index} {index % 2} {predict} {text} {int(predict == index % 2)} 0:00:01.250000")
    return lines

"""What is drawn: phases, blocks, and the counter that keys their noise."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple


class Phase(IntEnum):
    """Disjoint streams of samples of one image: what selects a class never bounds its probability."""

    SELECTION = 0
    ESTIMATION = 1
    PREDICTION = 2
    EVALUATION = 3
    CORE = 4
    """Not a stream: its one sample is the image itself, without noise, as the core of a composition sees it."""


class Block(NamedTuple):
    """Consecutive samples `first .. first + num_samples - 1` of one image and phase."""

    image: int
    """Position of the image in the run's image list."""
    phase: Phase
    first: int
    num_samples: int


def stream_word(sigma: float, phase: Phase) -> int:
    """The counter word that keeps noise levels and phases apart: the bits of float64 sigma, the last 8 hold the phase.

    Two noise levels that agree in their first 44 mantissa bits share noise, which correlates their results but
    leaves each of them valid.
    """
    bits: int = struct.unpack("<Q", struct.pack("<d", sigma))[0]
    return bits & ~0xFF | int(phase)

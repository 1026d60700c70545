"""What the planner deals in: tasks, counted blocks, outcomes, and the (sigma, image) units on their way to a row."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raycp.certify.rules import Row
from raycp.certify.tally import Tally
from raycp.sampling.blocks import Block, Phase


@dataclass(frozen=True)
class Task:
    """Blocks of one noise level, drawn by one replica in one call.

    `numerics` is the class of the replica; all blocks of a (sigma, image) are drawn under one class.
    """

    sigma: float
    blocks: tuple[Block, ...]
    numerics: str

    @property
    def num_samples(self) -> int:
        """Samples of all blocks."""
        return sum(block.num_samples for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Counted:
    """A block with its counts: what the ledger keeps. `counts_K` has no bucket for invalid logits."""

    sigma: float
    block: Block
    counts_K: npt.NDArray[np.int64]
    numerics: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The row of a decided (sigma, image), with what it cost."""

    sigma: float
    image: int
    row: Row
    num_samples: int
    seconds: float
    numerics: str


@dataclass(slots=True)
class Unit:
    """One (sigma, image) on its way to a row."""

    sigma: float
    image: int
    label: int
    numerics: str
    tallies: dict[Phase, Tally]
    planned: dict[Phase, int] = field(default_factory=dict)
    """Per phase, the number of leading samples that were asked for so far."""
    wanted: dict[Phase, int] = field(default_factory=dict)
    """Per phase, how many of them the rule asked for; the others are drawn ahead of a decision."""
    todo: deque[tuple[Phase, int, int]] = field(default_factory=deque)
    """Ranges (phase, first, stop) to hand out."""
    invalid: list[tuple[Phase, int, str]] = field(default_factory=list)
    """Blocks with invalid logits: phase, first sample, and what to say of them."""
    queued: bool = False
    remaining: int = 0
    """Samples until a decision, as the rule expects."""
    seconds: float = 0.0

    @property
    def num_todo(self) -> int:
        """Samples to hand out."""
        return sum(stop - first for _, first, stop in self.todo)

    @property
    def num_ahead(self) -> int:
        """Samples planned beyond what the rule asked for."""
        return sum(number - self.wanted.get(phase, 0) for phase, number in self.planned.items())

    @property
    def num_drawn(self) -> int:
        """Samples that are here."""
        return sum(tally.num_samples for tally in self.tallies.values())


def invalid_logits(sigma: float, block: Block, num_invalid: int, image_index: int) -> str:
    """Why a unit is set aside whose block has samples with invalid logits."""
    return (
        f"{num_invalid} of {block.num_samples} samples have NaN or infinite logits: image {image_index}, "
        f"sigma {sigma}, {block.phase.name.lower()} samples {block.first} to {block.first + block.num_samples - 1}"
    )

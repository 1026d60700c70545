"""What a session's samples went into."""

from __future__ import annotations

from dataclasses import dataclass

MOST_AHEAD = 0.04
"""Samples drawn ahead of a decision, and perhaps in vain, as a share of all that were handed out."""


@dataclass(slots=True)
class Account:
    """Sums over units, in samples; kept up to date by the planner."""

    handed_out: int = 0
    """In tasks, less those that were given back; with what earlier sessions drew."""
    used: int = 0
    """Of decided units, what their rows were made from."""
    dropped: int = 0
    """Of decided units, what was handed out and not needed."""
    ahead: int = 0
    """Of open units, planned but not asked for by their rule yet."""
    expected: int = 0
    """Of open units, still needed as their rule expects."""
    waiting: int = 0
    """Of open units, to be handed out."""
    ignored: int = 0
    """Came back and were not taken in: repeated, late, or of another numerics class."""

    def may_draw_ahead(self, more: int) -> bool:
        """Whether `more` samples may be drawn ahead of a decision."""
        return self.ahead + self.dropped + more <= MOST_AHEAD * self.handed_out

    @property
    def share_dropped(self) -> float:
        """Of the samples handed out, the share that no row needed."""
        return self.dropped / self.handed_out if self.handed_out else 0.0

"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Check:
    """One check of a run.

    Attributes:
        name: one word.
        verdict: what was looked at, in a few words.
        failures: one line each; the check is passed if there are none.
        warnings: what is not as it was, and may be.
    """

    name: str
    verdict: str = ""
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

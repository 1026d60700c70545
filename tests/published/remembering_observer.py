"""An observer of downloads that remembers what it was told."""

from __future__ import annotations


class Watch:
    """See `raycp.published.download.Observer`."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, file: str, done: int, total: int | None) -> None:
        self.steps.append((file, done, total))

    @property
    def text(self) -> str:
        return "\n".join(self.notes)

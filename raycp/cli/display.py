"""Progress on stderr: one live display on a terminal, a plain line every few seconds otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from raycp.distributed.progress import Progress
    from raycp.distributed.session import Observer, SigmaAccuracy

_PLAIN_SECONDS = 5.0


@contextmanager
def make_display() -> Iterator[Observer]:
    """The display that suits stderr."""
    if not sys.stderr.isatty():
        plain = PlainDisplay()
        try:
            yield plain
        finally:
            plain.finish()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        yield RichDisplay(live)


class PlainDisplay:
    """Lines for logs."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._latest: tuple[Progress, Sequence[SigmaAccuracy]] | None = None

    def note(self, text: str) -> None:
        """See `Observer`."""
        typer.echo(text, err=True)

    def progress(self, progress: Progress, accuracies: Sequence[SigmaAccuracy]) -> None:
        """See `Observer`; prints at most every few seconds."""
        self._latest = progress, accuracies
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._print()

    def finish(self) -> None:
        """Print the last state."""
        if self._latest is not None:
            self._print()

    def _print(self) -> None:
        assert self._latest is not None
        self._last = time.monotonic()
        progress, accuracies = self._latest
        typer.echo(" | ".join([summary(progress), *accuracy_lines(accuracies)]), err=True)


class RichDisplay:
    """A live bar with the figures under it."""

    def __init__(self, live: object) -> None:
        from rich.live import Live

        assert isinstance(live, Live)
        self._live = live

    def note(self, text: str) -> None:
        """See `Observer`."""
        self._live.console.print(text, highlight=False)

    def progress(self, progress: Progress, accuracies: Sequence[SigmaAccuracy]) -> None:
        """See `Observer`."""
        self._live.update(_panel(progress, accuracies))


def _panel(progress: Progress, accuracies: Sequence[SigmaAccuracy]) -> Group:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    drawn = progress.samples / max(1, progress.samples + progress.remaining_samples)
    bar = ProgressBar(total=1.0, completed=drawn, width=60)
    return Group(
        bar, Text(summary(progress)), *(Text(line, style="dim") for line in accuracy_lines(accuracies))
    )


def summary(progress: Progress) -> str:
    """How far, how fast, how healthy, in one line."""
    parts = [
        f"{progress.decided:,}/{progress.total:,} decided",
        f"{progress.samples_per_second:,.0f} samples/s",
        f"{progress.replicas} replicas" + (f" (+{progress.pending} waiting)" if progress.pending else ""),
        f"ETA {eta(progress)}",
    ]
    if progress.lost:
        parts.append(f"{progress.lost} lost")
    if progress.requeued:
        parts.append(f"{progress.requeued} tasks repeated")
    if progress.share_dropped >= 0.001:
        parts.append(f"{100 * progress.share_dropped:.1f}% drawn ahead in vain")
    if progress.set_aside:
        parts.append(f"{progress.set_aside} failed")
    return ", ".join(parts)


def eta(progress: Progress) -> str:
    """Remaining time as h:mm:ss, at the present speed."""
    if not progress.samples_per_second:
        return "unknown"
    seconds = round(progress.remaining_samples / progress.samples_per_second)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def accuracy_lines(accuracies: Sequence[SigmaAccuracy]) -> list[str]:
    """Accuracy so far, per sigma with any decided image."""
    return [
        f"sigma {item.sigma:g}: "
        + " ".join(f"{100 * share:.1f}%@{eps:g}" for eps, share in item.certified)
        + f" of {item.decided}"
        for item in accuracies
        if item.decided
    ]

"""`raycp weights fetch`: published files, by name."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from raycp.published import Published, PublishedFile
    from raycp.published.download import Observer

_PLAIN_SECONDS = 5.0


def fetch(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A published model; none: list all.", show_default=False),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder for its files; else the usual one.", show_default=False
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Print what is known of NAME, or of all, and fetch nothing.")
    ] = False,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Demand that the file has this SHA-256.", show_default=False),
    ] = None,
) -> None:
    """Fetch a published model and check it; an interrupted download goes on where it was.

    The licence is named before anything is fetched. A card beside the files says
    where they came from, their SHA-256 and what it was compared with. No file is
    opened.

    \b
    Examples:
      raycp weights fetch
      raycp weights fetch --list cd-lpips-cifar10
      raycp weights fetch resnet56-cifar10
      raycp weights fetch cd-lpips-cifar10 --out /data/cd-lpips
    """
    from raycp.published import PUBLISHED, find

    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise typer.BadParameter(f"must be 64 hexadecimal digits, got {sha256!r}.", param_hint="--sha256")
    if (name is None or list_) and (out, sha256) != (None, None):
        raise typer.BadParameter("--out and --sha256 are for fetching a NAME.")
    if name is None:
        for line in _table(PUBLISHED.values()):
            typer.echo(line)
        return
    entry = find(name)
    if list_:
        for line in _facts(entry):
            typer.echo(line)
        return
    _fetch(entry, entry.folder if out is None else out, sha256)


def _fetch(entry: Published, folder: str, sha256: str | None) -> None:
    from raycp.published.fetch import card_path
    from raycp.published.fetch import fetch as fetch_files

    with _display() as display:
        files = fetch_files(entry, folder, display, sha256.lower() if sha256 else None)
    for file in files:
        if file.arrived is None:
            typer.echo(f"there      {file.path}, whole")
        else:
            typer.echo(f"fetched    {file.path}, {file.arrived.size:,} bytes")
            typer.echo(f"sha256     {file.arrived.sha256}")
            typer.echo(f"checked    {'; '.join(file.arrived.verified_by)}")
    if any(file.arrived is not None for file in files):
        typer.echo(f"card       {card_path(entry, folder)}")
    if command := entry.convert_command(folder):
        typer.echo(f"next       {command}")
    else:
        typer.echo(f"ready      {files[0].path if entry.is_file else folder}")


def _table(entries: Iterable[Published]) -> Iterator[str]:
    """One line for each, in columns."""
    rows = [("name", "size", "licence", "what")]
    rows += [(entry.name, _size(entry), entry.licence, entry.what) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]])


def _facts(entry: Published) -> Iterator[str]:
    rows = [("what", entry.what), ("licence", entry.licence), ("page", entry.page), ("size", _size(entry))]
    for first in entry.files:
        rows += [("file", text) for text in _file_facts(first)]
    if entry.files:
        rows += [("fetch", entry.fetch_command()), ("convert", entry.convert_command() or "")]
        rows.append(("place", entry.place))
    rows.append(("by hand", entry.by_hand))
    return (f"{name:10} {value}" for name, value in rows if value)


def _file_facts(file: PublishedFile) -> Iterator[str]:
    facts = [file.url]
    if file.size is not None:
        facts.append(f"{file.size:,} bytes")
    if file.sha256 is not None:
        short = "" if len(file.sha256) == 64 else "..."
        facts.append(f"SHA-256 {file.sha256}{short} ({file.sha256_from})")
    yield "; ".join(facts)
    if file.otherwise is not None:
        for line in _file_facts(file.otherwise):
            yield f"or else {line}"


def _size(entry: Published) -> str:
    if not entry.files:
        return "by hand"
    return "not known" if entry.size is None else _megabytes(entry.size)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB" if size < 995e6 else f"{size / 1e9:.3g} GB"


@contextmanager
def _display() -> Iterator[Observer]:
    """A bar on a terminal, else a line every few seconds; on stderr."""
    if not sys.stderr.isatty():
        yield _PlainDisplay()
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        yield _RichDisplay(bars)


class _PlainDisplay:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def progress(self, file: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_SECONDS and done != total:
            return
        self._last = now
        of = "" if total is None else f" of {_megabytes(total)}, {done / max(1, total):.0%}"
        typer.echo(f"{file}: {_megabytes(done)}{of}", err=True)


class _RichDisplay:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def note(self, text: str) -> None:
        self._bars.console.print(text, highlight=False, markup=False)

    def progress(self, file: str, done: int, total: int | None) -> None:
        if file not in self._tasks:
            self._tasks[file] = self._bars.add_task(file, total=total, completed=done)
        self._bars.update(self._tasks[file], completed=done, total=total)

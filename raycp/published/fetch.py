"""Fetching a published model: its files into a folder, and beside them a card that says where they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from raycp.errors import ConfigError, FetchError
from raycp.published.download import Arrived, Observer, download
from raycp.published.entry import Published, PublishedFile
from raycp.published.server import NotThereError, Patience
from raycp.storage import Storage


@dataclass(frozen=True)
class Fetched:
    """A file of the model.

    Attributes:
        path: where it is.
        arrived: what came; None: it was there already, and whole.
    """

    path: Path
    arrived: Arrived | None


def fetch(
    entry: Published,
    folder: str | Path,
    observer: Observer,
    sha256: str | None = None,
    patience: Patience | None = None,
) -> list[Fetched]:
    """Fetch what is not there yet.

    Args:
        entry: the published model.
        folder: where its files and the card, `NAME.fetched.json`, go.
        observer: told the licence before anything is asked for, and how it gets on.
        sha256: hex digits that the user demands of a model of one file.
        patience: with slow servers.

    Returns:
        Its files.

    Raises:
        ConfigError: `sha256` is given for several files, or is not the one known; `folder` is a URI.
        FetchError: it must be got by hand, cannot be fetched, or a file is there that is another or may be.
        StorageError: the card cannot be written.
    """
    if not entry.files:
        raise FetchError(f"{entry.name} cannot be fetched: {entry.by_hand} See {entry.page}.")
    _check_demand(entry, sha256)
    if "://" in str(folder):
        raise ConfigError(f"--out must be a folder on this machine, got {str(folder)!r}.")
    folder = Path(folder).expanduser()
    card = _Card(entry, folder)
    fetched, told = [], False
    for file in entry.files:
        there = next((known for known in _chain(file) if (folder / known.path).exists()), None)
        if there is not None:
            _check_whole(there, folder / there.path, card, sha256)
            fetched.append(Fetched(folder / there.path, None))
            continue
        if not told:
            observer.note(f"{entry.name}: licence {entry.licence} ({entry.page})")
            told = True
        fetched.append(_bring(file, folder, card, observer, sha256, patience))
    return fetched


def card_path(entry: Published, folder: str | Path) -> Path:
    """The card of a fetched model."""
    return Path(folder).expanduser() / f"{entry.name}.fetched.json"


class _Card:
    """What is known of the fetched files, kept beside them."""

    def __init__(self, entry: Published, folder: Path) -> None:
        self._entry, self._folder, self.path = entry, folder, card_path(entry, folder)
        self._files: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            try:
                read = json.loads(self.path.read_text(encoding="utf-8"))
                self._files = {file["file"]: file for file in read["files"]}
            except (OSError, ValueError, LookupError, TypeError) as err:
                raise FetchError(f"{self.path} is damaged: {err!r}. Delete it and what it is about.") from err

    def sha256_of(self, path: str) -> str | None:
        return self._files[path].get("sha256") if path in self._files else None

    def add(self, path: str, arrived: Arrived) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._files[path] = {"file": path, **asdict(arrived), "fetched": now}
        entry = self._entry
        content = {
            "name": entry.name,
            "what": entry.what,
            "licence": entry.licence,
            "page": entry.page,
            "files": list(self._files.values()),
        }
        text = json.dumps(content, indent=2) + "\n"
        Storage(str(self._folder)).write(self.path.name, text.encode())


def _check_demand(entry: Published, sha256: str | None) -> None:
    if sha256 is None:
        return
    if len(entry.files) > 1:
        raise ConfigError(f"--sha256 is for one file, and {entry.name} has {len(entry.files)}.")
    known = entry.files[0].sha256
    if known is not None and not sha256.startswith(known):
        raise ConfigError(
            f"--sha256 is {sha256}, but that of {entry.name} is {known} ({entry.files[0].sha256_from})."
        )


def _check_whole(file: PublishedFile, target: Path, card: _Card, demanded: str | None) -> None:
    """Make sure that the file that is there is the one to be fetched."""
    known = {
        "demanded with --sha256": demanded,
        "that of the published file": file.sha256,
        f"that of {card.path}": card.sha256_of(file.path),
    }
    if not any(known.values()):
        raise FetchError(
            f"{target} is there, but nothing says whether it is whole: {card.path} does not mention it. Move it away, "
            "or give its hash with --sha256."
        )
    try:
        with target.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as err:
        raise FetchError(f"cannot read {target}: {err.strerror or err}.") from err
    for what, claimed in known.items():
        if claimed is not None and not found.startswith(claimed):
            raise FetchError(
                f"{target} is there, but its SHA-256 is {found}, not {claimed}, {what}. Move it away, or take another "
                "--out."
            )


def _bring(
    file: PublishedFile,
    folder: Path,
    card: _Card,
    observer: Observer,
    sha256: str | None,
    patience: Patience | None,
) -> Fetched:
    for one in _chain(file):
        try:
            record = partial(card.add, one.path)
            arrived = download(one, folder / one.path, observer, record, sha256, patience)
        except NotThereError:
            if one.otherwise is None:
                raise
            observer.note(f"the server has no {one.path}; {one.otherwise.path} instead.")
            continue
        return Fetched(folder / one.path, arrived)
    raise AssertionError("the last file of a chain returns or raises")


def _chain(file: PublishedFile | None) -> Iterator[PublishedFile]:
    """A file, and those that are taken where it is not there."""
    while file is not None:
        yield file
        file = file.otherwise

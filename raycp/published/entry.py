"""What is known of a published model before it is fetched."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

NO_LICENCE = "none given"
FETCHED_FOLDER = "models/published"
"""Where files go that are to be converted."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as a server has it.

    Attributes:
        url: of the file itself.
        name: where it goes in the entry's folder; empty: the last part of the URL.
        sha256: 64 hex digits, or the first 8 of them; None: not known.
        sha256_from: what says so.
        size: bytes; None: not known exactly.
        otherwise: the file that is taken where the server has none at this URL.
    """

    url: str
    name: str = ""
    sha256: str | None = None
    sha256_from: str = ""
    size: int | None = None
    otherwise: PublishedFile | None = None

    @property
    def path(self) -> str:
        """Where it goes in the entry's folder, with forward slashes."""
        return self.name or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Published:
    """A published model: one file, or the files of a folder.

    Attributes:
        name: short and stable, what `raycp weights fetch` takes.
        what: the network and what it was trained on.
        licence: SPDX name of the licence its publisher gives; `NO_LICENCE` if none; or what could not be found out.
        page: where the publisher names the URLs.
        place: the path that configurations use: of the model folder if it is converted, else of the file or folder.
        files: empty for what no plain URL gives.
        convert: arguments of `raycp weights convert` that make the model folder; None: used as it is.
        about: size of all files together, bytes, rounded; None: not known.
        by_hand: what to do where there are no files.
    """

    name: str
    what: str
    licence: str
    page: str
    place: str
    files: tuple[PublishedFile, ...]
    convert: tuple[str, ...] | None = None
    about: int | None = None
    by_hand: str = ""

    @property
    def is_file(self) -> bool:
        """Whether `place` is the file itself."""
        return self.convert is None and [file.path for file in self.files] == [PurePosixPath(self.place).name]

    @property
    def folder(self) -> str:
        """Where its files go by default."""
        if self.convert is not None:
            return f"{FETCHED_FOLDER}/{self.name}"
        return str(PurePosixPath(self.place).parent) if self.is_file else self.place

    @property
    def size(self) -> int | None:
        """Bytes of all files together, where each is known; else the rounded figure."""
        sizes = [file.size for file in self.files]
        return sum(filter(None, sizes)) if sizes and None not in sizes else self.about

    def fetch_command(self, folder: str | None = None) -> str:
        """The command that fetches it, into `folder` if that is another than the default."""
        out = f" --out {shlex.quote(folder)}" if folder not in (None, self.folder) else ""
        return f"raycp weights fetch {self.name}{out}"

    def convert_command(self, folder: str | None = None, place: str | None = None) -> str | None:
        """The command that makes the model folder `place` of what was fetched into `folder`; None if there is none."""
        if self.convert is None:
            return None
        file = str(PurePosixPath(folder or self.folder) / self.files[0].path)
        words = ["raycp", "weights", "convert", file, *self.convert, "--out", place or self.place]
        return shlex.join(words)

"""The file that a download grows in, `NAME.part`, and beside it `NAME.part.json`: which version its bytes are from."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from raycp.errors import FetchError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Version:
    """What a server says of the version of a file that it sends.

    Attributes:
        url: of the file.
        etag: a strong one; None: it gives none, so that nothing can be gone on from.
        total: bytes; None: not said.
        md5: hex; None: not said.
        sha256: hex; None: not said.
    """

    url: str = ""
    etag: str | None = None
    total: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass
class Part:
    """The growing file, open and locked."""

    target: Path
    stream: io.FileIO
    version: Version = field(default_factory=Version)

    @property
    def path(self) -> Path:
        """Of the growing file."""
        return _beside(self.target, ".part")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.stream.seek(0, os.SEEK_END)

    def restart(self, version: Version) -> None:
        """Forget the bytes; those that come are of this version."""
        self.stream.truncate(0)
        self.version = version
        _beside(self.path, ".json").write_text(json.dumps(asdict(version)) + "\n", encoding="utf-8")

    def recall(self, url: str) -> bool:
        """Take up the version whose bytes an earlier process left; False if it had to forget them."""
        version = self._noted()
        if version is not None and version.url == url and self.size < (version.total or 0):
            self.version = version
            return True
        forgotten = self.size > 0
        self.stream.truncate(0)
        return not forgotten

    def _noted(self) -> Version | None:
        """The version that an earlier process noted, if it can be gone on from."""
        try:
            version = Version(**json.loads(_beside(self.path, ".json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return version if isinstance(version.etag, str) and isinstance(version.total, int) else None

    def append(self, block: bytes) -> None:
        """Write a block at the end."""
        left = memoryview(block)
        while left:
            left = left[self.stream.write(left) :]

    def digest(self, name: str) -> str:
        """Hash of the bytes, hex."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, name).hexdigest()

    def remove(self) -> None:
        """Delete it."""
        _beside(self.path, ".json").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self.stream.fileno())
        self.path.replace(self.target)
        _beside(self.path, ".json").unlink(missing_ok=True)


@contextmanager
def held_part(target: Path) -> Iterator[Part]:
    """The growing file of a target, made if need be, against a second process that fetches the same.

    Raises:
        FetchError: another process has it, or the disk refuses.
    """
    path = _beside(target, ".part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that nothing is left to be written when a full disk has already been reported.
        with path.open("ab", buffering=0) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise FetchError(f"another process is fetching {target}; wait for it to end.") from err
            yield Part(target, stream)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what a disk that refuses means."""
    try:
        yield
    except OSError as err:
        advice = "check the folder and its permissions"
        if err.errno in _FULL:
            advice = "make room and give the same command again; what has arrived is kept"
        raise FetchError(f"cannot write {path}: {err.strerror or err}; {advice}.") from err


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)

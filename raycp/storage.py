"""Files of a run directory, on a local disk or in an object store: whole files, written atomically."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from raycp.errors import RunMismatchError, StorageError


class Storage:
    """A folder by path or URI (`s3://`, `gs://`, or anything else pyarrow knows).

    A file is seen whole or not at all: local files are written aside, flushed to the disk, and renamed; object stores
    publish an object when it is complete.

    Args:
        location: path or URI.

    Raises:
        StorageError: the URI is of no known kind, or the store does not answer.
    """

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/") or "/"
        self._local: Path | None = None
        if "://" not in location:
            self._local = Path(location).expanduser().absolute()
            return
        try:
            self._fs, self._root = fs.FileSystem.from_uri(self.location)
        except (pa.ArrowInvalid, OSError) as err:
            raise StorageError(f"{location} cannot be used as a run directory: {err}") from err
        if isinstance(self._fs, fs.LocalFileSystem):
            self._local = Path(self._root)

    def path(self, name: str = "") -> str:
        """Where a file of the folder is, for messages."""
        if not name:
            return str(self._local) if self._local else self.location
        root, mark, options = (str(self._local), "", "") if self._local else self.location.partition("?")
        return f"{root}/{name}{mark}{options}"

    @property
    def name(self) -> str:
        """The last part of the folder's path, for people."""
        return (str(self._local) if self._local else self.location.partition("?")[0]).rpartition("/")[2]

    def for_arrow(self) -> tuple[fs.FileSystem | None, str]:
        """File system and path as pyarrow takes them, for libraries that write here themselves; None: a local disk."""
        return (None, str(self._local)) if self._local is not None else (self._fs, self._root)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, durable when this returns."""
        with self._translated("write", name):
            if self._local is None:
                with self._fs.open_output_stream(f"{self._root}/{name}") as stream:
                    stream.write(data)
                return
            target = self._local / name
            _make_folder(target.parent)
            aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                with aside.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                aside.rename(target)
            finally:
                aside.unlink(missing_ok=True)
            _sync_folder(target.parent)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        with self._translated("read", name):
            try:
                if self._local is not None:
                    return (self._local / name).read_bytes()
                with self._fs.open_input_stream(f"{self._root}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None
            except NotADirectoryError as err:
                if self._local is None or not self._local.is_file():
                    raise
                raise StorageError(
                    f"{self.path()} is a file, not a run directory. If it is a published log, `raycp logs import` "
                    "reads it."
                ) from err

    def names(self, folder: str) -> list[str]:
        """Names of the files in a subfolder, sorted, as `folder/name`; files still being written are not among them."""
        with self._translated("list", folder):
            if self._local is not None:
                found = (self._local / folder).iterdir() if (self._local / folder).is_dir() else iter(())
                names = [path.name for path in found if path.is_file()]
            else:
                selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
                names = [info.base_name for info in self._fs.get_file_info(selector) if info.is_file]
            return sorted(f"{folder}/{name}" for name in names if not name.startswith("."))

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a file, made if need be; in an object store the whole is written again."""
        if self._local is None:
            self.write(name, (self.read(name) or b"") + data)
            return
        with self._translated("write", name):
            _make_folder((self._local / name).parent)
            with (self._local / name).open("ab") as file:
                file.write(data)

    def put_folder(self, name: str, source: Path, last: str) -> None:
        """Copy the files of a local folder. `last`, one of them, comes last: where it is, the folder is whole.

        On a local disk the folder appears whole under its name.
        """
        files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
        files.remove(last)
        aside = name
        if self._local is not None:
            aside = str(Path(name).with_name(f".{Path(name).name}.tmp"))
            shutil.rmtree(self._local / aside, ignore_errors=True)  # what a killed process left
        for file in [*files, last]:
            self.write(f"{aside}/{file}", (source / file).read_bytes())
        if self._local is not None:
            with self._translated("write", name):
                (self._local / aside).rename(self._local / name)
                _sync_folder((self._local / name).parent)

    def get_folder(self, name: str, target: Path) -> Path:
        """The files below a subfolder on this machine's disk: where they are, or copied into `target`."""
        if self._local is not None:
            return self._local / name
        with self._translated("read", name):
            base = f"{self._root}/{name}".rstrip("/")
            for info in self._fs.get_file_info(fs.FileSelector(base, recursive=True)):
                if info.is_file:
                    path = target / info.path[len(base) + 1 :]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with self._fs.open_input_stream(info.path) as stream:
                        path.write_bytes(stream.read())
        return target

    def is_empty(self) -> bool:
        """Whether the folder is absent or holds neither files nor folders, hidden ones aside."""
        with self._translated("list", ""):
            if self._local is not None:
                names = [path.name for path in self._local.iterdir()] if self._local.is_dir() else []
            else:
                selector = fs.FileSelector(self._root, allow_not_found=True)
                names = [info.base_name for info in self._fs.get_file_info(selector)]
            return all(name.startswith(".") for name in names)

    def delete(self, name: str) -> None:
        """Remove a file that may be gone already."""
        with self._translated("delete", name):
            try:
                if self._local is not None:
                    (self._local / name).unlink()
                else:
                    self._fs.delete_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second driver on this machine or a file system they share.

        Object stores have no locks: two drivers there waste work but harm nothing, as parts never overwrite each other.

        Raises:
            RunMismatchError: another process holds it.
        """
        if self._local is None:
            yield
            return
        import fcntl

        with self._translated("lock", ".lock"):
            _make_folder(self._local)
            lock = (self._local / ".lock").open("w")
        with lock:
            with self._translated("lock", ".lock"):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as err:
                    raise RunMismatchError(
                        f"{self.path()} is in use by another raycp process; wait for it to end, or take another --out."
                    ) from err
            yield

    @contextmanager
    def _translated(self, verb: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            advice = "check the path and its permissions"
            if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                advice = "make room; what was written before is whole"
            reason = err.strerror or str(err)
            raise StorageError(f"cannot {verb} {self.path(name)}: {reason}; {advice}.") from err


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, durable like what will be in it."""
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in absent:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

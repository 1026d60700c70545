"""One file over HTTP: resumed where it was interrupted, checked, and seen under its name only when whole.

A Range request goes on only from the version whose bytes are there (If-Range, RFC 9110 section 13.1.5), and its answer
must carry the same ETag, as not every server knows If-Range. Nothing of a file is interpreted.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import requests

from raycp.errors import FetchError
from raycp.published.entry import PublishedFile
from raycp.published.part import Part, Version, held_part
from raycp.published.server import InterruptedDownload, Patience, answer_of

# What is lost, at most, of what was received before a connection broke.
_BLOCK = 2**15


class Observer(Protocol):
    """Sees how a download gets on."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def progress(self, file: str, done: int, total: int | None) -> None:
        """So many bytes of a file are there; total is None where the server does not say."""


@dataclass(frozen=True)
class Arrived:
    """A file that is there, whole.

    Attributes:
        url: that it came from.
        sha256: of its bytes.
        size: bytes.
        verified_by: what its bytes were compared with.
    """

    url: str
    sha256: str
    size: int
    verified_by: tuple[str, ...]


def download(
    file: PublishedFile,
    target: Path,
    observer: Observer,
    record: Callable[[Arrived], None],
    sha256: str | None = None,
    patience: Patience | None = None,
) -> Arrived:
    """Bring a file to `target`.

    Args:
        file: its URL, and what is known of it.
        target: where it is to be.
        observer: told how it gets on.
        record: called with what arrived, before the file gets its name.
        sha256: a hash that the user demands.
        patience: see `Patience`.

    Returns:
        What arrived.

    Raises:
        NotThereError: the server has no such file.
        FetchError: it cannot be fetched, or is not what was published. What arrived is kept for the next time, unless
            it is complete and wrong.
    """
    patience = patience or Patience()
    with held_part(target) as part, requests.Session() as session:
        if not part.recall(file.url):
            observer.note(f"{file.path}: what is in {part.path} cannot be gone on from, so it starts over.")
        failures, arrived = 0, part.size
        while True:
            try:
                _attempt(session, file, part, observer, patience)
                break
            except InterruptedDownload as err:
                failures = 1 if part.size > arrived else failures + 1
                arrived = max(arrived, part.size)
                if failures > len(patience.waits):
                    _leave(part)
                    raise FetchError(_gave_up(file, part, err)) from err
                wait = patience.waits[failures - 1]
                observer.note(f"{err}; trying again in {wait:g} s.")
                time.sleep(wait)
            except FetchError:
                _leave(part)
                raise
        result = _checked(file, part, sha256)
        record(result)
        part.finish()
    return result


def _leave(part: Part) -> None:
    if not part.size:
        part.remove()


def _attempt(
    session: requests.Session, file: PublishedFile, part: Part, observer: Observer, patience: Patience
) -> None:
    """Append what is missing; returns when the file is complete."""
    have, before = part.size, part.version
    headers = {}
    if have and before.etag and before.total:
        # With both ends: Azure may answer anonymous requests by its rules of 2009, which know no open range.
        headers = {"Range": f"bytes={have}-{before.total - 1}", "If-Range": before.etag}
    with answer_of(session, file.url, headers, patience) as (response, stated):
        if response.status_code == 200:
            _start(response, stated, file, part)
            size = "size not stated" if part.version.total is None else f"{part.version.total:,} bytes"
            observer.note(f"{file.path}: {size}, from {file.url}")
            if have:
                observer.note(f"{file.path}: {_why_over(before, part.version)}, so it starts over.")
        else:
            _check_range(response, part, have)
            observer.note(f"{file.path}: going on after {have:,} of {before.total:,} bytes.")
        _require_room(part)
        _copy(response, file, part, observer)


def _start(response: requests.Response, sha256: str | None, file: PublishedFile, part: Part) -> None:
    """The whole file is on its way: note its version, and refuse one that is known to be another."""
    etag, length = response.headers.get("ETag"), response.headers.get("Content-Length", "")
    version = Version(
        url=file.url,
        etag=None if not etag or etag.startswith("W/") else etag,
        total=int(length) if length.isdecimal() else None,
        md5=_hex_of(response.headers.get("Content-MD5")),
        sha256=sha256,
    )
    part.restart(version)
    if file.size is not None and version.total not in (None, file.size):
        raise FetchError(
            f"{file.url}: the server has {version.total:,} bytes, the published file {file.size:,}: it was changed."
        )
    if file.sha256 and version.sha256 and not version.sha256.startswith(file.sha256):
        raise FetchError(
            f"{file.url}: its SHA-256 is {version.sha256}, says the server, but that of the published file is "
            f"{file.sha256} ({file.sha256_from}): it was changed."
        )


def _why_over(before: Version, now: Version) -> str:
    if before.etag is None:
        return "the server does not say which version it sends"
    return (
        "the file has changed on the server"
        if now.etag != before.etag
        else "the server sends only whole files"
    )


def _check_range(response: requests.Response, part: Part, have: int) -> None:
    """Make sure that what comes goes on where the file ends, in the same version."""
    version = part.version
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    fits = found and int(found[1]) == have and found[3] in ("*", str(version.total))
    if response.status_code != 206 or not fits or response.headers.get("ETag") != version.etag:
        part.restart(Version())
        raise InterruptedDownload("the server answers with a part of another version")


def _require_room(part: Part) -> None:
    if part.version.total is None:
        return
    needed, free = part.version.total - part.size, shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise FetchError(
            f"{part.path.parent}: there is room for {free:,} bytes, and {needed:,} are to come. Make room, or take "
            "another --out."
        )


def _copy(response: requests.Response, file: PublishedFile, part: Part, observer: Observer) -> None:
    total, done = part.version.total, part.size
    most = total if total is not None else file.size
    observer.progress(file.path, done, total)
    for block in response.iter_content(_BLOCK):
        done += len(block)
        if most is not None and done > most:
            part.remove()
            raise FetchError(f"{file.url}: the server sends more than the {most:,} bytes that the file has.")
        part.append(block)
        observer.progress(file.path, done, total)
    if most is not None and done < most:
        raise InterruptedDownload(f"{file.url}: the connection ended after {done:,} of {most:,} bytes")


def _checked(file: PublishedFile, part: Part, demanded: str | None) -> Arrived:
    """Compare what arrived with all that is known of it; a wrong file is deleted."""
    version, sha256 = part.version, part.digest("sha256")
    claims = [
        (demanded, sha256, "the SHA-256 given with --sha256"),
        (file.sha256, sha256, f"the SHA-256 known beforehand ({file.sha256_from})"),
        (version.sha256, sha256, "the SHA-256 stated by the server"),
        (version.md5, part.digest("md5") if version.md5 else "", "the MD5 stated by the server"),
    ]
    verified = []
    for claimed, found, name in claims:
        if claimed is None:
            continue
        if not found.startswith(claimed):
            part.remove()
            raise FetchError(
                f"{file.url}: {name} is {claimed}, but that of what arrived is {found}. It was deleted; if a second "
                "try ends the same way, the file was changed."
            )
        verified.append(name)
    if version.total is not None or file.size is not None:
        verified.append(
            "the length stated by the server" if file.size is None else "the length known beforehand"
        )
    if not verified:
        part.remove()
        raise FetchError(
            f"{file.url}: neither its length nor a hash is known, so that nobody would notice if it were cut short. It "
            "was deleted; give its hash with --sha256."
        )
    return Arrived(file.url, sha256, part.size, tuple(verified))


def _hex_of(content_md5: str | None) -> str | None:
    """The Content-MD5 header, base64 of 16 bytes, as hex; None if it is absent or something else."""
    try:
        raw = base64.b64decode(content_md5 or "", validate=True)
    except binascii.Error:
        return None
    return raw.hex() if len(raw) == 16 else None


def _gave_up(file: PublishedFile, part: Part, err: Exception) -> str:
    if part.path.exists() and part.version.etag:
        kept = f"{part.size:,} bytes are kept in {part.path}, and the same command goes on from there"
    else:
        kept = "check the connection and give the same command again"
    return f"{file.path} was not fetched: {err}; {kept}."

"""A download that was interrupted goes on, in one version of the file only."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from pathlib import Path

import pytest
from file_server import Fault, FileServer, Served
from one_download import BODY, OTHER, SHA256, get, leftovers
from remembering_observer import Watch

from raycp.errors import FetchError
from raycp.published.entry import PublishedFile


def interrupt(server: FileServer, target: Path, watch: Watch, served: Served, cut: int = 400_000) -> str:
    """Fetch with every attempt of this time cut off; returns the URL."""
    served.faults = deque([Fault(cut=cut), Fault(status=503), Fault(status=503)])
    url = server.serve("/net.pt", served)
    with pytest.raises(FetchError):
        get(url, target, watch)
    assert not target.exists() and not served.faults
    server.asked.clear()
    watch.notes.clear()
    return url


@pytest.mark.parametrize("length", ["plain", "chunked", "close"])
def test_a_connection_that_breaks_is_taken_up_again(
    server: FileServer, tmp_path: Path, watch: Watch, length: str
) -> None:
    served = Served(BODY, length=length, faults=deque([Fault(cut=300_000)]))
    file = PublishedFile(server.serve("/net.pt", served), size=len(BODY))
    arrived = get(file, tmp_path / "net.pt", watch)
    assert (tmp_path / "net.pt").read_bytes() == BODY and arrived.sha256 == SHA256
    assert len(server.asked) == 2 and "trying again in 0.01 s" in watch.text
    _, second = server.ranges
    if length == "plain":  # only then is the end of the range known
        assert second is not None and second.endswith(f"-{len(BODY) - 1}")
        assert 100_000 < int(second.removeprefix("bytes=").partition("-")[0]) <= 300_000
        assert server.asked[1][1]["If-Range"] == '"1"' and "going on after" in watch.text
    else:
        assert second is None and "so it starts over" in watch.text


def test_attempts_that_get_further_are_not_counted(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """Twice as many interruptions as there are waits, with one in between that brings nothing."""
    faults = deque([Fault(cut=150_000), Fault(cut=150_000), Fault(status=503), Fault(cut=150_000)])
    url = server.serve("/net.pt", Served(BODY, faults=faults))
    assert get(url, tmp_path / "net.pt", watch).sha256 == SHA256
    assert len(server.asked) == 5 and watch.text.count("going on after") == 3


def test_a_later_process_goes_on(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    kept = (tmp_path / "net.pt.part").stat().st_size
    assert 250_000 < kept <= 400_000 and leftovers(tmp_path) == {"net.pt.part", "net.pt.part.json"}
    assert get(url, target, watch).sha256 == SHA256
    assert server.ranges == [f"bytes={kept}-{len(BODY) - 1}"]
    assert f"going on after {kept:,} of 700,001 bytes" in watch.text and watch.steps[-1][1] == len(BODY)
    assert leftovers(tmp_path) == {"net.pt"}


def test_giving_up_says_what_is_kept(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    served = Served(BODY, faults=deque([Fault(cut=400_000), *[Fault(status=500)] * 2]))
    url = server.serve("/net.pt", served)
    with pytest.raises(
        FetchError,
        match=r"^net.pt was not fetched: .* 500 Internal Server Error; [\d,]+ bytes are kept in .*net.pt.part, "
        r"and the same command goes on from there\.$",
    ):
        get(url, tmp_path / "net.pt", watch)
    assert len(server.asked) == 3


def test_a_changed_file_is_never_glued_to_the_old_one(
    server: FileServer, tmp_path: Path, watch: Watch
) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    server.files["/net.pt"] = Served(OTHER, etag='"2"')
    get(url, target, watch)
    assert target.read_bytes() == OTHER
    assert (
        server.ranges[0] is not None and "the file has changed on the server, so it starts over" in watch.text
    )


@pytest.mark.parametrize("etag", ['"2"', None])
def test_nor_by_a_server_that_does_not_know_if_range(
    server: FileServer, tmp_path: Path, watch: Watch, etag: str | None
) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    server.files["/net.pt"] = Served(OTHER, etag=etag, if_range=False)
    get(url, target, watch)
    assert target.read_bytes() == OTHER and len(server.asked) == 2
    assert "a part of another version" in watch.text and server.ranges[1] is None


@pytest.mark.parametrize("wrong", ["bytes 0-700000/700001", "bytes 5-9/700002", "nonsense"])
def test_nor_by_a_server_that_answers_with_another_range(
    server: FileServer, tmp_path: Path, watch: Watch, wrong: str
) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    server.files["/net.pt"] = Served(BODY, content_range=wrong)
    assert get(url, target, watch).sha256 == SHA256 and len(server.asked) == 2


def test_a_file_that_shrank(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """The range is beyond its end (416)."""
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    server.files["/net.pt"] = Served(BODY[:1000], etag='"2"', if_range=False)
    get(url, target, watch)
    assert target.read_bytes() == BODY[:1000]


def test_a_server_of_whole_files_only(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY))
    server.files["/net.pt"] = Served(BODY, ranges=False)
    assert get(url, target, watch).sha256 == SHA256
    assert "the server sends only whole files, so it starts over" in watch.text


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_strong_etag_nothing_is_resumed(
    server: FileServer, tmp_path: Path, watch: Watch, etag: str | None
) -> None:
    target = tmp_path / "net.pt"
    url = interrupt(server, target, watch, Served(BODY, etag=etag))
    assert get(url, target, watch).sha256 == SHA256
    assert server.ranges == [None] and "cannot be gone on from, so it starts over" in watch.text


@pytest.mark.parametrize(
    "notes", ["", "{", '{"url": 1, "more": 2}', "[]", '{"url": "URL", "etag": "x", "total": "5"}']
)
def test_a_part_of_unknown_origin_is_not_used(
    server: FileServer, tmp_path: Path, watch: Watch, notes: str
) -> None:
    (tmp_path / "net.pt.part").write_bytes(OTHER[:1000])
    url = server.serve("/net.pt", Served(BODY))
    (tmp_path / "net.pt.part.json").write_text(notes.replace("URL", url))
    assert get(url, tmp_path / "net.pt", watch).sha256 == SHA256
    assert "starts over" in watch.text and leftovers(tmp_path) == {"net.pt"}


def test_a_part_of_another_url_is_not_used(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    interrupt(server, tmp_path / "net.pt", watch, Served(BODY))
    url = server.serve("/elsewhere/net.pt", Served(OTHER))
    get(url, tmp_path / "net.pt", watch)
    assert (tmp_path / "net.pt").read_bytes() == OTHER and server.ranges == [None]


def test_a_part_as_long_as_the_file_is_not_trusted(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY))
    (tmp_path / "net.pt.part").write_bytes(OTHER)
    (tmp_path / "net.pt.part.json").write_text(json.dumps({"url": url, "etag": '"1"', "total": len(BODY)}))
    assert get(url, tmp_path / "net.pt", watch).sha256 == SHA256


def test_what_the_server_said_first_also_verifies_what_was_resumed(
    server: FileServer, tmp_path: Path, watch: Watch
) -> None:
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    served = Served(BODY, headers={"Content-MD5": md5})
    url = interrupt(server, tmp_path / "net.pt", watch, served)
    # A Content-MD5 beside a part is of the part, or of nothing that matters here.
    served.headers["Content-MD5"] = base64.b64encode(bytes(16)).decode()
    assert "the MD5 stated by the server" in get(url, tmp_path / "net.pt", watch).verified_by


def test_a_resumed_file_is_hashed_as_a_whole(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """The bytes of the first time count too."""
    url = interrupt(server, tmp_path / "net.pt", watch, Served(BODY))
    with (tmp_path / "net.pt.part").open("r+b") as part:
        part.write(b"\x00\x00")
    with pytest.raises(FetchError, match="It was deleted"):
        get(PublishedFile(url, sha256=SHA256), tmp_path / "net.pt", watch)

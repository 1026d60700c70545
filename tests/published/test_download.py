"""One file over HTTP: whole, or not there; servers, connections and disks that refuse."""

from __future__ import annotations

import fcntl
import resource
import shutil
import socket
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import Fault, FileServer, Served
from one_download import BODY, IMPATIENT, SHA256, get, leftovers
from remembering_observer import Watch

from raycp.errors import FetchError
from raycp.published.download import Arrived, download
from raycp.published.entry import PublishedFile
from raycp.published.server import NotThereError, Patience, check_url


def test_a_file_arrives_whole_under_its_name(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY))
    recorded: list[tuple[Arrived, bool]] = []
    target = tmp_path / "deep" / "net.pt"
    file = PublishedFile(url)
    arrived = download(
        file, target, watch, lambda arrived: recorded.append((arrived, target.exists())), patience=IMPATIENT
    )
    assert target.read_bytes() == BODY and leftovers(target.parent) == {"net.pt"}
    assert arrived == Arrived(url, SHA256, len(BODY), ("the length stated by the server",))
    assert recorded == [(arrived, False)], "what is known of a file is recorded before it has its name"
    assert watch.steps[0] == ("net.pt", 0, len(BODY)) and watch.steps[-1] == ("net.pt", len(BODY), len(BODY))
    assert [done for _, done, _ in watch.steps] == sorted(done for _, done, _ in watch.steps)
    path, headers = server.asked[0]
    assert path == "/net.pt" and headers["Accept-Encoding"] == "identity" and "Range" not in headers


@pytest.mark.parametrize(("status", "error"), [(404, NotThereError), (410, NotThereError), (403, FetchError)])
def test_refusals_are_final(
    server: FileServer, tmp_path: Path, watch: Watch, status: int, error: type[FetchError]
) -> None:
    url = server.serve("/net.pt", Served(BODY, faults=deque([Fault(status=status)])))
    with pytest.raises(error, match=f"the server answers {status} "):
        get(url, tmp_path / "net.pt", watch)
    assert len(server.asked) == 1 and leftovers(tmp_path) == set()


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY, faults=deque([Fault(status=503), Fault(status=429)])))
    assert get(url, tmp_path / "net.pt", watch).sha256 == SHA256
    assert "the server answers 503 Service Unavailable; trying again in 0.01 s." in watch.text


def test_a_server_that_stops_sending(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    served = Served(BODY, faults=deque([Fault(cut=400_000, hang=1.5), Fault(cut=0, hang=1.5)]))
    url = server.serve("/net.pt", served)
    patience = Patience(waits=(0.01, 0.01), read=0.3)
    assert get(url, tmp_path / "net.pt", watch, patience=patience).sha256 == SHA256
    assert watch.text.count("does not answer in time; trying again") == 2


def test_no_connection(tmp_path: Path, watch: Watch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(
            FetchError,
            match=f"not fetched: no connection to {address}; check the connection and give the same",
        ):
            get(f"http://{address}/net.pt", tmp_path / "net.pt", watch)
    assert len(watch.notes) == 2 and leftovers(tmp_path) == set()


def test_redirects(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    server.serve("/net.pt", Served(BODY))
    server.serve("/b", Served(redirect="/net.pt"))
    url = server.serve("/a", Served(redirect=server.url("/b")))
    get(PublishedFile(url, "net.pt"), tmp_path / "net.pt", watch)
    assert (tmp_path / "net.pt").read_bytes() == BODY
    server.files["/a"].redirect = "/a"
    with pytest.raises(FetchError, match="redirected more than 10 times"):
        get(PublishedFile(url, "net.pt"), tmp_path / "other.pt", watch)
    server.files["/a"].redirect = "http://example.org/net.pt"
    with pytest.raises(FetchError, match=r"redirected to http://example.org/net.pt; only https is allowed"):
        get(PublishedFile(url, "net.pt"), tmp_path / "other.pt", watch)


@pytest.mark.parametrize(
    ("url", "first", "allowed"),
    [
        ("https://example.org/a", "https://example.org/a", True),
        ("https://cdn.example.org/a", "http://127.0.0.1:80/a", True),
        ("http://localhost:8000/a", "http://127.0.0.1/a", True),
        ("http://[::1]/a", "http://[::1]/a", True),
        ("http://127.0.0.1/a", "https://example.org/a", False),
        ("http://example.org/a", "http://example.org/a", False),
        ("http://localhost.example.org/a", "http://localhost/a", False),
        ("ftp://127.0.0.1/a", "ftp://127.0.0.1/a", False),
        ("file:///etc/passwd", "https://example.org/a", False),
    ],
)
def test_only_https_and_this_machine(url: str, first: str, allowed: bool) -> None:
    if allowed:
        check_url(url, first)
        return
    with pytest.raises(FetchError, match="only https is allowed"):
        check_url(url, first)


def test_compressed_answers_are_refused(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(FetchError, match="sends it compressed"):
        get(url, tmp_path / "net.pt", watch)


def test_no_room(server: FileServer, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/net.pt", Served(BODY))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=700_000))
    with pytest.raises(FetchError, match="there is room for 700,000 bytes, and 700,001 are to come"):
        get(url, tmp_path / "net.pt", watch)
    assert watch.steps == [] and leftovers(tmp_path) == set()


def test_a_full_disk_keeps_what_arrived(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """A limit on the size of files stands for it: the system refuses to write on."""
    url = server.serve("/net.pt", Served(BODY))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(
            FetchError, match=r"cannot write .*net.pt.part: File too large; make room and give"
        ):
            get(url, tmp_path / "net.pt", watch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "net.pt.part").read_bytes() == BODY[:300_000]
    assert get(url, tmp_path / "net.pt", watch).sha256 == SHA256
    assert server.ranges == [None, "bytes=300000-700000"]


def test_a_folder_that_cannot_be_written(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "file").write_text("")
    url = server.serve("/net.pt", Served(BODY))
    with pytest.raises(FetchError, match=r"cannot write .*net.pt.part: .*; check the folder"):
        get(url, tmp_path / "file" / "net.pt", watch)
    assert server.asked == []


def test_two_processes_do_not_fetch_the_same(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY))
    with (tmp_path / "net.pt.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="another process is fetching"):
            get(url, tmp_path / "net.pt", watch)
    assert server.asked == []

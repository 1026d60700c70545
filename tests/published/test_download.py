"""One file over HTTP: whole and checked, or not there; resumed only in one version."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import random
import resource
import shutil
import socket
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from file_server import Fault, FileServer, Served
from remembering_observer import Watch

from raycp.errors import FetchError
from raycp.published.download import Arrived, download
from raycp.published.entry import PublishedFile
from raycp.published.server import NotThereError, Patience, check_url

BODY = random.Random(0).randbytes(700_001)
OTHER = random.Random(1).randbytes(700_001)
SHA256 = hashlib.sha256(BODY).hexdigest()
IMPATIENT = Patience(waits=(0.01, 0.01), connect=2.0, read=0.5)


def get(
    file: PublishedFile | str,
    target: Path,
    watch: Watch,
    sha256: str | None = None,
    patience: Patience = IMPATIENT,
) -> Arrived:
    file = PublishedFile(file) if isinstance(file, str) else file
    return download(file, target, watch, lambda _: None, sha256, patience)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


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


def test_what_verifies_a_file(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    served = Served(BODY, headers={"Content-MD5": md5})
    url = server.serve("/net.pt", served)
    hub = server.serve("/hub", Served(redirect=url, headers={"X-Linked-Etag": f'"{SHA256}"'}))
    file = PublishedFile(hub, "net.pt", sha256=SHA256[:8], sha256_from="its name", size=len(BODY))
    arrived = get(file, tmp_path / "net.pt", watch, sha256=SHA256)
    assert arrived.verified_by == (
        "the SHA-256 given with --sha256",
        "the SHA-256 known beforehand (its name)",
        "the SHA-256 stated by the server",
        "the MD5 stated by the server",
        "the length known beforehand",
    )
    assert arrived.url == hub


def test_what_the_server_said_first_also_verifies_what_was_resumed(
    server: FileServer, tmp_path: Path, watch: Watch
) -> None:
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    served = Served(BODY, headers={"Content-MD5": md5})
    url = interrupt(server, tmp_path / "net.pt", watch, served)
    # A Content-MD5 beside a part is of the part, or of nothing that matters here.
    served.headers["Content-MD5"] = base64.b64encode(bytes(16)).decode()
    assert "the MD5 stated by the server" in get(url, tmp_path / "net.pt", watch).verified_by


@pytest.mark.parametrize(
    ("file", "demanded", "headers", "said"),
    [
        ({}, "0" * 64, {}, "the SHA-256 given with --sha256 is 0000"),
        (
            {"sha256": "1" * 8, "sha256_from": "its name"},
            None,
            {},
            r"known beforehand \(its name\) is 11111111",
        ),
        ({}, None, {"X-Linked-Etag": "2" * 64}, "the SHA-256 stated by the server is 2222"),
        (
            {},
            None,
            {"Content-MD5": base64.b64encode(bytes(16)).decode()},
            "the MD5 stated by the server is 0000",
        ),
    ],
)
def test_a_wrong_file_is_deleted(
    server: FileServer,
    tmp_path: Path,
    watch: Watch,
    file: dict[str, str],
    demanded: str | None,
    headers: dict[str, str],
    said: str,
) -> None:
    url = server.serve("/net.pt", Served(BODY, headers=headers))
    with pytest.raises(FetchError, match=f"{said}.*, but that of what arrived is .*It was deleted"):
        get(PublishedFile(url, **file), tmp_path / "net.pt", watch, demanded)
    assert leftovers(tmp_path) == set()


def test_a_resumed_file_is_hashed_as_a_whole(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """The bytes of the first time count too."""
    url = interrupt(server, tmp_path / "net.pt", watch, Served(BODY))
    with (tmp_path / "net.pt.part").open("r+b") as part:
        part.write(b"\x00\x00")
    with pytest.raises(FetchError, match="It was deleted"):
        get(PublishedFile(url, sha256=SHA256), tmp_path / "net.pt", watch)


def test_a_file_known_to_be_changed_is_not_downloaded(
    server: FileServer, tmp_path: Path, watch: Watch
) -> None:
    url = server.serve("/net.pt", Served(BODY, headers={"X-Linked-Etag": f'"{"2" * 64}"'}))
    with pytest.raises(
        FetchError, match=r"says the server, but that of the published file is .*it was changed"
    ):
        get(PublishedFile(url, sha256=SHA256, sha256_from="x"), tmp_path / "net.pt", watch)
    with pytest.raises(
        FetchError, match="the server has 700,001 bytes, the published file 5: it was changed"
    ):
        get(PublishedFile(url, size=5), tmp_path / "net.pt", watch)
    assert watch.steps == [] and leftovers(tmp_path) == set()


def test_more_bytes_than_the_file_has(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    file = PublishedFile(server.serve("/net.pt", Served(BODY, length="chunked")), size=1000)
    with pytest.raises(FetchError, match="sends more than the 1,000 bytes"):
        get(file, tmp_path / "net.pt", watch)
    assert leftovers(tmp_path) == set()


def test_fewer_bytes_than_stated(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    """Every time: it ends, with the reason."""
    url = server.serve("/net.pt", Served(BODY, headers={"Content-Length": "800000"}, ranges=False))
    with pytest.raises(
        FetchError, match=r"not fetched: the connection to 127.* broke off; [\d,]+ bytes are kept"
    ):
        get(url, tmp_path / "net.pt", watch)
    assert len(server.asked) == 3, "one more than there are waits: no attempt got further than the first"


def test_nothing_vouches_for_a_file(server: FileServer, tmp_path: Path, watch: Watch) -> None:
    url = server.serve("/net.pt", Served(BODY, length="close"))
    with pytest.raises(FetchError, match=r"neither its length nor a hash is known.*--sha256"):
        get(url, tmp_path / "net.pt", watch)
    assert leftovers(tmp_path) == set()
    assert get(url, tmp_path / "net.pt", watch, SHA256).verified_by == ("the SHA-256 given with --sha256",)


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

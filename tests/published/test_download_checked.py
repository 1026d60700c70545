"""What arrives is held to every hash and length that is known of it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from file_server import FileServer, Served
from one_download import BODY, SHA256, get, leftovers
from remembering_observer import Watch

from raycp.errors import FetchError
from raycp.published.entry import PublishedFile


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

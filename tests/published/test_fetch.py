"""A published model as a whole: its files, the card, and what is there already."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from file_server import FileServer, Served
from remembering_observer import Watch

from raycp.errors import ConfigError, FetchError
from raycp.published import PUBLISHED, Published, PublishedFile
from raycp.published.fetch import card_path, fetch
from raycp.published.server import NotThereError, Patience

BODY = random.Random(0).randbytes(50_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
IMPATIENT = Patience(waits=(0.01,), read=2.0)


@pytest.fixture
def single(server: FileServer) -> Published:
    """A model of one file."""
    url = server.serve("/net.pt", Served(BODY))
    page = "https://example.org/net"
    return Published("net", "a network", "MIT", page, "models/net", (PublishedFile(url),), ("--as", "edm"))


@pytest.fixture
def several(server: FileServer) -> Published:
    """A model of a folder, one file of which is not there, but another instead."""
    names = {"config.json": b"{}", "unet/config.json": b"{ }", "unet/net.bin": BODY}
    urls = {name: server.serve(f"/hub/{name}", Served(body)) for name, body in names.items()}
    files = [PublishedFile(urls[name], name) for name in ("config.json", "unet/config.json")]
    otherwise = PublishedFile(urls["unet/net.bin"], "unet/net.bin")
    absent = PublishedFile(
        server.url("/hub/unet/net.safetensors"), "unet/net.safetensors", otherwise=otherwise
    )
    return Published(
        "folder", "a folder", "Apache-2.0", "https://example.org", "models/folder", (*files, absent)
    )


def read_card(entry: Published, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(card_path(entry, folder).read_text())
    return content


def test_the_card_says_where_a_file_came_from(
    server: FileServer, single: Published, tmp_path: Path, watch: Watch
) -> None:
    (fetched,) = fetch(single, tmp_path, watch)
    assert fetched.path == tmp_path / "net.pt" and fetched.path.read_bytes() == BODY
    card = read_card(single, tmp_path)
    (file,) = card.pop("files")
    assert card == {"name": "net", "what": "a network", "licence": "MIT", "page": "https://example.org/net"}
    when = datetime.fromisoformat(file.pop("fetched"))
    assert abs(when.timestamp() - time.time()) < 60
    assert file == {
        "file": "net.pt",
        "url": server.url("/net.pt"),
        "sha256": SHA256,
        "size": len(BODY),
        "verified_by": ["the length stated by the server"],
    }
    assert watch.notes[0] == "net: licence MIT (https://example.org/net)", "before anything else"


def test_what_is_there_is_not_fetched_again(
    server: FileServer, single: Published, tmp_path: Path, watch: Watch
) -> None:
    fetch(single, tmp_path, watch)
    before = card_path(single, tmp_path).read_bytes()
    server.asked.clear()
    watch.notes.clear()
    for sha256 in (None, SHA256):
        (fetched,) = fetch(single, tmp_path, watch, sha256)
        assert fetched.arrived is None
    assert server.asked == [] and watch.notes == [] and card_path(single, tmp_path).read_bytes() == before


def test_a_file_that_changed_since_is_reported(
    server: FileServer, single: Published, tmp_path: Path, watch: Watch
) -> None:
    fetch(single, tmp_path, watch)
    (tmp_path / "net.pt").write_bytes(BODY[:-1] + b"!")
    with pytest.raises(FetchError, match=r"its SHA-256 is .*, that of .*net.fetched.json. Move it away"):
        fetch(single, tmp_path, watch)
    assert len(server.asked) == 1, "nothing is overwritten"


def test_a_file_of_unknown_origin(single: Published, tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "net.pt").write_bytes(BODY)
    with pytest.raises(FetchError, match=r"net.pt is there, but nothing says whether it is whole.*--sha256"):
        fetch(single, tmp_path, watch)
    with pytest.raises(FetchError, match=r"not 0000.*, demanded with --sha256"):
        fetch(single, tmp_path, watch, "0" * 64)
    assert fetch(single, tmp_path, watch, SHA256)[0].arrived is None
    known = replace(single, files=(replace(single.files[0], sha256=SHA256[:8]),))
    assert fetch(known, tmp_path, watch)[0].arrived is None


def test_a_damaged_card(single: Published, tmp_path: Path, watch: Watch) -> None:
    card_path(single, tmp_path).write_text('{"files": 3}')
    with pytest.raises(FetchError, match=r"net.fetched.json is damaged: .*Delete it"):
        fetch(single, tmp_path, watch)


def test_a_folder_and_the_file_taken_instead(
    server: FileServer, several: Published, tmp_path: Path, watch: Watch
) -> None:
    fetched = fetch(several, tmp_path, watch)
    names = ["config.json", "unet/config.json", "unet/net.bin"]
    assert [file.path for file in fetched] == [tmp_path / name for name in names]
    assert (tmp_path / "unet" / "net.bin").read_bytes() == BODY
    assert [file["file"] for file in read_card(several, tmp_path)["files"]] == names
    assert "the server has no unet/net.safetensors; unet/net.bin instead." in watch.notes
    assert watch.text.count("licence") == 1
    assert not list(tmp_path.rglob("*.part*")), "what was not there leaves nothing"
    asked = len(server.asked)
    assert (
        all(file.arrived is None for file in fetch(several, tmp_path, watch)) and len(server.asked) == asked
    )


def test_a_folder_goes_on_after_the_files_it_has(
    server: FileServer, several: Published, tmp_path: Path, watch: Watch
) -> None:
    net = server.files.pop("/hub/unet/net.bin")
    with pytest.raises(NotThereError, match=r"net.bin: the server answers 404"):
        fetch(several, tmp_path, watch)
    server.files["/hub/unet/net.bin"] = net
    fetched = fetch(several, tmp_path, watch)
    assert [file.arrived is None for file in fetched] == [True, True, False]
    assert [path for path, _ in server.asked].count("/hub/config.json") == 1


def test_demands_that_cannot_be_met(
    server: FileServer, single: Published, several: Published, tmp_path: Path, watch: Watch
) -> None:
    with pytest.raises(ConfigError, match="must be a folder on this machine, got 's3://bucket/models'"):
        fetch(single, "s3://bucket/models", watch)
    with pytest.raises(ConfigError, match="--sha256 is for one file, and folder has 3"):
        fetch(several, tmp_path, watch, SHA256)
    known = replace(single, files=(replace(single.files[0], sha256="1234abcd", sha256_from="its name"),))
    with pytest.raises(ConfigError, match=r"but that of net is 1234abcd \(its name\)"):
        fetch(known, tmp_path, watch, SHA256)
    assert server.asked == []


def test_what_must_be_got_by_hand(tmp_path: Path, watch: Watch) -> None:
    entry = next(entry for entry in PUBLISHED.values() if not entry.files)
    with pytest.raises(FetchError, match=f"{entry.name} cannot be fetched: .* See https://"):
        fetch(entry, tmp_path, watch)


def test_the_real_file_of_a_real_entry(
    server: FileServer, shared_data: Path, tmp_path: Path, watch: Watch
) -> None:
    """Every digit that is known of it, and its size, are those of the published file."""
    entry = PUBLISHED["resnet56-cifar10"]
    (file,) = entry.files
    body = (shared_data / "parity" / "cifar-resnet-th" / file.path).read_bytes()
    local = replace(entry, files=(replace(file, url=server.serve(f"/{file.path}", Served(body))),))
    (fetched,) = fetch(local, tmp_path, watch)
    assert fetched.arrived is not None
    assert fetched.arrived.verified_by == (
        "the SHA-256 known beforehand (the file in the git repository, hashed)",
        "the length known beforehand",
    )


PROCESS = """
import sys
from raycp.published import Published, PublishedFile
from raycp.published.fetch import fetch
class Quiet:
    note = progress = lambda *_: None
url, folder = sys.argv[1:]
fetch(Published("net", "a network", "MIT", "page", "models/net", (PublishedFile(url),)), folder, Quiet())
"""


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(
    server: FileServer, tmp_path: Path, watch: Watch
) -> None:
    body = random.Random(2).randbytes(3_000_000)
    url = server.serve("/net.pt", Served(body, pause=0.02))
    part = tmp_path / "net.pt.part"
    process = subprocess.Popen([sys.executable, "-c", PROCESS, url, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 200_000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = part.stat().st_size
    assert 200_000 < kept < len(body) and not (tmp_path / "net.pt").exists()
    server.files["/net.pt"].pause = 0.0
    entry = Published("net", "a network", "MIT", "page", "models/net", (PublishedFile(url),))
    fetch(entry, tmp_path, watch, patience=IMPATIENT)
    assert (tmp_path / "net.pt").read_bytes() == body
    assert server.ranges == [None, f"bytes={kept}-{len(body) - 1}"]
    assert {path.name for path in tmp_path.iterdir()} == {"net.pt", "net.fetched.json"}

"""Files of a run directory: whole or not at all, on disks, full disks, and object stores."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raycp.errors import RunMismatchError, StorageError
from raycp.storage import Storage


@pytest.fixture(params=["path", "file URI", "mock URI"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "path":
        return Storage(str(tmp_path / "run"))
    if request.param == "file URI":
        return Storage((tmp_path / "run").as_uri() + "/")
    remote = Storage("mock:///bucket/run")  # pyarrow's file system in memory, standing for an object store
    remote._fs.create_dir("bucket/run/counts", recursive=True)
    return remote


def test_write_read_list_delete(storage: Storage) -> None:
    assert storage.read("config.json") is None
    assert storage.names("counts") == []
    storage.write("config.json", b"one")
    storage.write("config.json", b"")
    assert storage.read("config.json") == b""
    for name in ("counts/b.parquet", "counts/a.parquet", "counts/c.parquet"):
        storage.write(name, name.encode() * 1000)
    assert storage.names("counts") == ["counts/a.parquet", "counts/b.parquet", "counts/c.parquet"]
    assert storage.read("counts/b.parquet") == b"counts/b.parquet" * 1000
    storage.delete("counts/b.parquet")
    storage.delete("counts/b.parquet")
    assert storage.names("counts") == ["counts/a.parquet", "counts/c.parquet"]
    assert storage.read("counts/b.parquet") is None
    with storage.locked():
        storage.write("config.json", b"two")
    assert storage.read("config.json") == b"two"


def test_append(storage: Storage) -> None:
    storage.append("log.jsonl", b"one\n")
    storage.append("log.jsonl", b"two\n")
    assert storage.read("log.jsonl") == b"one\ntwo\n"


def test_folders(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "made"
    (source / "unet").mkdir(parents=True)
    (source / "unet" / "weights").write_bytes(b"w" * 1000)
    (source / "card.json").write_bytes(b"{}")
    if storage.path().startswith("mock"):
        storage._fs.create_dir("bucket/run/models/a/unet", recursive=True)
    storage.put_folder("models/a", source, last="card.json")
    found = storage.get_folder("models/a", tmp_path / "copy")
    assert {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()} == {
        "unet/weights", "card.json",
    }  # fmt: skip
    assert (found / "unet" / "weights").read_bytes() == b"w" * 1000
    assert storage.names("models") == []


def test_the_last_file_of_a_folder_is_written_last(storage: Storage, tmp_path: Path) -> None:
    """Killed in between, a local folder is not there and a remote one has no last file; the next try ends well."""
    source = tmp_path / "made"
    source.mkdir()
    (source / "z").write_bytes(b"z")
    (source / "card.json").write_bytes(b"{}")
    if storage.path().startswith("mock"):
        storage._fs.create_dir("bucket/run/models/a", recursive=True)
    whole = storage.write

    def killed(name: str, data: bytes) -> None:
        if name.endswith("card.json"):
            raise KeyboardInterrupt
        whole(name, data)

    storage.write = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        storage.put_folder("models/a", source, last="card.json")
    assert storage.read("models/a/card.json") is None
    storage.write = whole  # type: ignore[method-assign]
    storage.put_folder("models/a", source, last="card.json")
    assert storage.read("models/a/card.json") == b"{}"
    assert storage.read("models/a/z") == b"z"


def test_paths_in_messages(tmp_path: Path) -> None:
    local = Storage(str(tmp_path / "run") + "/")
    assert local.path() == str(tmp_path / "run")
    assert local.path("counts/a") == str(tmp_path / "run" / "counts" / "a")
    assert Storage((tmp_path / "run").as_uri()).path("a") == str(tmp_path / "run" / "a")
    assert Storage("mock:///bucket/run/").path() == "mock:///bucket/run"
    assert Storage("mock:///bucket/run").path("a") == "mock:///bucket/run/a"
    with_options = Storage("s3://bucket/run?region=us-east-1&endpoint_override=127.0.0.1:1")
    assert with_options.path() == "s3://bucket/run?region=us-east-1&endpoint_override=127.0.0.1:1"
    assert with_options.path("a") == "s3://bucket/run/a?region=us-east-1&endpoint_override=127.0.0.1:1"
    assert with_options.name == "run"


def test_relative_and_home_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    relative, home = Storage("run"), Storage("~/run")
    monkeypatch.chdir("/")  # a later change of directory does not move the run
    relative.write("a", b"1")
    home.write("a", b"2")
    assert (tmp_path / "run" / "a").read_bytes() == b"1"
    assert (tmp_path / "home" / "run" / "a").read_bytes() == b"2"


def test_unknown_kind_of_uri() -> None:
    with pytest.raises(StorageError, match=r"^nope://x/y cannot be used as a run directory: .*nope"):
        Storage("nope://x/y")


def test_emptiness(storage: Storage, tmp_path: Path) -> None:
    if storage.location.startswith("mock"):
        assert not storage.is_empty()  # its folder counts/ was made above
        assert Storage("mock:///bucket/absent").is_empty()
        return
    assert storage.is_empty()  # absent
    with storage.locked():
        assert storage.is_empty()  # but for the lock
    (tmp_path / "run" / "photos").mkdir()
    assert not storage.is_empty()
    (tmp_path / "run" / "photos").rmdir()
    assert storage.is_empty()
    storage.write("a", b"")
    assert not storage.is_empty()


def test_files_being_written_are_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before the rename the old content is there, whole, and the new name is not listed."""
    storage = Storage(str(tmp_path))
    storage.write("counts/a", b"old")
    seen = []

    def rename(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"new"
        seen.append((storage.read("counts/a"), storage.names("counts")))
        return self.replace(target)

    monkeypatch.setattr(Path, "rename", rename)
    storage.write("counts/a", b"new")
    storage.write("counts/b", b"new")
    assert seen == [(b"old", ["counts/a"]), (b"new", ["counts/a"])]
    assert storage.names("counts") == ["counts/a", "counts/b"]


def test_what_is_written_is_flushed_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order of the calls that make a file survive a power failure: its data, its name, the folder of its name."""
    storage = Storage(str(tmp_path / "new" / "run"))
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append(f"fsync {str(target).removeprefix(str(tmp_path))}")
        fsync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        calls.append(f"rename {str(target).removeprefix(str(tmp_path))}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    storage.write("counts/a", b"x")
    folders = calls[:-3]
    assert sorted(folders) == ["fsync ", "fsync /new", "fsync /new/run"]
    assert calls[-3].startswith("fsync /new/run/counts/.a.")
    assert calls[-2:] == ["rename /new/run/counts/a", "fsync /new/run/counts"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    storage = Storage(str(tmp_path))
    storage.write("counts/a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        storage.write("counts/a", b"new")
    advice = (
        "check the path and its permissions"
        if code == errno.EIO
        else "make room; what was written before is whole"
    )
    assert str(caught.value) == f"cannot write {tmp_path}/counts/a: {os.strerror(code)}; {advice}."
    assert storage.read("counts/a") == b"old"
    assert [path.name for path in (tmp_path / "counts").iterdir()] == ["a"]


# Writes files of 4 kB until it fails; then everything that was written must be whole.
FILL = """
import resource, signal, sys
from raycp.errors import StorageError
from raycp.storage import Storage

if sys.argv[2] == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
storage = Storage(sys.argv[1])
written = 0
try:
    for written in range(1000):
        size = 4_000 if sys.argv[2] == "disk" else 3_000 * (written + 1)
        storage.write(f"counts/{written:03d}", bytes([written % 256]) * size)
except StorageError as err:
    print(err)
names = storage.names("counts")
assert names == [f"counts/{i:03d}" for i in range(written)], names
for i, name in enumerate(names):
    content = storage.read(name)
    assert set(content) == {i % 256}, name
    assert len(content) == (4_000 if sys.argv[2] == "disk" else 3_000 * (i + 1))
print(written)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path), "limit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    message, written = done.stdout.splitlines()
    assert message == (
        f"cannot write {tmp_path}/counts/003: File too large; make room; what was written before is whole."
    )
    assert written == "3"
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == ["000", "001", "002"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A file system of 256 kB in memory, in a mount namespace of its own."""
    mounted = f'mount -t tmpfs -o size=256k none "{tmp_path}" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("mounting a file system needs root and unshare")
    done = subprocess.run(
        [*command, sys.executable, "-c", FILL, str(tmp_path), "disk"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    message, written = done.stdout.splitlines()
    assert message == (
        f"cannot write {tmp_path}/counts/{int(written):03d}: No space left on device; make room; what was written "
        "before is whole."
    )
    assert 40 <= int(written) <= 64


def test_a_folder_that_cannot_be_made_or_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = Storage(str(tmp_path / "file" / "run"))
    with pytest.raises(StorageError, match=r"^cannot write .*/file/run/a: Not a directory; check the path"):
        storage.write("a", b"")
    with pytest.raises(StorageError, match=r"^cannot read .*/file/run/a: Not a directory"):
        storage.read("a")
    with (
        pytest.raises(StorageError, match=r"^cannot lock .*/file/run/\.lock: Not a directory"),
        storage.locked(),
    ):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"^cannot read .*/folder: Is a directory"):
        Storage(str(tmp_path)).read("folder")


def test_an_object_store_that_refuses() -> None:
    """The in-memory store has no folder to put the object in."""
    with pytest.raises(
        StorageError, match=r"^cannot write mock:///absent/run/config\.json: .*check the path"
    ):
        Storage("mock:///absent/run").write("config.json", b"{}")


HOLD = """
import sys, time
from raycp.storage import Storage
with Storage(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_second_process_is_kept_out_until_the_first_one_is_gone(tmp_path: Path, as_uri: bool) -> None:
    run = tmp_path / "run"
    storage = Storage(run.as_uri() if as_uri else str(run))
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunMismatchError) as caught, storage.locked():
                pytest.fail("two processes hold the folder")
            assert str(caught.value) == (
                f"{run} is in use by another raycp process; wait for it to end, or take another --out."
            )
        finally:
            holder.kill()
    with storage.locked():  # killed without a chance to clean up
        pass
    with storage.locked():
        pass

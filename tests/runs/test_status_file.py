"""What a driver says of itself, and what is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycp.errors import StorageError, WorkFailedError
from raycp.runs import status
from raycp.runs.status import STATUS, Status, StatusFile, read_status
from raycp.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def read(storage: Storage) -> Status:
    found = read_status(storage)
    assert found is not None
    return found


def test_a_session_from_beginning_to_end(storage: Storage) -> None:
    assert read_status(storage) is None
    with StatusFile(storage, "certify") as file:
        assert (read(storage).state, read(storage).figures) == ("running", {})
        file.update({"decided": 3})
    found = read(storage)
    assert (found.command, found.state, found.reason, found.figures) == (
        "certify",
        "complete",
        "",
        {"decided": 3},
    )
    assert found.started <= found.updated


def test_figures_are_written_now_and_then(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: clock[0])
    with StatusFile(storage, "certify") as file:
        file.update({"decided": 1})
        assert read(storage).figures == {}
        clock[0] += 5
        file.update({"decided": 2})
        assert (read(storage).state, read(storage).figures) == ("running", {"decided": 2})


def test_the_end_says_why(storage: Storage) -> None:
    with StatusFile(storage, "certify") as file:
        file.incomplete = "the budget is spent"
    assert (read(storage).state, read(storage).reason) == ("stopped", "the budget is spent")
    with pytest.raises(KeyboardInterrupt), StatusFile(storage, "train"):
        raise KeyboardInterrupt
    assert (read(storage).state, read(storage).reason) == ("stopped", "interrupted")
    with pytest.raises(WorkFailedError), StatusFile(storage, "certify"):
        raise WorkFailedError("3 pairs could not be decided:\n  a list")
    assert (read(storage).state, read(storage).reason) == ("failed", "3 pairs could not be decided:")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"command": "certify"}'])
def test_a_damaged_file_is_named(storage: Storage, content: bytes) -> None:
    storage.write(STATUS, content)
    with pytest.raises(StorageError, match=r"status\.json is not the status of a run"):
        read_status(storage)

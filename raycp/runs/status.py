"""RUN/status.json: what the driver of a run last said of itself, for everybody who sees the directory."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self

from raycp.errors import StorageError
from raycp.storage import Storage

STATUS = "status.json"
_LOCAL_SECONDS, _REMOTE_SECONDS = 5.0, 20.0

State = Literal["running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class Status:
    """One session of a run.

    Attributes:
        command: certify, predict, evaluate or train.
        state: running until the session ends; a driver that was killed leaves `running` behind, with an old `updated`.
        reason: of a session that failed, or of one that stopped before its end.
        host, pid: of the driver.
        started, updated: seconds since 1970, on the driver's clock.
        figures: how far it is; see `Progress` for all but train.
    """

    command: str
    state: State
    reason: str
    host: str
    pid: int
    started: float
    updated: float
    figures: dict[str, Any]


class StatusFile:
    """The driver's side: keeps the file up to date within a `with` block, and says at its end how it went.

    Args:
        storage: the run directory.
        command: that runs.
    """

    def __init__(self, storage: Storage, command: str) -> None:
        self._storage = storage
        self._every = _REMOTE_SECONDS if "://" in storage.path() else _LOCAL_SECONDS
        self._command = command
        self._started = time.time()
        self._written = -float("inf")
        self._figures: dict[str, Any] = {}
        self.incomplete = ""
        """Why the session ends before the run does; empty if it does not."""

    def __enter__(self) -> Self:
        self._write("running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._write("stopped", "interrupted")
        elif error is not None:
            lines = str(error).splitlines() or [type(error).__name__]
            self._write("failed", lines[0])
        else:
            self._write("stopped" if self.incomplete else "complete", self.incomplete)

    def update(self, figures: Mapping[str, Any]) -> None:
        """Keep new figures; they are written every few seconds."""
        self._figures = dict(figures)
        if time.monotonic() - self._written >= self._every:
            self._write("running")

    def _write(self, state: State, reason: str = "") -> None:
        self._written = time.monotonic()
        status = Status(
            self._command, state, reason, socket.gethostname(), os.getpid(), self._started, time.time(),
            self._figures,
        )  # fmt: skip
        self._storage.write(STATUS, json.dumps(asdict(status)).encode())


def read_status(storage: Storage) -> Status | None:
    """What the last session of a run said; None if there was none.

    Raises:
        StorageError: the file is damaged, or the store does not answer.
    """
    content = storage.read(STATUS)
    if content is None:
        return None
    try:
        return Status(**json.loads(content))
    except (ValueError, TypeError) as err:
        raise StorageError(f"{storage.path(STATUS)} is not the status of a run: {err}.") from err

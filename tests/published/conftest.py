"""A server on this machine, and an observer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from file_server import FileServer
from remembering_observer import Watch


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer().running() as running:
        yield running


@pytest.fixture
def watch() -> Watch:
    return Watch()

"""Where a model directory is on this machine."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from raycp.storage import Storage


def local_folder(location: str) -> Path:
    """The folder that a path or URI names; from an object store it is copied once, until this process ends.

    Raises:
        StorageError: the store does not answer.
    """
    if "://" not in location:
        return Path(location).expanduser()
    return _copied(location)


@lru_cache
def _copied(location: str) -> Path:
    folder = tempfile.mkdtemp(prefix="raycp-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Storage(location).get_folder("", Path(folder))

"""The place that `data.path` names."""

from __future__ import annotations

from pathlib import Path

from raycp.errors import DataError


def local_path(path: str) -> Path:
    """The file or folder that `data.path` names, absolute.

    Raises:
        DataError: it is a URL, does not exist, or cannot be looked at.
    """
    if "://" in path:
        raise DataError(
            f"data.path is {path}, but data sets are read from local disks; copy it to this machine."
        )
    place = Path(path).expanduser().absolute()
    try:
        place.stat()
    except OSError as err:
        raise DataError(f"data.path: cannot read {place}: {err.strerror or err}.") from err
    return place


def shown(place: Path) -> str:
    """A place as runs and reports name it: from the working directory, if it is in there, so that checkouts agree."""
    here = Path.cwd()
    return str(place.relative_to(here) if place.is_relative_to(here) else place)

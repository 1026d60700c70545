"""Finding a published model: by its name, and by the path of a file that is missing."""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath

from raycp.errors import ConfigError
from raycp.published.entries import ENTRIES
from raycp.published.entry import Published

UNCONDITIONAL = "-unconditional"

PUBLISHED: dict[str, Published] = {entry.name: entry for entry in ENTRIES}


def find(name: str) -> Published:
    """The entry of this name.

    Raises:
        ConfigError: there is none.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    close = [known for known in PUBLISHED if name and name in known]
    close = (close or difflib.get_close_matches(name, PUBLISHED, n=3, cutoff=0.5))[:5]
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise ConfigError(f"no published model is called {name!r}; {hint}`raycp weights fetch` lists all.")


def recognised(name: str, sha256: str) -> tuple[Published, str] | None:
    """The entry that a file seems to be of, and what says so; None where nothing does.

    Args:
        name: of the file.
        sha256: of its bytes.
    """
    files = [(entry, file) for entry in PUBLISHED.values() for file in entry.files]
    for entry, file in files:
        if file.sha256 is not None and len(file.sha256) == 64 and file.sha256 == sha256:
            return entry, "by its SHA-256"
    named = [entry for entry, file in files if PurePosixPath(file.path).name == name]
    return (named[0], "by its name alone") if len(named) == 1 else None


def missing_help(path: str) -> str | None:
    """Where the model comes from whose path in a configuration leads nowhere.

    Args:
        path: of a file or folder, as written, e.g. `models/cd-lpips-cifar10`; its last parts tell which model it is.
            With `-unconditional` at its end it is what `--unconditional` makes of a class-conditional one.

    Returns:
        Sentences with the commands that put it at that path; None where the path is that of no published model.
    """
    written = PurePosixPath(path)
    # A model's folder, a file of it (`unet/config.json`), or one that waits to be converted.
    for place in (written, *written.parents[:2]):
        for entry in PUBLISHED.values():
            named = place.name in (usual := PurePosixPath(entry.place).name, usual + UNCONDITIONAL)
            if named and (place == written or not entry.is_file):
                return _commands(entry, place, place.name != usual)
            if place == written.parent and place.name == entry.name and written.name in _paths(entry):
                return f"`{entry.fetch_command(str(place))}` fetches it ({_about(entry)})."
    return None


def _commands(entry: Published, place: PurePosixPath, unconditional: bool) -> str:
    if not entry.files:
        return f"See {entry.page} ({_about(entry)}). {entry.by_hand}"
    if entry.convert is not None:
        convert = entry.convert_command(place=str(place))
        more = " --unconditional" if unconditional else ""
        return f"It is published ({_about(entry)}): `{entry.fetch_command()}`, then `{convert}{more}`."
    folder = place.parent if entry.is_file else place
    return f"`{entry.fetch_command(str(folder))}` fetches it ({_about(entry)})."


def _about(entry: Published) -> str:
    return f"{entry.what}; licence: {entry.licence}"


def _paths(entry: Published) -> list[str]:
    return [file.path for file in entry.files]

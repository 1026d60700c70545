"""What a machine is and can do, as `raycp doctor` asks each node of a cluster. No Ray in here."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from raycp.errors import StorageError
from raycp.storage import Storage

PACKAGES = ("raycp", "ray", "torch", "numpy", "diffusers", "timm", "torchvision", "transformers")
_MOST_HASHED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class NodeReport:
    """One machine.

    Attributes:
        name: host name.
        python: version.
        versions: of the packages that have a part in a result; None for one that is not installed.
        processor: model, and the instructions that torch uses of it.
        gpus: names of the devices that torch sees.
        shared_memory: bytes of /dev/shm; None where there is none.
        open_files: most files that a process may open.
        clock: seconds since 1970, when the report was made.
        auth_mode: RAY_AUTH_MODE of the process; None if it is not set.
        storage_problem: why the run directory cannot be written from here; None if it can, or none was given.
        files: hash of what each path holds, or None where there is nothing.
    """

    name: str
    python: str
    versions: dict[str, str | None]
    processor: str
    gpus: tuple[str, ...]
    shared_memory: int | None
    open_files: int
    clock: float
    auth_mode: str | None
    storage_problem: str | None
    files: dict[str, str | None]


def examine(out: str | None, paths: Sequence[str]) -> NodeReport:
    """Report on this machine.

    Args:
        out: run directory, into which a small file is written and removed again; None for no such check.
        paths: files and folders to compare between nodes.
    """
    import torch

    from raycp.sampling.base_classifier import cpu_model

    cuda = torch.cuda.is_available()
    return NodeReport(
        name=socket.gethostname(),
        python=platform.python_version(),
        versions={package: _version(package) for package in PACKAGES},
        processor=f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}",
        gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else (),
        shared_memory=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        auth_mode=os.environ.get("RAY_AUTH_MODE"),
        storage_problem=None if out is None else _storage_problem(out),
        files={path: content_hash(Path(path).expanduser()) for path in paths},
        clock=time.time(),
    )


def content_hash(path: Path) -> str | None:
    """SHA-256 over names and contents of a file or of all files of a folder; None where there is nothing.

    Of more than 2 GiB only names and sizes are looked at.
    """
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    whole = sum(file.stat().st_size for file in files) <= _MOST_HASHED_BYTES
    digest = hashlib.sha256()
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        if whole:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _storage_problem(out: str) -> str | None:
    name = f".doctor-{socket.gethostname()}-{os.getpid()}"
    try:
        storage = Storage(out)
        storage.write(name, b"raycp doctor")
        found = storage.read(name)
        storage.delete(name)
    except StorageError as err:
        return str(err)
    return (
        None if found == b"raycp doctor" else f"what was written to {storage.path(name)} is not what is read"
    )

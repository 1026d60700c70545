"""One file to download, and a download that does not wait long."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from remembering_observer import Watch

from raycp.published.download import Arrived, download
from raycp.published.entry import PublishedFile
from raycp.published.server import Patience

BODY = random.Random(0).randbytes(700_001)
OTHER = random.Random(1).randbytes(700_001)
SHA256 = hashlib.sha256(BODY).hexdigest()
IMPATIENT = Patience(waits=(0.01, 0.01), connect=2.0, read=0.5)


def get(
    file: PublishedFile | str,
    target: Path,
    watch: Watch,
    sha256: str | None = None,
    patience: Patience = IMPATIENT,
) -> Arrived:
    file = PublishedFile(file) if isinstance(file, str) else file
    return download(file, target, watch, lambda _: None, sha256, patience)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}

"""A small training set in the Hugging Face layout."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS, GROUP = 60, 7
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8), dtype=np.uint8)
LABELS = np.arange(ROWS) % 5


def write_set(path: Path, changed: dict[int, Any] | None = None) -> Path:
    """Write `PIXELS` and `LABELS` in row groups of `GROUP`; `changed` puts other pixels in some rows."""
    content = []
    for row, pixels in enumerate(PIXELS):
        stream = io.BytesIO()
        Image.fromarray((changed or {}).get(row, pixels)).save(stream, "PNG")
        content.append(stream.getvalue())
    pq.write_table(pa.table({"img": content, "label": LABELS}), path, row_group_size=GROUP)
    return path

"""Small runs, and what makes two of them equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raycp.config import RunConfig, parse_config

COST = ["seconds"]


def small_config(seconds_per_batch: float = 0.0, num_estimation: int = 3_000, **sections: Any) -> RunConfig:
    """Six digits, two sigmas, a linear classifier; sections are merged over the defaults."""
    raw: dict[str, Any] = {
        "data": {"name": "digits", "select": {"skip": 7, "count": 6}},
        "purifier": {"kind": "none"},
        "classifier": {
            "kind": "python",
            "factory": "slow_network:slow",
            "kwargs": {"seconds": seconds_per_batch},
            "num_classes": 10,
        },
        "certify": {"sigmas": [0.25, 0.5], "num_selection": 50, "num_estimation": num_estimation, "seed": 3},
        "numerics": {"batch_size": 64},
        "engine": {"flush_seconds": 0.3, "task_seconds": 0.5, "replicas": 2},
    }
    for section, values in sections.items():
        raw[section] = values if "kind" in values else {**raw.get(section, {}), **values}
    return parse_config(RunConfig, raw)


def certificates(run: Path) -> pa.Table:
    """The table of a run, less the columns that are allowed to differ."""
    return pq.read_table(run / "certificates.parquet").drop_columns(COST)


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.states: list[Any] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, progress: Any, accuracies: Any) -> None:
        self.states.append(progress)

"""What a training has left in its run directory, read for people: loss curves, validations, examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raycp.errors import StorageError
from raycp.storage import Storage
from raycp.training.run_files import CARD, CONFIG, EXAMPLES, LOG, MODELS


@dataclass
class StageRecord:
    """One stage of a training.

    Attributes:
        name: of the stage.
        kind: denoiser, consistency, ...
        steps: it has in all.
        loss: by step, each the mean since the step before.
        metrics: of the validations, by step.
        seconds: that it took; None while it goes on, and for the part before an interruption.
        done: whether its model is there.
        example: file name of the newest picture, relative to the run directory.
    """

    name: str
    kind: str
    steps: int
    loss: dict[int, float] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: float | None = None
    done: bool = False
    example: str | None = None

    @property
    def step(self) -> int:
        """The last one that is known of."""
        return max(self.loss, default=0)


@dataclass(frozen=True)
class TrainingRecord:
    """One training.

    Attributes:
        path: of the run directory.
        config: the resolved configuration.
        data: hashes and source of what it reads.
        stages: in their order.
        pictures: PNGs by file name.
    """

    path: str
    config: Mapping[str, Any]
    data: Mapping[str, str]
    stages: tuple[StageRecord, ...]
    pictures: Mapping[str, bytes]


def is_training(location: str) -> bool:
    """Whether a run directory is one of `raycp train`."""
    return Storage(location).read(CONFIG) is not None


def read_training(location: str) -> TrainingRecord:
    """Read the run directory of a training, finished or not. Steps that were made twice count as the second time.

    Raises:
        StorageError: it is none, or its files are damaged.
    """
    storage = Storage(location)
    found = storage.read(CONFIG)
    if found is None:
        raise StorageError(f"{storage.path()} holds no training: there is no {CONFIG}.")
    try:
        content = json.loads(found)
        config, data = content["config"], content["identity"]["data"]
        stages = {
            stage["name"]: StageRecord(stage["name"], stage["stage"], stage["steps"])
            for stage in config["stages"]
        }
        # A driver that is killed may leave half a line; the next one then goes on behind it.
        for line in (storage.read(LOG) or b"").splitlines():
            if line.endswith(b"}") and line.startswith(b"{"):
                _add(stages, json.loads(line))
    except (ValueError, KeyError, TypeError) as err:
        raise StorageError(f"{storage.path()} is not the record of a training: {err!r}.") from err
    for name in storage.names(EXAMPLES):
        stage = name.removeprefix(f"{EXAMPLES}/").rpartition("-")[0]
        if stage in stages:
            stages[stage].example = name  # sorted by step: the last one is the newest
    pictures = {}
    for stage_record in stages.values():
        stage_record.done = storage.read(f"{MODELS}/{stage_record.name}/{CARD}") is not None
        if stage_record.example is not None:
            pictures[stage_record.example] = storage.read(stage_record.example) or b""
    return TrainingRecord(storage.path(), config, data, tuple(stages.values()), pictures)


def _add(stages: Mapping[str, StageRecord], line: Mapping[str, Any]) -> None:
    stage = stages[line["stage"]]
    if line.get("done"):
        stage.seconds = line["seconds"]
    elif "metrics" in line:
        stage.metrics[line["step"]] = line["metrics"]
    elif not line.get("restored"):
        stage.loss[line["step"]] = line["loss"]

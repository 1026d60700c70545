"""What a training tells while it runs: from the first worker to the driver, and from there into the run directory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from raycp.report.training_examples import draw_examples
from raycp.storage import Storage
from raycp.training.run_files import EXAMPLES, LOG, TENSORBOARD

_POLL_SECONDS = 0.5
_UPLOAD_SECONDS = 30.0


class Mailbox:
    """An actor that holds the lines of the first worker until the driver takes them."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def put(self, line: dict[str, Any]) -> None:
        """Leave a line."""
        self._lines.append(line)

    def take(self) -> list[dict[str, Any]]:
        """All lines since the last time, in order."""
        lines, self._lines = self._lines, []
        return lines


def start_mailbox() -> Any:
    """A mailbox on this node, which lives as long as the driver does."""
    import ray

    # Soft node affinity puts it on other nodes, where this one has no CPUs for work: it would be lost with them.
    here = ray.get_runtime_context().get_node_id()
    return ray.remote(Mailbox).options(num_cpus=0, label_selector={"ray.io/node-id": here}).remote()


@contextmanager
def emptied(mailbox: Any, take: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand every line to `take` while the block runs, and what is left at its end.

    An error of `take`, such as a full disk, comes up when the block has ended.
    """
    import ray

    ended = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = ended.wait(_POLL_SECONDS)
            for line in ray.get(mailbox.take.remote()):
                take(line)

    with ThreadPoolExecutor(1, "mailbox") as pool:
        following = pool.submit(follow)
        try:
            yield
        finally:
            ended.set()
        following.result()


class Journal:
    """The log, the TensorBoard events and the example images of a training.

    Args:
        storage: the run directory.
        scratch: a folder on this machine, for events on their way to an object store.
    """

    def __init__(self, storage: Storage, scratch: Path) -> None:
        self._storage = storage
        self._remote = "://" in storage.path()
        self._events = scratch if self._remote else Path(storage.path(TENSORBOARD))
        self._writer: Any = None
        self._waiting = b""
        self._uploaded = time.monotonic()

    def add(self, line: Mapping[str, Any]) -> None:
        """Keep one line: a point of the loss curve, a validation, or the end of a stage."""
        examples = line.get("examples")
        if examples is not None:
            name = f"{EXAMPLES}/{line['stage']}-{line['step']:07d}.png"
            self._storage.write(name, draw_examples(examples["pixels"], examples["sigmas"]))
        plain = {key: value for key, value in line.items() if key != "examples"}
        self._waiting += json.dumps(plain).encode() + b"\n"
        self._to_tensorboard(line)
        if not self._remote or time.monotonic() - self._uploaded > _UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write out what is still held back."""
        if self._waiting:
            self._storage.append(LOG, self._waiting)
            self._waiting = b""
        if self._writer is not None:
            self._writer.flush()
        if self._remote:
            for path in self._events.iterdir():
                self._storage.write(f"{TENSORBOARD}/{path.name}", path.read_bytes())
            self._uploaded = time.monotonic()

    def close(self) -> None:
        """Write all out, for the last time."""
        if self._writer is not None:
            self._writer.close()
        self.flush()

    def _to_tensorboard(self, line: Mapping[str, Any]) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._events))
        stage, step = line["stage"], line["step"]
        values = {key: line[key] for key in ("loss", "images_per_second") if key in line}
        for key, value in (values | line.get("metrics", {})).items():
            self._writer.add_scalar(f"{stage}/{key}", value, step)
        if "examples" in line:
            for sigma, pixels_3BCHW in zip(
                line["examples"]["sigmas"], line["examples"]["pixels"], strict=True
            ):
                rows = np.concatenate(np.concatenate(pixels_3BCHW.transpose(1, 0, 2, 3, 4), axis=2), axis=2)
                rows = np.broadcast_to(rows, (3, *rows.shape[1:])) if len(rows) == 1 else rows
                self._writer.add_image(f"{stage}/clean, noisy, purified@{sigma:g}", rows, step)

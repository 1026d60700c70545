"""The images of a training that streams: read and decoded by Ray Data tasks, ahead of the steps that need them.

Each worker has a pipeline of its own, on its own node, whose tasks read a window each and decode the worker's share.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.data.stored import StoredImages
from raycp.data.stream import Share, StreamOrder
from raycp.errors import DataError

# What a task hands over at a time, and how much of that may wait for the worker.
_BLOCK_BYTES = 2 * 2**20
_WAITING_BYTES = 32 * 2**20
# Windows of one pipeline: starting one costs a fraction of a second, planning one a fraction of a millisecond a window.
_PIPELINE_WINDOWS = 256


@dataclass(frozen=True)
class StreamPlan:
    """What a worker reads for one stage.

    Attributes:
        stored: object reference of the StoredImages; the files lie on the worker's node under the same path.
        window: see StreamOrder.
        key: (seed, number of the stage).
        share: of the worker.
        steps: of the stage, after which the stream ends.
        readers: windows that are read at a time.
    """

    stored: Any
    window: int
    key: tuple[int, int]
    share: Share
    steps: int
    readers: int

    def order(self, stored: StoredImages) -> StreamOrder:
        """Of the stage's samples."""
        return StreamOrder(stored.group_rows, self.window, self.key)


class ImageStream:
    """A worker's samples of a stage one after the other, from any of them on."""

    def __init__(self, plan: StreamPlan) -> None:
        import ray

        self._plan = plan
        self._stored: StoredImages = ray.get(plan.stored)
        self._order = plan.order(self._stored)
        self._stop = plan.steps * plan.share.batch_size
        self._next = self._stop
        self._blocks = self._read(self._stop)
        self._block = np.empty((0, *self._stored.shape), np.uint8)

    def take(self, first: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8 [B,C,H,W] and labels int64 [B] of the samples from `first` on, B = `count`.

        All of them are the worker's, and of one step. They are asked for in order; where they are not, as at the start
        of a resumed stage, the reading begins anew at `first`.

        Raises:
            DataError: an image is damaged, or unlike the first of the set.
        """
        if first != self._next:
            self.close()
            self._blocks = self._read(first)
        images = self._from_blocks(count)
        labels = self._stored.labels[self._order.rows(first, first + count)]
        share, stop = self._plan.share, first + count
        ends_share = stop % share.batch_size == (share.rank + 1) * share.size % share.batch_size
        self._next = stop + (share.batch_size - share.size if ends_share else 0)
        if self._next >= self._stop:
            self.close()
        return images, labels

    def close(self) -> None:
        """End the reading."""
        self._blocks.close()
        self._next, self._block = self._stop, self._block[:0]

    def _from_blocks(self, count: int) -> NDArray[np.uint8]:
        parts = []
        while count > 0:
            if not len(self._block):
                self._block = next(self._blocks)
            parts.append(self._block[:count])
            self._block = self._block[count:]
            count -= len(parts[-1])
        return np.concatenate(parts)

    def _read(self, first: int) -> Generator[NDArray[np.uint8], None, None]:
        """Blocks of the worker's images from sample `first` on, to the end of the stage."""
        windows = self._order.windows(first, self._stop)
        while some := list(islice(windows, _PIPELINE_WINDOWS)):
            spans = [(max(first, window.first), min(self._stop, window.stop)) for window in some]
            yield from _pipeline(self._plan, spans)


def _pipeline(plan: StreamPlan, spans: list[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
    """The worker's images of these spans of samples, through Ray Data."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ray.data.ExecutionResources.for_limits(
        object_store_memory=_WAITING_BYTES
    )
    here = ray.get_runtime_context().get_node_id()
    with ray.data.DataContext.current(context):
        items = [{"first": first, "stop": stop} for first, stop in spans]
        # Tasks ask for no CPU: the workers of the training may hold all of them, and it would never start.
        images = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            partial(_decoded, plan),
            batch_size=None,
            concurrency=plan.readers,
            num_cpus=0,
            label_selector={"ray.io/node-id": here},
        )
    try:
        for block in images.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2):
            yield block["images"]
    except ray.exceptions.RayTaskError as err:
        if isinstance(err.cause, DataError):  # to whose message Ray Data has added lines of its own
            raise DataError(str(err.cause).splitlines()[0]) from err
        raise


def _decoded(plan: StreamPlan, spans: dict[str, NDArray[np.int64]]) -> Iterator[dict[str, Any]]:
    """What a task does with its window."""
    import ray

    stored: StoredImages = ray.get(plan.stored)
    order = plan.order(stored)
    chunk = max(1, _BLOCK_BYTES // prod(stored.shape))
    for first, stop in zip(spans["first"].tolist(), spans["stop"].tolist(), strict=True):
        samples = plan.share.of(first, stop)
        rows = order.rows(first, stop)[samples - first]
        for images in stored.decoded(rows, chunk):
            yield {"images": images}

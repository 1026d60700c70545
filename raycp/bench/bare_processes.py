"""The same models in plain processes, as many as the engine has replicas: what the engine is measured against."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch

from raycp.bench.processes import lower_priority
from raycp.bench.windows import Window
from raycp.distributed.replica import Replica, ReplicaSpec
from raycp.errors import ClusterError, RaycpError
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.inner_noise import inner_noise_by_place
from raycp.sampling.noise import make_noise

_TASK_SECONDS = 0.25
"""Short, so that processes which start together also end together."""
_NOISE_SECONDS = 0.5


@dataclass(frozen=True)
class _Drawn:
    samples: int
    seconds: float
    cpu_seconds: float


class BareProcesses:
    """Processes that hold a replica each and sleep until they are asked for something.

    Args:
        spec: what the engine's replicas are built from.
        count: how many processes.
        gpus_each: GPUs of each, as the engine gives its replicas; a fraction shares one.
    """

    def __init__(self, spec: ReplicaSpec, count: int, gpus_each: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, spec, _gpus(number, gpus_each))
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def __enter__(self) -> BareProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()  # it holds nothing that could be lost
        for process in self._processes:
            process.join()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes if process.pid is not None]

    def choose_batch_size(self) -> int:
        """The batch shape that `numerics.batch_size: auto` would take."""
        return int(self._ask(self._connections[:1], "choose_batch_size")[0])

    def prepare(self, batch_size: int) -> str:
        """Fix the batch shape, and test it as the engine's replicas do; returns the numerics class."""
        return str(self._ask(self._connections, "prepare", batch_size)[0])

    def forward(self, seconds: float) -> Window:
        """The base classifier on one constant batch, again and again, in all processes at once."""
        return _window("bare forward", self._ask(self._connections, "forward", seconds))

    def kernel(self, seconds: float) -> Window:
        """The kernel on tasks, noise and counting included, in all processes at once."""
        return _window("kernel", self._ask(self._connections, "kernel", seconds))

    def noise(self) -> dict[str, float]:
        """Seconds per sample of each kind of noise, in one process while the others sleep."""
        measured: dict[str, float] = self._ask(self._connections[:1], "noise")[0]
        return measured

    def _ask(self, connections: list[Connection], method: str, *arguments: Any) -> list[Any]:
        """Have processes do the same at once: they sleep at their pipes, so they start within a millisecond."""
        try:
            for connection in connections:
                connection.send((method, arguments))
            answers = [connection.recv() for connection in connections]
        except (EOFError, BrokenPipeError, ConnectionResetError) as err:
            raise ClusterError(
                f"a process of the bare measurement died at {method}; what it said is above. If it said nothing, "
                f"memory for {len(self._processes)} copies of the models may be short: try fewer --replicas."
            ) from err
        for answer in answers:
            if isinstance(answer, RaycpError):
                raise answer
        return answers


class _Worker:
    """What a process answers with."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self._spec = spec
        self._replica = Replica(spec)
        self._sigma = float(spec.config["certify"]["sigmas"][0])
        self._batch_size = 0
        self._batches_per_task = 1

    def choose_batch_size(self) -> int:
        return self._replica.choose_batch_size()

    def prepare(self, batch_size: int) -> str:
        self._batch_size = batch_size
        numerics = self._replica.prepare(batch_size)
        batch = [Block(0, Phase.SELECTION, 0, batch_size)]
        self._replica.run(self._sigma, batch)
        _, seconds = self._replica.run(self._sigma, batch)
        self._batches_per_task = max(1, int(_TASK_SECONDS / seconds))
        return numerics

    def forward(self, seconds: float) -> _Drawn:
        base_classifier = self._replica.base_classifier
        image = self._spec.images[0].astype(np.float32) / (255 if self._spec.images.dtype == np.uint8 else 1)
        x_CHW = torch.from_numpy(image).to(base_classifier.device)
        x_BCHW = x_CHW + self._sigma * torch.randn(self._batch_size, *x_CHW.shape, device=x_CHW.device)

        inner = inner_noise_by_place(x_BCHW)

        def draw() -> None:
            for _ in range(self._batches_per_task):
                base_classifier(x_BCHW, self._sigma, inner)
            if x_BCHW.is_cuda:
                torch.cuda.synchronize()

        return self._timed(seconds, draw)

    def kernel(self, seconds: float) -> _Drawn:
        size = self._batches_per_task * self._batch_size
        first = 0

        def draw() -> None:
            nonlocal first
            self._replica.run(self._sigma, [Block(0, Phase.ESTIMATION, first, size)])
            first += size

        return self._timed(seconds, draw)

    def noise(self) -> dict[str, float]:
        kinds: tuple[Literal["sound", "float"], ...] = ("sound", "float")
        device = self._replica.base_classifier.device
        seed = int(self._spec.config["certify"]["seed"])
        result: dict[str, float] = {}
        for kind in kinds[self._spec.images.dtype != np.uint8 :]:
            draw = make_noise(kind, self._spec.images, self._spec.image_index, seed, device)
            draw(self._sigma, [Block(0, Phase.SELECTION, 0, self._batch_size)])
            num_batches, start = 0, time.perf_counter()
            while time.perf_counter() - start < _NOISE_SECONDS:
                block = Block(0, Phase.ESTIMATION, num_batches * self._batch_size, self._batch_size)
                draw(self._sigma, [block])
                if device.type == "cuda":
                    torch.cuda.synchronize()
                num_batches += 1
            result[kind] = (time.perf_counter() - start) / (num_batches * self._batch_size)
        return result

    def _timed(self, seconds: float, draw: Callable[[], None]) -> _Drawn:
        start, cpu_start = time.perf_counter(), time.process_time()
        num_tasks, elapsed = 0, 0.0
        while elapsed < seconds:
            draw()
            num_tasks += 1
            elapsed = time.perf_counter() - start
        samples = num_tasks * self._batches_per_task * self._batch_size
        return _Drawn(samples, elapsed, time.process_time() - cpu_start)


def _serve(connection: Connection, spec: ReplicaSpec, gpus: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends this process
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    lower_priority()
    worker: _Worker | None = None
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        answer: Any
        try:
            worker = worker or _Worker(spec)
            answer = getattr(worker, method)(*arguments)
        except RaycpError as err:
            answer = err
        connection.send(answer)


def _gpus(number: int, gpus_each: float) -> str | None:
    """The value of CUDA_VISIBLE_DEVICES for a process: the GPUs that Ray would give a replica on an empty machine."""
    if gpus_each == 0:
        return None
    first = int(number * gpus_each + 1e-9)
    wanted = range(first, first + max(1, math.ceil(gpus_each)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else None
    return ",".join(str(i) if names is None else names[i] for i in wanted)


def _window(side: Literal["bare forward", "kernel"], drawn: list[_Drawn]) -> Window:
    samples = sum(part.samples for part in drawn)
    return Window(
        side,
        samples_per_second=sum(part.samples / part.seconds for part in drawn),
        seconds=max(part.seconds for part in drawn),
        cpu_ms={"draw": 1e3 * sum(part.cpu_seconds for part in drawn) / samples},
    )

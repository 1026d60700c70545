"""The step of a denoiser's training as a plain PyTorch script has it, in a plain process without Ray."""

from __future__ import annotations

import copy
import math
import multiprocessing
import signal
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raycp.bench.processes import lower_priority
from raycp.config.stages import DenoiserStage
from raycp.distributed.hardware import keep_freed_memory
from raycp.distributed.trained_models import make_unet
from raycp.errors import ClusterError

_WARMUP_STEPS = 3
_TIMED_STEPS = 2


class PlainLoop:
    """The same network, batch, loss, optimiser, clipping and average as the stage's, written out.

    Args:
        stage: a denoiser.
        network: diffusers U-Net.
        images_MCHW: uint8.
    """

    def __init__(self, stage: DenoiserStage, network: Any, images_MCHW: np.ndarray) -> None:
        self._stage = stage
        self._network = network
        self._images = torch.from_numpy(images_MCHW).float() / 127.5 - 1
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self.average: nn.Module = copy.deepcopy(network).requires_grad_(False)
        self._step = 0

    def step(self) -> float:
        """Draw a batch and learn from it; returns the loss."""
        stage = self._stage
        x = self._images[torch.randint(len(self._images), (stage.batch_size,))]
        if stage.flip:
            x = torch.where(torch.rand(stage.batch_size, 1, 1, 1) < 0.5, x.flip(-1), x)
        sigma = (stage.log_mean + stage.log_std * torch.randn(stage.batch_size)).exp()
        return self.learn(x, torch.randn_like(x), sigma)

    def learn(self, x: Tensor, noise: Tensor, sigma: Tensor) -> float:
        """One step on images in [-1, 1], noise and noise levels; returns the loss."""
        stage, network = self._stage, self._network
        sd, s = stage.sigma_data, sigma.view(-1, 1, 1, 1)
        assert sd is not None
        variance = s**2 + sd**2
        noisy = x + s * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=stage.dtype == "bfloat16"):
            output = network(noisy / variance.sqrt(), sigma.log() / 4).sample.float()
        denoised = sd**2 / variance * noisy + s * sd / variance.sqrt() * output
        loss = (variance / (s * sd) ** 2 * (denoised - x) ** 2).mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), stage.clip_norm)
        warmup = min(1.0, (self._step + 1) / stage.warmup_steps) if stage.warmup_steps else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * self._step / stage.steps))
        for group in self._optimizer.param_groups:
            group["lr"] = stage.learning_rate * warmup * cosine
        self._optimizer.step()
        decay = min(stage.ema_decay, (1 + self._step) / (10 + self._step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        self._step += 1
        return float(loss.item())


class PlainProcess:
    """A process of one thread that holds a plain loop and sleeps until it is asked for steps."""

    def __init__(self, stage: DenoiserStage, images_MCHW: np.ndarray) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, stage, images_MCHW), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> PlainProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.terminate()  # it holds nothing that could be lost
        self._process.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def prepare(self) -> tuple[int, float]:
        """Warm up; returns the network's number of parameters and seconds per step."""
        parameters, _ = self._ask(0)
        self.steps(_WARMUP_STEPS)
        wall, _ = self.steps(_TIMED_STEPS)
        return int(parameters), wall / _TIMED_STEPS

    def steps(self, count: int) -> tuple[float, float]:
        """Make steps; returns seconds of wall clock and of CPU time."""
        wall, cpu = self._ask(count)
        return wall, cpu

    def _ask(self, count: int) -> tuple[float, float]:
        try:
            self._connection.send(count)
            answer: tuple[float, float] = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as err:
            raise ClusterError("the process of the plain loop died; what it said is above.") from err
        return answer


def _serve(connection: Connection, stage: DenoiserStage, images_MCHW: np.ndarray) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told too, and ends this process
    lower_priority()
    keep_freed_memory()  # as the workers do: what is measured is what Ray and raycp cost
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = make_unet(stage, *images_MCHW.shape[1:])
    loop = PlainLoop(stage, network, images_MCHW)
    while True:
        try:
            count = connection.recv()
        except EOFError:
            return
        if count == 0:
            connection.send((sum(p.numel() for p in network.parameters()), 0.0))
            continue
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(count):
            loop.step()
        connection.send((time.perf_counter() - start, time.process_time() - cpu_start))

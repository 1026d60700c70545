"""Choosing the one batch shape of a run by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from raycp.errors import NumericsError
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import Kernel

_CANDIDATES = {"cpu": (16, 32, 64, 128, 256), "cuda": (64, 128, 256, 512, 1024, 2048, 4096)}
_REPEATS = 3
_LONGEST_SECONDS = 20.0
"""A candidate whose batch takes longer is the last one tried."""


def fastest_batch_size(make_kernel: Callable[[int], Kernel], sigma: float, device: torch.device) -> int:
    """The candidate with the most samples per second, noise included; the smallest within 2% of the best.

    Raises:
        NumericsError: not even the smallest candidate fits the device's memory.
    """
    rates: dict[int, float] = {}
    for batch_size in _CANDIDATES[device.type]:
        kernel = make_kernel(batch_size)
        block = [Block(0, Phase.SELECTION, 0, batch_size)]
        try:
            seconds = [_timed(kernel, sigma, block) for _ in range(_REPEATS + 1)][1:]
        except torch.OutOfMemoryError as err:
            if not rates:
                raise NumericsError(
                    f"a batch of {batch_size} does not fit the memory of {device}; set numerics.batch_size below it."
                ) from err
            break
        rates[batch_size] = batch_size / median(seconds)
        if median(seconds) > _LONGEST_SECONDS:
            break
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= 0.98 * best)


def _timed(kernel: Kernel, sigma: float, blocks: list[Block]) -> float:
    start = time.perf_counter()
    kernel.run(sigma, blocks)  # ends with a copy to the host, hence synchronised
    return time.perf_counter() - start

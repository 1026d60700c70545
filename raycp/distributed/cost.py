"""What a sample of a run costs: its floating-point operations, network evaluations, and time on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from raycp.distributed.job import Job
from raycp.sampling.inner_noise import inner_noise_by_place

_TIMED = 4
"""Samples of the batch that is timed."""


@dataclass(frozen=True)
class SampleCost:
    """One sample at one noise level.

    Attributes:
        operations: floating-point operations of its convolutions, matrix products and attention; two per
            multiplication with addition.
        evaluations: calls of the purifier's network; 0 without a purifier.
        seconds: on one replica here, in a batch of four; None for a run on GPUs, or where it was not measured.
    """

    operations: float
    evaluations: int
    seconds: float | None


def sample_costs(job: Job, timed: bool = True) -> dict[float, SampleCost]:
    """Put a sample through the base classifier of a job at each sigma, on this machine's CPU, and time a few more.

    Operations are those of a sample without compilation, in float32. A network is run once for all sigmas and all its
    evaluations in them; only a user's own, whose work may depend on what it sees, is run as often as a sample runs it.
    """
    counted = _counted(job)
    seconds = _timed(job) if timed and job.config.numerics.device == "cpu" else {}
    return {
        sigma: SampleCost(operations, evaluations, seconds.get(sigma))
        for sigma, (operations, evaluations) in counted.items()
    }


def _counted(job: Job) -> dict[float, tuple[float, int]]:
    """Operations and evaluations of a sample, by sigma."""
    replica, counter = job.on_cpu(), _counter()
    purifier_network, once = replica.purifier_network, []
    if replica.denoiser is not None:
        purifier_network = replica.denoiser.network = _Once(replica.denoiser.network, counter)
        once.append(purifier_network)
    if job.classifier.recipe["kind"] != "python":
        replica.classifier.network = _Once(replica.classifier.network, counter)
        once.append(replica.classifier.network)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    if purifier_network is not None:
        purifier_network.register_forward_hook(count)
    image = job.first_image()[None]
    total, counted = 0, {}
    with torch.no_grad(), counter:
        for sigma in job.config.certify.sigmas:
            before, calls = total, 0
            replica.base_classifier.forward(image, sigma, inner_noise_by_place(image))
            total = counter.get_total_flops() + sum(network.spared for network in once)
            counted[sigma] = float(total - before), calls
    return counted


def _counter() -> FlopCounterMode:
    """Counts the CPU's fused attention, too, which torch has no formula for."""

    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
        *batch, num_queries, query_dim = query
        return 2 * math.prod(batch) * num_queries * key[-2] * (query_dim + value[-1])

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: attention})


class _Once(nn.Module):
    """Runs a network once for inputs of the same shapes, and then repeats its answer.

    The values of an answer are of no account here: the networks of raycp and of libraries, and the purifiers built on
    them, do the same work whatever the pixels.

    Attributes:
        spared: operations that were not done, because the answer was known.
    """

    def __init__(self, network: nn.Module, counter: FlopCounterMode) -> None:
        super().__init__()
        self._network, self._counter = network, counter
        self._known: dict[str, tuple[Any, int]] = {}
        self.spared = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        shapes = tree_map_only(Tensor, lambda tensor: (tuple(tensor.shape), tensor.dtype), (args, kwargs))
        if (key := repr(shapes)) not in self._known:
            before = self._counter.get_total_flops()
            answer = self._network(*args, **kwargs)
            self._known[key] = answer, self._counter.get_total_flops() - before
            return answer
        answer, operations = self._known[key]
        self.spared += operations
        return answer


def _timed(job: Job) -> dict[float, float]:
    """Seconds of a sample in a batch, by sigma, under the numerics of the run."""
    base = job.on_cpu(plain=False).base_classifier
    batch = job.first_image().expand(_TIMED, -1, -1, -1).contiguous()
    sigmas, seconds = job.config.certify.sigmas, {}
    for sigma in (sigmas[0], *sigmas):  # what the first pass prepares, compilation above all, is not timed
        begin = time.perf_counter()
        base(batch, sigma, inner_noise_by_place(batch))
        seconds[sigma] = (time.perf_counter() - begin) / _TIMED
    return seconds


def core_cost(job: Job) -> SampleCost | None:
    """One answer of a composition's core, which an image costs once at each sigma; None without a composition."""
    if job.core is None:
        return None
    replica = job.on_cpu(plain=job.config.numerics.device == "cuda")
    assert replica.core is not None
    image = job.first_image()[None]
    counter, seconds = _counter(), None
    with counter, torch.no_grad():
        replica.core(image)
    if job.config.numerics.device == "cpu":
        begin = time.perf_counter()
        replica.core_logits(image)
        seconds = time.perf_counter() - begin
    return SampleCost(float(counter.get_total_flops()), 0, seconds)


def recorded_costs(job: Job) -> dict[str, dict[str, Any]]:
    """What config.json keeps of them, by sigma: `operations` and `evaluations` of a sample."""
    return {
        str(sigma): {"operations": cost.operations, "evaluations": cost.evaluations}
        for sigma, cost in sample_costs(job, timed=False).items()
    }

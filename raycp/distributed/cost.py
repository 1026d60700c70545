"""What a sample of a run costs: its floating-point operations, network evaluations, and time on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
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
    """Put a few samples through the base classifier of a job at each sigma, on this machine's CPU."""
    replica = job.on_cpu(plain=job.config.numerics.device == "cuda" or not timed)
    base, costs = replica.base_classifier, {}
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    if replica.purifier_network is not None:
        replica.purifier_network.register_forward_hook(count)
    image = job.first_image()[None]
    batch = image.expand(_TIMED, -1, -1, -1).contiguous()
    for sigma in job.config.certify.sigmas:
        counter, calls = FlopCounterMode(display=False), 0
        with counter, torch.no_grad():
            base.forward(image, sigma, inner_noise_by_place(image))
        evaluations, seconds = calls, None
        if timed and job.config.numerics.device == "cpu":
            begin = time.perf_counter()
            base(batch, sigma, inner_noise_by_place(batch))
            seconds = (time.perf_counter() - begin) / _TIMED
        costs[sigma] = SampleCost(float(counter.get_total_flops()), evaluations, seconds)
    return costs


def core_cost(job: Job) -> SampleCost | None:
    """One answer of a composition's core, which an image costs once at each sigma; None without a composition."""
    if job.core is None:
        return None
    replica = job.on_cpu(plain=job.config.numerics.device == "cuda")
    assert replica.core is not None
    image = job.first_image()[None]
    counter, seconds = FlopCounterMode(display=False), None
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

"""What a sample of a run costs: its floating-point operations, and its time on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

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
        seconds: on one replica here, in a batch of four; None for a run on GPUs.
    """

    operations: float
    seconds: float | None


def sample_costs(job: Job) -> dict[float, SampleCost]:
    """Put a few samples through the base classifier of a job at each sigma, on this machine's CPU."""
    replica = job.on_cpu(plain=job.config.numerics.device == "cuda")
    base, costs = replica.base_classifier, {}
    image = job.first_image()[None]
    batch = image.expand(_TIMED, -1, -1, -1).contiguous()
    for sigma in job.config.certify.sigmas:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            base.forward(image, sigma, inner_noise_by_place(image))
        seconds = None
        if job.config.numerics.device == "cpu":
            begin = time.perf_counter()
            base(batch, sigma, inner_noise_by_place(batch))
            seconds = (time.perf_counter() - begin) / _TIMED
        costs[sigma] = SampleCost(float(counter.get_total_flops()), seconds)
    return costs

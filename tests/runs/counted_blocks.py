"""Blocks with counts for the ledger, made from votes so that sums over samples are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from raycp.certify.units import Counted
from raycp.runs.ledger import Ledger
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage

FINGERPRINT = "f" * 64
IMAGE_INDEX = np.array([700, 3, 41])
Sums = dict[tuple[float, int, str, Phase], tuple[int, list[int]]]


def votes(
    sigma: float, image: int, numerics: str, phase: Phase, num_classes: int, num_samples: int
) -> np.ndarray:
    """The class of each sample of a stream, a function of its key alone."""
    key = [int(sigma * 1000), image, sum(numerics.encode()), int(phase), num_classes]
    rng = np.random.default_rng(key)
    return rng.choice(num_classes, num_samples, p=rng.dirichlet(np.full(num_classes, 0.2)))


def counted(
    image: int,
    phase: Phase,
    first: int,
    num_samples: int,
    num_classes: int,
    sigma: float = 0.25,
    numerics: str = "cpu x",
) -> Counted:
    classes = votes(sigma, image, numerics, phase, num_classes, first + num_samples)[first:]
    counts = np.bincount(classes, minlength=num_classes)
    return Counted(sigma, Block(image, phase, first, num_samples), counts, numerics, 0.25 * num_samples)


def sums(items: Iterable[Counted]) -> Sums:
    """Samples and counts of each stream; no sample may occur twice."""
    found: dict[tuple[float, int, str, Phase], tuple[set[int], np.ndarray]] = {}
    for item in items:
        key = (item.sigma, item.block.image, item.numerics, item.block.phase)
        samples, counts = found.get(key, (set(), 0 * item.counts_K))
        new = set(range(item.block.first, item.block.first + item.block.num_samples))
        assert samples.isdisjoint(new), "a sample twice"
        assert isinstance(item.block.phase, Phase)
        assert item.counts_K.sum() == item.block.num_samples
        found[key] = (samples | new, counts + item.counts_K)
    return {key: (len(samples), counts.tolist()) for key, (samples, counts) in found.items()}


def ledger_of(folder: Path, num_classes: int, fingerprint: str = FINGERPRINT) -> Ledger:
    return Ledger(Storage(str(folder)), fingerprint, IMAGE_INDEX, num_classes)


def blocks_of(folder: Path, num_classes: int) -> list[Counted]:
    return [item for unit in ledger_of(folder, num_classes).read() for item in unit]

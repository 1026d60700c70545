"""Blocks of the ledger, drawn again on this machine and compared bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from raycp.config import resolved
from raycp.data import ImageSet
from raycp.distributed.replica import Replica, ReplicaSpec
from raycp.errors import RaycpError
from raycp.sampling.blocks import Block, Phase
from raycp.verify.checks import Check
from raycp.verify.inputs import Weights
from raycp.verify.ledger import PHASES, Ledger, Range
from raycp.verify.record import Record

_NOTE_SECONDS = 5.0
_BATCHES_AT_ONCE = 16


def check_redraw(
    record: Record,
    ledger: Ledger,
    images: ImageSet,
    weights: Weights,
    num_blocks: int,
    seed: int,
    note: Callable[[str], None],
) -> Check:
    """Draw a random choice of rows again.

    Args:
        record, ledger, images, weights: the run.
        num_blocks: rows to draw; fewer if the ledger has fewer.
        seed: of the choice.
        note: told how far it is, every few seconds.
    """
    check = Check("redraw")
    chosen = ledger.rows(choose(ledger.strata(), record.protocol.sigmas, num_blocks, seed))
    samples = sum(item.num_samples for item in chosen)
    note(f"drawing {len(chosen)} of {len(ledger):,} rows again: {samples:,} samples")
    try:
        replica, here = _replica(record, images, weights)
    except RaycpError as err:
        check.failures.append(f"redraw: {err}")
        return check
    position = {index: at for at, index in enumerate(record.image_index)}
    start = last = time.monotonic()
    drawn = other = moved = largest = 0
    for number, item in enumerate(chosen, 1):
        counts = np.zeros_like(item.counts_K)
        for block in _pieces(item, position[item.image_index], record):
            counts_1K, _ = replica.run(item.sigma, [block])
            counts += counts_1K[0, :-1]  # invalid logits are in no class: they show as missing samples
            drawn += block.num_samples
            now = time.monotonic()
            if now - last >= _NOTE_SECONDS:
                last = now
                note(
                    f"{number - 1}/{len(chosen)} rows, {drawn:,}/{samples:,} samples, {drawn / (now - start):,.0f}/s"
                )
        difference = int(np.abs(counts - item.counts_K).sum() + 1) // 2
        other += item.numerics != here
        if difference and item.numerics == here:
            shown = _classes(item.counts_K, counts, record.manifest["num_classes"])
            check.failures.append(f"{item.file}: {item.name}: {shown}")
        elif difference:
            moved += 1
            largest = max(largest, difference)
    equal = len(chosen) - moved - len(check.failures)
    check.verdict = f"{equal} of {len(chosen)} rows ({samples:,} samples) equal bit for bit, seed {seed}"
    if other:
        check.warnings.append(
            f"redraw: {other} rows are of another numerics class than this machine's ({here}), where float models may "
            f"differ: {moved} of them do, by at most {largest} samples"
        )
    if not chosen:
        check.failures.append("redraw: the ledger has no rows to draw again")
    return check


def choose(
    strata: dict[tuple[float, str], npt.NDArray[np.int64]], sigmas: tuple[float, ...], number: int, seed: int
) -> list[int]:
    """Row numbers: from each (sigma, phase) in turn, so that as many as possible of both occur, at random within it."""
    phases = [phase for phase in PHASES if any(found == phase for _, found in strata)]
    order = [
        (sigma, phases[(at + turn) % len(phases)])
        for turn in range(len(phases))
        for at, sigma in enumerate(sigmas)
    ]
    generator = np.random.default_rng(seed)
    shuffled = [generator.permutation(strata[stratum]).tolist() for stratum in order if stratum in strata]
    chosen: list[int] = []
    while len(chosen) < number and any(shuffled):
        for rows in shuffled:
            if rows and len(chosen) < number:
                chosen.append(rows.pop())
    return chosen


def _replica(record: Record, images: ImageSet, weights: Weights) -> tuple[Replica, str]:
    """A replica in this process under the recorded numerics, on the CPU where there is no GPU; its numerics class."""
    config = record.config
    device = config.numerics.device
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"
        numerics = config.numerics.model_copy(update={"device": "cpu", "compile": False})
        config = config.model_copy(update={"numerics": numerics})
    assert config.numerics.batch_size != "auto"
    replica = Replica(
        ReplicaSpec(
            config=resolved(config),
            purifier=weights.purifier,
            classifier=weights.classifier,
            images=images.images,
            image_index=images.indices,
            num_classes=record.manifest["num_classes"],
            device=device,
            core=weights.core,
        )
    )
    return replica, replica.prepare(config.numerics.batch_size)


def _pieces(item: Range, image: int, record: Record) -> list[Block]:
    """The row in blocks of a few batches, so that long rows show progress."""
    assert record.config.numerics.batch_size != "auto"
    step = _BATCHES_AT_ONCE * record.config.numerics.batch_size
    stop = item.first + item.num_samples
    phase = Phase[item.phase.upper()]
    return [Block(image, phase, first, min(step, stop - first)) for first in range(item.first, stop, step)]


def _classes(stored: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], num_classes: int) -> str:
    at = np.flatnonzero(stored != drawn)
    name = [f"class {k}" for k in range(num_classes)]
    if len(stored) > num_classes:  # of a composition
        name = [f"{k}, choice {choice}" for choice in ("core", "certified") for k in name]
    shown = ", ".join(f"{name[k]} stored {stored[k]}, drawn {drawn[k]}" for k in at[:4])
    return shown + (f" and {len(at) - 4} more classes" if len(at) > 4 else "")

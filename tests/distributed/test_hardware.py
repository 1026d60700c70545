"""A processor without bfloat16 instructions is named to who asks for bfloat16; freed memory is used again."""

from __future__ import annotations

import multiprocessing
import platform
import resource

import pytest
import torch

from raycp.distributed.hardware import bfloat16_note, keep_freed_memory


@pytest.mark.parametrize(("capability", "slow"), [("AVX2", True), ("NO AVX", True), ("AVX512", False)])
def test_bfloat16_note(monkeypatch: pytest.MonkeyPatch, capability: str, slow: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    note = bfloat16_note("numerics.dtype")
    assert (note is not None) == slow
    if note is not None:
        assert capability in note and "set numerics.dtype=float32" in note


def _faults() -> int:
    """Page faults of twenty rounds of three 6 MiB tensors, after five in which the heap may still grow."""
    assert keep_freed_memory()
    for round_ in range(25):
        if round_ == 5:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        _tensors = [torch.ones(6 << 18) for _ in range(3)]
        del _tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept() -> None:
    """Without it most processes fault in every page in every round: it depends on what lies at the heap's end."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        faults = pool.apply(_faults)
    assert faults < 20 * 3 * (6 << 20) // resource.getpagesize() / 20

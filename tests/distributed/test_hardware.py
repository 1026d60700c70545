"""A processor without bfloat16 instructions is named to who asks for bfloat16."""

from __future__ import annotations

import pytest
import torch

from raycp.distributed.hardware import bfloat16_note


@pytest.mark.parametrize(("capability", "slow"), [("AVX2", True), ("NO AVX", True), ("AVX512", False)])
def test_bfloat16_note(monkeypatch: pytest.MonkeyPatch, capability: str, slow: bool) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    note = bfloat16_note("numerics.dtype")
    assert (note is not None) == slow
    if note is not None:
        assert capability in note and "set numerics.dtype=float32" in note

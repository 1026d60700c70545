"""Reading /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raycp.bench.processes import MemoryPeak, descendants, memory_now

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")


def test_children_and_grandchildren_are_found_with_their_cpu_time() -> None:
    """The child starts a grandchild, burns a third of a second, and waits; neither is known by name."""
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)\n"
        "while time.process_time() < 0.4: pass\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.2)
        below = descendants(os.getpid())
        assert below is not None
        mine = {process.pid: process for process in below}
        assert mine[child.pid].parent == os.getpid()
        assert 0.3 < mine[child.pid].cpu_seconds < 5
        assert "process_time" in mine[child.pid].title
        assert [p for p in below if p.parent == child.pid]
        without = descendants(os.getpid(), without=[child.pid])
        assert without is not None
        assert not [p for p in without if child.pid in (p.pid, p.parent)]
        child.stdin.close()
        child.wait()


def test_the_peak_is_kept_after_the_memory_is_given_back() -> None:
    size = 200 * 2**20
    before = memory_now()
    assert before is not None
    with MemoryPeak() as peak:
        array = np.ones(size, dtype=np.uint8)
        time.sleep(0.3)
        del array
        time.sleep(0.1)
    assert peak.memory is not None
    grown = peak.memory.private - before.private
    assert 0.9 * size < grown < 1.5 * size
    assert peak.memory.total == peak.memory.private + peak.memory.libraries + peak.memory.shared
    after = memory_now()
    assert after is not None
    assert after.private < peak.memory.private - size / 2

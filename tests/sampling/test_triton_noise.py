"""The GPU kernel, interpreted: the integers of the NumPy path, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_triton_draws_the_same_integers_as_numpy_and_torch() -> None:
    pytest.importorskip("triton")
    script = Path(__file__).with_name("triton_comparison.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # read when triton is imported, hence a new process
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6 cases agree\n"

"""A minute under fire, as a test; chaos.py for longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.mark.parametrize("what", ["certify", "train"])
def test_a_run_under_fire_ends_as_an_undisturbed_one(what: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    command = [sys.executable, str(Path(__file__).with_name("chaos.py")), what, "--minutes", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]  # it compares the outcomes itself
    survived = json.loads(done.stdout[done.stdout.index("{") :])
    assert survived["workers_killed"] >= 1
    assert survived["drivers_killed"] >= 1
    assert survived["nodes_lost"] == survived["nodes_joined"] >= 2
    assert survived["repeats"] >= 1
    assert survived["work_done"] >= survived["work_needed"]

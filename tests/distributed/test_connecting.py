"""What Ray says when it does not start becomes one line that says what to do."""

from __future__ import annotations

import os
import re
from typing import Any, NoReturn

import pytest

from raycp.config import Engine
from raycp.distributed.cluster import connected
from raycp.errors import ClusterError


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        (None, Exception("No node.\nMore of it."), "cannot start a local Ray cluster: No node. If this machine"),
        (None, RuntimeError(), "cannot start a local Ray cluster: RuntimeError. If this machine is very busy"),
        ("auto", ConnectionError("nobody there"), "cannot reach the Ray cluster at 'auto' (engine.address): nobody"),
    ],
)  # fmt: skip
def test_a_cluster_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, address: str | None, error: Exception, said: str
) -> None:
    import ray

    def init(**options: Any) -> NoReturn:
        raise error

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ClusterError, match=re.escape(said)), connected(Engine(address=address)):
        pass

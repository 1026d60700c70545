"""Honest runs, each made once when a test first asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import RULES, config_of, copy_of, make_run, save_images, save_weights

from raycp.distributed.progress import Budget

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weight file of all runs, with their images beside it."""
    path = tmp_path_factory.mktemp("weights") / "linear.safetensors"
    save_weights(path)
    save_images(path.with_name("digits.npz"))
    return path


@pytest.fixture(scope="session")
def honest(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A run by name: a rule of `RULES`, or one of these with `-partial` or `-extended` behind it."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str) -> Path:
        out = folder / name
        if out.exists():
            return out
        rule, _, how = name.partition("-")
        if how == "partial":
            return make_run(out, config_of(weights, RULES[rule]), Budget(samples=2_500))
        make_run(out, config_of(weights, RULES[rule]))
        if how == "extended":
            make_run(out, config_of(weights, {**RULES[rule], "num_estimation": 600}))
        return out

    return make


@pytest.fixture
def spoiled(honest: Make, tmp_path: Path) -> Make:
    """A copy of an honest run, to be changed."""
    return lambda name: copy_of(honest(name), tmp_path / "run")

"""Every file in configs/ and jobs/ is valid for the one thing its folder stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycp.config import RunConfig, load_config
from raycp.config.job import JobConfig
from raycp.config.suite import load_suite
from raycp.config.train import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def test_there_are_files() -> None:
    assert len(CONFIGS) >= 5
    others = [path for path in (ROOT / "configs").rglob("*") if path.is_file() and path.suffix != ".yaml"]
    for path in others:  # weights that the configurations beside them made
        folder = next(parent for parent in path.parents if parent.parent.name == "models")
        assert (folder / "card.json").is_file(), path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_configs(path: Path) -> None:
    if path.stem.startswith("compare"):
        load_suite(path)
    else:
        load_config(TrainConfig if path.stem.startswith("train") else RunConfig, path)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.name)
def test_jobs(path: Path) -> None:
    load_config(JobConfig, path)

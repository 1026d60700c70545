"""Runs whose base classifier draws: packed in any way they are the same run, and a redraw finds the same counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_runs import change_config, config_of, copy_of, make_run, rows_of

from raycp.config import RunConfig, parse_config, resolved
from raycp.distributed.progress import Budget
from raycp.models import save_denoiser
from raycp.verify import verify_run

KINDS: dict[str, dict[str, Any]] = {
    "densepure": {"kind": "densepure", "timestep": "search", "num_votes": 3, "num_steps": 3},
    "diffsmooth": {"kind": "diffsmooth", "num_copies": 3, "local_sigma": 0.3},
    "fixed": {"kind": "diffsmooth", "num_copies": 3, "local_sigma": 0.3, "copies": "fixed"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ddpm with learned variance, and random weights: the noise that it draws decides much."""
    from diffusers import UNet2DModel

    network_class: Any = UNet2DModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = network_class(
            sample_size=8, in_channels=1, out_channels=2, block_out_channels=(8,), layers_per_block=1,
            norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
        )  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    save_denoiser(path, network, "ddpm", num_train_timesteps=1000)
    return path


@pytest.fixture(scope="module")
def run_of(weights: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("runs")

    def make(kind: str) -> Path:
        out = folder / kind
        return out if out.exists() else make_run(out, config(weights, model, kind))

    return make


def config(weights: Path, model: Path, kind: str, **changes: Any) -> RunConfig:
    raw = resolved(config_of(weights, {"num_estimation": 160}))
    raw["data"]["select"] = {"skip": 5}
    raw["purifier"] = {"model": {"path": str(model)}, **KINDS[kind], **changes}
    return parse_config(RunConfig, raw)


def counts(run: Path) -> dict[tuple[Any, ...], list[int]]:
    """Of every sigma, image and phase."""
    total: dict[tuple[Any, ...], list[int]] = {}
    for file in sorted((run / "counts").glob("*.parquet")):
        for row in rows_of(file):
            key = (row["sigma"], row["image_index"], row["phase"])
            total[key] = [a + b for a, b in zip(total.get(key, [0] * 10), row["counts"], strict=True)]
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_its_blocks_are_drawn_again_bit_for_bit(run_of: Callable[[str], Path], kind: str) -> None:
    checks = {check.name: check for check in verify_run(str(run_of(kind)), num_blocks=6, seed=1)}
    assert not [line for check in checks.values() for line in [*check.failures, *check.warnings]]
    assert checks["redraw"].verdict.startswith("6 of 6 rows (")


@pytest.mark.parametrize("kind", ["densepure", "diffsmooth"])
def test_an_interrupted_run_ends_with_the_same_counts(
    run_of: Callable[[str], Path], weights: Path, model: Path, tmp_path: Path, kind: str
) -> None:
    """Sessions and tasks pack the samples into other batches; the keys, not the batches, say what is drawn."""
    out = tmp_path / "run"
    make_run(out, config(weights, model, kind), Budget(samples=500))
    assert counts(out) != counts(run_of(kind))
    make_run(out, config(weights, model, kind))
    assert counts(out) == counts(run_of(kind))


def test_what_is_drawn_matters_and_is_in_the_fingerprint(
    run_of: Callable[[str], Path], weights: Path, model: Path, tmp_path: Path
) -> None:
    """Fixed and fresh copies are two base classifiers; a run that claims the other is found out."""
    assert counts(run_of("diffsmooth")) != counts(run_of("fixed"))
    run = copy_of(run_of("fixed"), tmp_path / "run")
    change_config(run, "purifier", "copies", "fresh", forge=True)
    failed = {check.name for check in verify_run(str(run), num_blocks=6) if check.failures}
    assert "redraw" in failed

"""Validation: figures known in closed form, the same for any number of workers, and keyed noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raycp.training import validation
from raycp.training.validation import HeldOut

M, SHAPE = 37, (1, 8, 8)


class Brightness(nn.Module):
    """Class 1 where the mean of a model-unit image is above 0."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_B = x_BCHW.mean(dim=(1, 2, 3))
        return torch.stack([-mean_B, mean_B], dim=1)


def held_out(**changes: Any) -> HeldOut:
    generator = np.random.default_rng(0)
    values: dict[str, Any] = {
        "images_MCHW": generator.integers(0, 256, (M, *SHAPE), dtype=np.uint8),
        "labels_M": np.arange(M) % 2,
        "sigmas": (0.25, 1.0),
        "draws": 3,
        "seed": 5,
        "rank": 0,
        "world_size": 1,
        "device": torch.device("cpu"),
        "add_up": lambda sums: sums,
    }
    return HeldOut(**(values | changes))


def test_without_purification_the_distance_is_that_of_the_noise() -> None:
    """The norm of d normal numbers of deviation sigma has mean sigma sqrt(2) Gamma((d+1)/2) / Gamma(d/2)."""
    d = math.prod(SHAPE)
    mean = math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    error = 5 * math.sqrt((d - mean**2) / (3 * M))
    metrics = held_out().of_purifier(lambda x, sigma: x, None, None)
    assert set(metrics) == {"l2@0.25", "l2@1"}
    for sigma in (0.25, 1.0):
        assert metrics[f"l2@{sigma:g}"] / sigma == pytest.approx(mean, abs=error)


def test_a_perfect_purifier() -> None:
    images = held_out()
    clean = torch.from_numpy(images.images_MCHW).float() / 127.5 - 1
    labels = (clean.mean(dim=(1, 2, 3)) > 0).numpy().astype(np.int64)
    labels[:5] = 1 - labels[:5]
    metrics = held_out(labels_M=labels).of_purifier(
        lambda x, sigma: clean, Brightness(), lambda x, y: (x - y).abs().mean(dim=(1, 2, 3)) + 2
    )
    for sigma in ("0.25", "1"):
        assert metrics[f"l2@{sigma}"] == 0
        assert metrics[f"lpips@{sigma}"] == 2
        assert metrics[f"purified_accuracy@{sigma}"] == pytest.approx((M - 5) / M, rel=1e-12)


def test_a_classifier_on_clean_noisy_and_purified_images() -> None:
    images = held_out()
    clean = torch.from_numpy(images.images_MCHW).float() / 127.5 - 1
    labels = (clean.mean(dim=(1, 2, 3)) > 0).numpy().astype(np.int64)
    known = held_out(labels_M=labels)
    metrics = known.of_classifier(Brightness(), 0.0, None)
    mean_M = clean.mean(dim=(1, 2, 3)).double()
    expected = torch.nn.functional.softplus(-2 * mean_M.abs()).mean()
    assert metrics == {"accuracy": 1.0, "cross_entropy": pytest.approx(float(expected), rel=1e-5)}
    noisy = known.of_classifier(Brightness(), 1.0, None)
    assert noisy["noisy_accuracy@1"] < 1
    purified = known.of_classifier(Brightness(), 1.0, lambda x, sigma: clean)
    assert purified["purified_accuracy@1"] == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_share_what_one_worker_does(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_BATCH", 10)
    alone = held_out().of_purifier(lambda x, sigma: 0.9 * x, Brightness(), None)
    shares: list[list[Tensor]] = []
    for rank in range(workers):
        shares.append([])
        held_out(
            rank=rank, world_size=workers, add_up=lambda sums: shares[-1].append(sums) or sums
        ).of_purifier(lambda x, sigma: 0.9 * x, Brightness(), None)
    totals = [torch.stack(sums).sum(dim=0) / (M * 3) for sums in zip(*shares, strict=True)]
    for sigma, total in zip(("0.25", "1"), totals, strict=True):
        assert float(total[0]) == pytest.approx(alone[f"l2@{sigma}"], rel=1e-12)
        assert float(total[2]) == alone[f"purified_accuracy@{sigma}"]


def test_noise_differs_between_levels_draws_batches_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_BATCH", 10)
    images = np.full((M, *SHAPE), 127, dtype=np.uint8)
    seen: list[Tensor] = []

    def record(x: Tensor, sigma: float) -> Tensor:
        seen.append(((x - x.mean()) / sigma)[0])
        return x

    for seed in (5, 6):
        held_out(images_MCHW=images, seed=seed).of_purifier(record, None, None)
    assert len(seen) == 2 * 2 * 4 * 3
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert float((one - other).abs().max()) > 0.1


def test_examples_are_clean_noisy_and_purified_pixels() -> None:
    images = held_out()
    pixels = images.examples(lambda x, sigma: torch.full_like(x, -1.0), 4)
    assert pixels.shape == (2, 3, 4, *SHAPE) and pixels.dtype == np.uint8
    for level in pixels:
        assert (level[0] == images.images_MCHW[:4]).all()
        assert (level[2] == 0).all()
    spread = [np.abs(level[1].astype(int) - level[0]).mean() for level in pixels]
    assert 0 < spread[0] < spread[1]

"""Tiny runs whose figures are known by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

ABSTAIN = -1

Row = tuple[float, int, int, int, float]
"""sigma, image_index, label, predicted, radius."""


@dataclass(frozen=True)
class FakeRun:
    """What `raycp.runs.RunResults` offers to a report."""

    name: str
    path: str
    config: dict[str, Any]
    certificates: pa.Table
    examples: Mapping[str, np.ndarray] | None
    complete: bool
    num_images: int

    def but(self, **changes: Any) -> FakeRun:
        """A copy with other attributes."""
        return replace(self, **changes)


def _certificates(rows: Sequence[Row], skipped: Sequence[int]) -> pa.Table:
    sigma, index, label, predicted, radius = zip(*rows) if rows else ((), (), (), (), ())
    return pa.table(
        {
            "sigma": pa.array(sigma, pa.float64()),
            "image_index": pa.array(index, pa.int64()),
            "label": pa.array(label, pa.int64()),
            "predicted": pa.array(predicted, pa.int64()),
            "radius": pa.array(radius, pa.float64()),
            "correct": pa.array([y == c != ABSTAIN for y, c in zip(label, predicted)], pa.bool_()),
            "stop_reason": pa.array(
                ["skipped_wrong" if i in skipped else "complete" for i in index], pa.string()
            ),
            "samples": pa.array([10_100] * len(rows), pa.int64()),
            "seconds": pa.array([0.5] * len(rows), pa.float64()),
            "numerics": pa.array(["cpu float32"] * len(rows), pa.string()),
        }
    )


@pytest.fixture
def make_run() -> Callable[..., FakeRun]:
    """A run from rows (sigma, image_index, label, predicted, radius); keywords change its protocol."""

    def make(
        rows: Sequence[Row],
        name: str = "tiny",
        sigmas: Sequence[float] | None = None,
        num_images: int | None = None,
        class_names: Sequence[str] | None = None,
        examples: Mapping[str, np.ndarray] | None = None,
        skipped: Sequence[int] = (),
        **certify: Any,
    ) -> FakeRun:
        sigmas = sorted({row[0] for row in rows}) if sigmas is None else sigmas
        images = sorted({row[1] for row in rows})
        num_images = len(images) if num_images is None else num_images
        protocol = {
            "sigmas": list(sigmas),
            "num_selection": 100,
            "num_estimation": 10_000,
            "alpha": 0.001,
            "rule": "fixed",
            "bound": "one_sided",
            "skip_wrong": bool(skipped),
            "radii": None,
            "noise": "sound",
            "seed": 7,
        }
        config = {
            "kind": "certify",
            "fingerprint": "f00d",
            "config": {
                "purifier": {"kind": "consistency"},
                "classifier": {"kind": "directory", "path": "models/tiny"},
                "certify": protocol | certify,
                "numerics": {"device": "cpu", "dtype": "float32"},
            },
            "weights": {"purifier": "aa", "classifier": "bb"},
            "data": {"sha256": "cc", "source": "the test split of the digits", "class_names": class_names},
            "versions": {"python": "3.11", "raycp": "0.1.0"},
            "git_commit": None,
        }
        complete = len(rows) == num_images * len(sigmas)
        return FakeRun(
            name, f"runs/{name}", config, _certificates(rows, skipped), examples, complete, num_images
        )

    return make


# One sigma; by hand: eps 0 and .25 hold for 3 of 5 images, .5 and .75 for 1, 1.0 for none.
HAND_ROWS: tuple[Row, ...] = (
    (0.5, 10, 1, 1, 0.93159),
    (0.5, 11, 1, 2, 1.5),  # the wrong class with the largest radius must never count
    (0.5, 12, 0, 0, 0.25),  # exactly eps counts
    (0.5, 13, 4, ABSTAIN, 0.0),
    (0.5, 14, 3, 3, float(np.nextafter(0.5, 0.0))),  # just below eps does not
)


@pytest.fixture
def hand_run(make_run: Callable[..., FakeRun]) -> FakeRun:
    """Five images at sigma 0.5 that a wrong >=, a wrong class or a wrong mean would betray."""
    return make_run(HAND_ROWS)


def example_arrays(
    sigmas: Sequence[float] = (0.25, 0.5), num_images: int = 4, side: int = 8, channels: int = 1
) -> dict[str, np.ndarray]:
    """Example samples in greys; images with an even index are classified rightly."""
    rng = np.random.default_rng(0)
    rows = len(sigmas) * num_images
    index = np.tile(np.arange(num_images), len(sigmas))
    grey = rng.integers(0, 256, (3, rows, 1, side, side), dtype=np.uint8)
    clean, noisy, purified = np.repeat(grey, channels, axis=2)
    return {
        "sigma": np.repeat(np.array(sigmas, dtype=np.float64), num_images),
        "image_index": index,
        "label": index % 10,
        "predicted": (index + index % 2) % 10,
        "clean": clean,
        "noisy": noisy,
        "purified": purified,
    }


@pytest.fixture
def make_examples() -> Callable[..., dict[str, np.ndarray]]:
    """Example samples in greys; images with an even index are classified rightly."""
    return example_arrays

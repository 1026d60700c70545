"""Measurements on disk: whole, once, and of this evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raycp.errors import LedgerError
from raycp.runs.measurements import Measurements
from raycp.storage import Storage


def row(sigma: float, image: int, draw: int, **changes: Any) -> dict[str, Any]:
    features = np.array([image, draw, sigma], dtype=np.float32)
    plain: dict[str, Any] = {
        "sigma": sigma, "image": image, "draw": draw, "predicted": image % 3, "squared_l2": image + 0.25 * draw,
        "lpips": None if sigma == 0 else 0.5, "features": features,
        "purified": features[:2] if image < 2 and sigma else None, "numerics": "cpu",
    }  # fmt: skip
    return plain | changes


def some(folder: Path, fingerprint: str = "f") -> Measurements:
    measurements = Measurements(Storage(str(folder)), fingerprint)
    measurements.append([row(0.5, 2, 1), row(0.0, 1, 0), row(0.5, 0, 0)])
    measurements.append([row(0.5, 2, 0), row(0.5, 0, 1), row(0.5, 1, 1), row(0.5, 1, 0), row(0.25, 0, 0)])
    return measurements


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    found = some(tmp_path).read(0.5, 3, 2)
    assert found.image.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.squared_l2.tolist() == [0, 0.25, 1, 1.25, 2, 2.25]
    assert found.predicted.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.rows("features").tolist() == [[i, d, 0.5] for i in range(3) for d in range(2)]
    assert found.rows("purified").tolist() == [[i, d] for i in range(2) for d in range(2)]
    assert found.lpips is not None
    assert found.numerics.tolist() == ["cpu"] * 6


def test_what_is_done_has_all_its_draws(tmp_path: Path) -> None:
    measurements = some(tmp_path)
    assert measurements.done(draws=2) == {(0.5, 0), (0.5, 1), (0.5, 2), (0.0, 1)}
    assert measurements.done(draws=1) == {(0.0, 1), (0.25, 0)}


def test_the_same_sample_from_two_drivers_counts_once(tmp_path: Path) -> None:
    some(tmp_path)
    other = Measurements(Storage(str(tmp_path)), "f")
    other.append([row(0.5, 2, 1), row(0.5, 0, 0)])
    assert other.read(0.5, 3, 2).image.tolist() == [0, 0, 1, 1, 2, 2]
    other.append([row(0.5, 2, 1, squared_l2=9.0)])
    with pytest.raises(
        LedgerError, match=r"two measurements of the same sample \(image 2, sigma 0.5, draw 1\)"
    ):
        other.read(0.5, 3, 2)


def test_a_file_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    some(tmp_path)
    with pytest.raises(LedgerError, match=r"belongs to another evaluation \(fingerprint f, this one g\)"):
        Measurements(Storage(str(tmp_path)), "g").done(2)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    measurements = some(tmp_path)
    part = next((tmp_path / "measurements").iterdir())
    part.write_bytes(b"PAR1 nothing")
    with pytest.raises(LedgerError, match=rf"{part.name} is damaged"):
        measurements.read(0.5, 3, 2)

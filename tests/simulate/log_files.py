"""Small logs and runs that the tests write themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raycp.simulate.images import ReplayedImages

HEADER = ("idx", "label", "predict", "radius", "correct", "time")

LogRow = tuple[int, int, int, float]
"""idx, label, predict, radius."""

RunRow = tuple[float, int, int, int, int, int, str]
"""sigma, image_index, label, selected, n_A, n, stop_reason."""


def write_log(path: Path, rows: Sequence[LogRow], separator: str = "\t", newline: str = "\n") -> Path:
    """A log whose `correct` column is wrong throughout: nobody may read it."""
    lines = [HEADER] + [
        (str(i), str(label), str(predict), f"{radius:.3g}", str(int(label != predict)), "0:00:16.301146")
        for i, label, predict, radius in rows
    ]
    path.write_bytes("".join(separator.join(line) + newline for line in lines).encode())
    return path


def write_run(path: Path, rows: Sequence[RunRow], num_images: int | None = None, **certify: Any) -> Path:
    """A certification run with these certificates, N0 = 10, 1,000 samples per second."""
    sigma, index, label, selected, n_A, n, reason = zip(*rows, strict=True)
    right = [
        a == b and reason_ != "skipped_wrong" for a, b, reason_ in zip(label, selected, reason, strict=True)
    ]
    samples = np.array(n) + 10
    images = list(range(num_images)) if num_images is not None else sorted(set(index))
    table = {
        "sigma": pa.array(sigma, pa.float64()), "image_index": pa.array(index, pa.int64()),
        "label": pa.array(label, pa.int64()), "selected": pa.array(selected, pa.int64()),
        "predicted": pa.array([s if r != "skipped_wrong" else -1 for s, r in zip(selected, reason, strict=True)]),
        "radius": pa.array([0.0] * len(rows)), "n_A": pa.array(n_A, pa.int64()), "n": pa.array(n, pa.int64()),
        "correct": pa.array(right), "stop_reason": pa.array(reason), "samples": pa.array(samples),
        "seconds": pa.array(samples / 1000), "numerics": pa.array(["cpu float32"] * len(rows)),
    }  # fmt: skip
    protocol = {
        "sigmas": sorted(set(sigma)), "num_selection": 10, "num_estimation": max(n), "alpha": 0.001, "rule": "fixed",
    }  # fmt: skip
    manifest = {
        "kind": "certify", "fingerprint": "f00d", "config": {"certify": protocol | certify},
        "data": {"image_index": images}, "slack": {str(s): 1e-12 for s in set(sigma)},
    }  # fmt: skip
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(manifest))
    pq.write_table(pa.table(table), path / "certificates.parquet")
    return path


def images_with(p_A: Sequence[float], sigma: float = 0.5, wrong: Sequence[int] = ()) -> ReplayedImages:
    """Images of known p_A; those at the positions `wrong` have a wrong selected class."""
    wrong_M = np.isin(np.arange(len(p_A)), wrong)
    return ReplayedImages(
        "known", sigma, np.arange(len(p_A)), np.array(p_A, dtype=np.float64), ~wrong_M, wrong_M, ("a note.",)
    )

"""Certified accuracy as a function of the radius: the exact empirical step function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.report.results import RunLike, SigmaResults, labels_of, read_sigmas
from raycp.statistics import certified_accuracy


@dataclass(frozen=True, eq=False)
class Curve:
    """Certified accuracy of one sigma of one run.

    accuracy(eps) = #{correct and radius >= eps} / M is constant on (radius_K[i-1], radius_K[i]], where it is
    accuracy_K[i]; on [0, radius_K[0]] it is accuracy_K[0], beyond radius_K[-1] it is 0.
    """

    run: str
    sigma: float
    radius_K: npt.NDArray[np.float64]
    """The distinct radii of correctly classified images, increasing, pixel units."""
    accuracy_K: npt.NDArray[np.float64]
    total: int
    """M, the number of images with a row, decided or not."""
    decided: int
    num_images: int

    def at(self, eps: float) -> float:
        """Certified accuracy at radius `eps`, exactly."""
        step = int(np.searchsorted(self.radius_K, eps, side="left"))
        return float(self.accuracy_K[step]) if step < len(self.radius_K) else 0.0


def certified_curve(run: str, results: SigmaResults) -> Curve:
    """The curve of one sigma, from its M images with a row; undecided ones count with what is certified so far."""
    radius_K = np.unique(results.radius_M[results.correct_M])
    accuracies = [certified_accuracy(results.radius_M, results.correct_M, eps) for eps in radius_K]
    return Curve(
        run=run,
        sigma=results.sigma,
        radius_K=radius_K,
        accuracy_K=np.array(accuracies, dtype=np.float64),
        total=len(results.radius_M),
        decided=results.decided,
        num_images=results.num_images,
    )


def certified_curves(runs: Sequence[RunLike]) -> tuple[Curve, ...]:
    """One curve per run and sigma; a sigma of which nothing is known yet has none."""
    return tuple(
        certified_curve(label, results)
        for label, run in zip(labels_of(runs), runs, strict=True)
        for results in read_sigmas(run)
        if results.known
    )


def curve_records(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """The steps of the curves as flat rows: certified_images of `images` have radius at least `radius`."""
    return [
        {
            "run": curve.run,
            "sigma": curve.sigma,
            "radius": float(radius),
            "certified_images": round(float(accuracy) * curve.total),
            "images": curve.total,
            "decided": curve.decided,
            "certified_accuracy": float(accuracy),
        }
        for curve in curves
        for radius, accuracy in zip(curve.radius_K, curve.accuracy_K, strict=True)
    ]

"""Certified accuracy against cost per image: the points, and those that no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from raycp.report.comparison import MethodRow
from raycp.report.results import RunLike, read_sigmas

Cost = Literal["gflop", "seconds"]
COSTS: tuple[Cost, ...] = ("gflop", "seconds")


@dataclass(frozen=True)
class Point:
    """One sigma of one method at one radius."""

    method: str
    sigma: float
    eps: float
    count: int
    """Of the common images, those certified at eps."""
    images: int
    gflop: float | None
    """Billions of floating-point operations per image, all its samples; None where the run did not record them."""
    seconds: float | None
    """Device seconds per image, all its samples, on the devices of the run."""

    @property
    def accuracy(self) -> float:
        """Certified accuracy, between 0 and 1."""
        return self.count / self.images

    def cost(self, kind: Cost) -> float | None:
        """Per image."""
        return self.gflop if kind == "gflop" else self.seconds


def pareto_points(
    runs: Sequence[RunLike], rows: Sequence[MethodRow], radii: Sequence[float] | None = None
) -> list[Point]:
    """The points of a comparison, by radius, on the images that all of them have.

    Only of methods that have decided all their images at a sigma, and of the data of the first one of these; published
    logs, whose cost is not known, have none. Accuracy is over the common images, cost is the mean over the method's
    own.

    Args:
        runs: the methods' runs.
        rows: of `method_rows`; envelopes are left out, because a certificate costs what its sigma costs.
        radii: which ones, L2, pixel units; None: those of the table above 0.
    """
    ended = [row for row in rows if row.row.sigma is not None and not row.row.partial and not row.imported]
    chosen = [row for row in ended if row.data == ended[0].data]
    results = {(run.name, found.sigma): found for run in runs for found in read_sigmas(run)}
    of_row = [results[row.row.run, float(row.row.sigma or 0)] for row in chosen]
    if not of_row:
        return []
    common = reduce(np.intersect1d, [found.image_index_M for found in of_row])
    points = [
        Point(
            method=row.row.run,
            sigma=found.sigma,
            eps=cell.eps,
            count=int((found.correct_M & (found.radius_M >= cell.eps) & in_common).sum()),
            images=len(common),
            gflop=row.per_image(None if row.operations is None else row.operations / 1e9),
            seconds=row.per_image(row.seconds_per_sample),
        )
        for row, found in zip(chosen, of_row, strict=True)
        for in_common in [np.isin(found.image_index_M, common)]
        for cell in row.row.cells
        if len(common) and cell.count is not None
        if (cell.eps > 0 if radii is None else cell.eps in radii)
    ]
    return sorted(points, key=lambda point: point.eps)


def front(points: Sequence[Point], kind: Cost) -> list[Point]:
    """The points of one radius that no other one beats, by increasing cost.

    One point beats another if it is no more costly and no less accurate, and not equal in both.
    """
    known = [(cost, point.accuracy, point) for point in points if (cost := point.cost(kind)) is not None]
    kept = [
        (cost, accuracy, point)
        for cost, accuracy, point in known
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a, _ in known)
    ]
    return [point for _, _, point in sorted(kept, key=lambda item: item[:2])]


def pareto_records(points: Sequence[Point]) -> list[dict[str, Any]]:
    """One flat dict per point, in full precision."""
    on_front = {
        kind: {
            point
            for eps in {point.eps for point in points}
            for point in front([other for other in points if other.eps == eps], kind)
        }
        for kind in COSTS
    }
    return [
        {
            "eps": point.eps,
            "method": point.method,
            "sigma": point.sigma,
            "certified_accuracy": point.accuracy,
            "certified_images": point.count,
            "images": point.images,
            "gflop_per_image": point.gflop,
            "seconds_per_image": point.seconds,
            "unbeaten_by_gflop": point in on_front["gflop"],
            "unbeaten_by_seconds": point in on_front["seconds"],
        }
        for point in points
    ]

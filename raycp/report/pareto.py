"""Certified accuracy against cost per image: the points, and those that no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raycp.report.comparison import MethodRow

Cost = Literal["gflop", "seconds"]
COSTS: tuple[Cost, ...] = ("gflop", "seconds")


@dataclass(frozen=True)
class Point:
    """One sigma of one method at one radius."""

    method: str
    sigma: float
    eps: float
    count: int
    """Images certified at eps."""
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


def pareto_points(rows: Sequence[MethodRow], radii: Sequence[float] | None = None) -> list[Point]:
    """The points of a comparison, by radius; only of methods that have decided all images at a sigma.

    Args:
        rows: see `method_rows`; envelopes are left out, because a certificate costs what its sigma costs.
        radii: which ones, L2, pixel units; None: those of the table above 0.
    """
    points = [
        Point(
            method=row.row.run,
            sigma=row.row.sigma,
            eps=cell.eps,
            count=cell.count,
            images=cell.total,
            gflop=row.per_image(None if row.operations is None else row.operations / 1e9),
            seconds=row.per_image(row.seconds_per_sample),
        )
        for row in rows
        if row.row.sigma is not None and not row.row.partial
        for cell in row.row.cells
        if cell.count is not None and (cell.eps > 0 if radii is None else cell.eps in radii)
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

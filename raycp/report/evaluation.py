"""Evaluations as tables: each metric with its interval, per noise level, for one or several evaluations or in pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raycp.errors import ConfigError
from raycp.quality.bootstrap import Interval, mean_interval
from raycp.report.mixed_images import DIFFERENT_IMAGES, images_in_words
from raycp.report.numerals import exact

CLEAN = 0.0
# Metric: (column of evaluation.parquet, unit, factor).
METRICS = {
    "accuracy": ("correct", "share", 1.0),
    "fid": ("fid_term", "", 1.0),
    "lpips": ("lpips", "", 1.0),
    "transport": ("l2", "pixel units", 1.0),
    "transport_model": ("l2", "model units", 2.0),
    "squared_l2": ("squared_l2", "pixel units", 1.0),
    "optimal_transport": ("optimal_transport_term", "pixel units", 1.0),
}
_NETWORK = {"fid": "features", "lpips": "perceptual"}


class EvaluationLike(Protocol):
    """An evaluation that was read; `raycp.runs.evaluation.EvaluationResults` is one."""

    @property
    def name(self) -> str:
        """Name of its directory."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of config.json."""

    @property
    def table(self) -> pa.Table:
        """One row per (sigma, image)."""


@dataclass(frozen=True)
class MetricRow:
    """One metric at one noise level.

    Attributes:
        evaluation: name of the evaluation; of a difference, both names.
        sigma: pixel units; 0 is the clean images.
        network: what the metric sees images with; empty where it needs none.
    """

    evaluation: str
    sigma: float
    metric: str
    unit: str
    value: float
    low: float
    high: float
    images: int
    draws: int
    network: str


def metric_rows(evaluation: EvaluationLike) -> list[MetricRow]:
    """Every metric that was measured, sigma by sigma, with its bootstrap interval over images."""
    return [
        _row(evaluation, sigma, metric, evaluation.name, *_values(evaluation, sigma, metric))
        for sigma in _sigmas(evaluation)
        for metric in METRICS
        if _measured(evaluation, sigma, metric)
    ]


def paired_rows(evaluations: Sequence[EvaluationLike]) -> list[MetricRow]:
    """Each later evaluation less the first: the difference of every metric that both measured in the same way.

    Raises:
        ConfigError: they are not of the same noisy samples of the same images.
    """
    first, *others = evaluations
    return [
        _row(first, sigma, metric, f"{other.name} - {first.name}", differences, len(differences))
        for other in others
        for sigma in _common_sigmas(first, other)
        for metric in METRICS
        for differences in [_difference(first, other, sigma, metric)]
        if differences is not None
    ]


def paired_terms(
    base: EvaluationLike, other: EvaluationLike, metric: str
) -> dict[float, npt.NDArray[np.float64]]:
    """A metric of `other` less that of `base`, a term for each image whose mean is the difference; by noise level.

    Raises:
        ConfigError: they are not of the same noisy samples of the same images, or did not measure the metric alike.
    """
    found = {
        sigma: differences
        for sigma in _common_sigmas(base, other)
        if sigma != CLEAN and (differences := _difference(base, other, sigma, metric)) is not None
    }
    if not found:
        raise ConfigError(
            f"{base.path} and {other.path} have not both measured {metric}, with the same network, of the same number "
            "of images."
        )
    return found


def _common_sigmas(first: EvaluationLike, other: EvaluationLike) -> list[float]:
    _require_same_samples(first, other)
    return [sigma for sigma in _sigmas(first) if sigma in _sigmas(other)]


def _difference(
    first: EvaluationLike, other: EvaluationLike, sigma: float, metric: str
) -> npt.NDArray[np.float64] | None:
    """Image by image; None where not both have it, or not in the same features."""
    if not (_measured(first, sigma, metric) and _measured(other, sigma, metric)):
        return None
    used = _NETWORK.get(metric)
    if used and any(first.config[of][used] != other.config[of][used] for of in ("weights", "networks")):
        return None
    ours, images = _values(first, sigma, metric)
    theirs, more = _values(other, sigma, metric)
    return theirs - ours if images == more else None


def csv_text(rows: Sequence[MetricRow]) -> str:
    """One line per metric and sigma, in full precision."""
    sink = io.StringIO()
    writer = csv.DictWriter(sink, fieldnames=list(MetricRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return sink.getvalue()


def plain_text(rows: Sequence[MetricRow], difference: bool = False, heading: str = "evaluation") -> str:
    """A table for reading: one line per evaluation and sigma, four significant digits, intervals in brackets.

    Transport in model units, twice that in pixel units, is left to the CSV.
    """
    metrics = [m for m in METRICS if m != "transport_model" and any(row.metric == m for row in rows)]
    lines = [[heading, "sigma", *metrics]]
    keys = dict.fromkeys((row.evaluation, row.sigma) for row in rows)
    found = {(row.evaluation, row.sigma, row.metric): row for row in rows}
    for evaluation, sigma in keys:
        cells = [found.get((evaluation, sigma, metric)) for metric in metrics]
        name = "clean" if sigma == CLEAN else exact(sigma)
        lines.append(
            [evaluation, name, *("-" if cell is None else _cell(cell, difference) for cell in cells)]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() + "\n" for line in lines
    )


def notes(evaluations: Sequence[EvaluationLike], rows: Sequence[MetricRow]) -> list[str]:
    """What has to be said beside the table."""
    settings = evaluations[0].config["config"]["evaluate"]
    percent = f"{100 * settings['confidence']:g}%"
    counts = sorted(
        {(row.images, row.draws) for row in rows if row.sigma != CLEAN and row.metric == "accuracy"}
    )
    said = [
        f"in brackets: {percent} bootstrap intervals over images, {settings['bootstrap']:,} samples, each by itself; "
        + "; ".join(f"{images:,} images, {draws} draw{'s' * (draws > 1)} of each" for images, draws in counts)
    ]
    for metric, words in (
        (
            "fid",
            "features: {}; FID is between the same images, clean and purified: it grows as they get fewer, and of two "
            "purifiers equally near in distribution it prefers the one that changes single images less",
        ),
        ("lpips", "LPIPS: {}"),
    ):
        networks = dict.fromkeys(row.network for row in rows if row.metric == metric)
        said += [words.format(network) for network in networks]
    said += _different_images(evaluations)
    coupled = {row.images for row in rows if row.metric == "optimal_transport"}
    said += [
        f"optimal_transport: Wasserstein-1 between {images:,} clean and {images:,} purified images; at most transport "
        "of these images" for images in sorted(coupled)
    ]  # fmt: skip
    return said


def _different_images(evaluations: Sequence[EvaluationLike]) -> list[str]:
    """That evaluations are of different images, and of which; nothing if all are of the same."""
    groups: dict[str, list[EvaluationLike]] = {}
    for evaluation in evaluations:
        groups.setdefault(evaluation.config["data"]["sha256"], []).append(evaluation)
    if len(groups) < 2:
        return []
    parts = [
        f"{', '.join(each.name for each in group)}: {images_in_words(data['image_index'])} of {data['source']}"
        for group in groups.values()
        for data in [group[0].config["data"]]
    ]
    return [DIFFERENT_IMAGES.format("; ".join(parts))]


def _cell(row: MetricRow, difference: bool) -> str:
    sign = "+" if difference else ""
    return f"{row.value:{sign}.4g} [{row.low:{sign}.4g}, {row.high:{sign}.4g}]"


def _sigmas(evaluation: EvaluationLike) -> list[float]:
    return [CLEAN, *evaluation.config["config"]["certify"]["sigmas"]]


def _column(evaluation: EvaluationLike, sigma: float, metric: str) -> pa.ChunkedArray:
    rows = evaluation.table.filter(pc.equal(evaluation.table.column("sigma"), sigma))
    return rows.column(METRICS[metric][0])


def _measured(evaluation: EvaluationLike, sigma: float, metric: str) -> bool:
    column = _column(evaluation, sigma, metric)
    return bool(len(column) > column.null_count)


def _values(evaluation: EvaluationLike, sigma: float, metric: str) -> tuple[npt.NDArray[np.float64], int]:
    values = _column(evaluation, sigma, metric).drop_null().to_numpy() * METRICS[metric][2]
    return values, len(values)


def _row(
    evaluation: EvaluationLike,
    sigma: float,
    metric: str,
    name: str,
    values: npt.NDArray[np.float64],
    images: int,
) -> MetricRow:
    settings = evaluation.config["config"]["evaluate"]
    found: Interval = mean_interval(values, settings["bootstrap"], settings["confidence"])
    used = _NETWORK.get(metric)
    return MetricRow(
        evaluation=name,
        sigma=sigma,
        metric=metric,
        unit=METRICS[metric][1],
        value=found.value,
        low=found.low,
        high=found.high,
        images=images,
        draws=1 if sigma == CLEAN else settings["draws"],
        network=evaluation.config["networks"][used] if used else "",
    )


def _require_same_samples(first: EvaluationLike, other: EvaluationLike) -> None:
    ours, theirs = (
        {
            "data.sha256": e.config["data"]["sha256"],
            "data.image_index": e.config["data"]["image_index"],
            "evaluate.draws": e.config["config"]["evaluate"]["draws"],
            "certify.seed": e.config["config"]["certify"]["seed"],
            "certify.noise": e.config["config"]["certify"]["noise"],
        }
        for e in (first, other)
    )
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise ConfigError(
            f"{first.path} and {other.path} are not of the same noisy samples: {', '.join(different)} differ. A paired "
            "difference needs the same ones; evaluate one of them again, or print them beside each other without "
            "--paired."
        )

"""The purified images of the methods of a suite: their metrics, and claims about them against paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raycp.config.claims import Claim
from raycp.errors import ConfigError
from raycp.quality.student import student_interval
from raycp.report.claims import CONFIDENCE, CONFIRMED, CONTRADICTED, UNDECIDED, verdict_counts
from raycp.report.evaluation import (
    CLEAN,
    EvaluationLike,
    MetricRow,
    metric_rows,
    notes,
    paired_terms,
    plain_text,
)
from raycp.report.formats import aligned
from raycp.report.numerals import exact

FEWEST = 100
"""Images that a claim is checked on, at least: with fewer the intervals are too narrow where terms are skew."""


@dataclass(frozen=True)
class CheckedMetric:
    """A claim about a metric at one sigma: the metric of its better method less that of its worse one."""

    claim: Claim
    sigma: float
    images: int
    difference: float
    low: float
    """Ends of the joint interval of the difference."""
    high: float

    @property
    def verdict(self) -> str:
        """Confirmed or contradicted where the joint interval excludes 0; less is better."""
        return CONFIRMED if self.high < 0 else CONTRADICTED if self.low > 0 else UNDECIDED


@dataclass(frozen=True, eq=False)
class Quality:
    """What is known of the purified images of a suite.

    Attributes:
        rows: every metric of every evaluated method at every sigma; sigma 0 is the clean images.
        claims: of the suite, those about a metric.
        checked: by claim and sigma.
        notes: what a reader must know.
    """

    rows: tuple[MetricRow, ...]
    claims: tuple[Claim, ...]
    checked: tuple[CheckedMetric, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Of a picture: of how many images and draws, if that is one for all."""
        counts = {(row.images, row.draws) for row in self.noisy_rows if row.metric == "accuracy"}
        if len(counts) != 1:
            return ""
        ((images, draws),) = counts
        return f"{images:,} images, {draws} noisy sample{'s' * (draws > 1)} of each, intervals over images"

    @property
    def noisy_rows(self) -> tuple[MetricRow, ...]:
        """Those of purified images."""
        return tuple(row for row in self.rows if row.sigma != CLEAN)


def compare_quality(claims: Sequence[Claim], evaluations: Sequence[EvaluationLike]) -> Quality | None:
    """The metrics of evaluations, each named after its method, and the claims about them; None if there is neither."""
    about = tuple(claim for claim in claims if claim.metric is not None)
    if not evaluations and not about:
        return None
    rows = tuple(row for each in evaluations for row in metric_rows(each))
    checked, unchecked = _check(about, {each.name: each for each in evaluations})
    said = notes(evaluations, rows) if evaluations else []
    return Quality(rows, about, checked, (*said, *unchecked))


def _check(
    claims: Sequence[Claim], evaluations: dict[str, EvaluationLike]
) -> tuple[tuple[CheckedMetric, ...], list[str]]:
    """All claims of which both evaluations are there; the intervals hold together with CONFIDENCE (Bonferroni)."""
    found, unchecked = [], []
    for claim in claims:
        better, worse = evaluations.get(claim.better), evaluations.get(claim.worse)
        if better is None or worse is None:
            continue
        assert claim.metric is not None
        try:
            by_sigma = paired_terms(worse, better, claim.metric)
        except ConfigError as err:
            unchecked.append(f"not checked: {claim.says} [{named(claim)}]: {err}")
            continue
        fewest = min(len(values) for values in by_sigma.values())
        if fewest < FEWEST:
            unchecked.append(
                f"not checked: {claim.says} [{named(claim)}]: {fewest} images; its intervals need {FEWEST}."
            )
            continue
        found += [
            (claim, sigma, values)
            for sigma, values in by_sigma.items()
            if claim.sigmas is None or sigma in claim.sigmas
        ]
    each = 1 - (1 - CONFIDENCE) / max(1, len(found))
    checked = (
        CheckedMetric(claim, sigma, len(values), interval.value, interval.low, interval.high)
        for claim, sigma, values in found
        for interval in [student_interval(values, each)]
    )
    return tuple(checked), unchecked


def named(claim: Claim) -> str:
    """`finetuned < consistency by lpips`: the order that a claim is about; of certified accuracy with >."""
    if claim.metric is None:
        return f"{claim.better} > {claim.worse}"
    return f"{claim.better} < {claim.worse} by {claim.metric}"


def difference_text(item: CheckedMetric) -> str:
    """The difference and its interval, three significant digits."""
    return f"{item.difference:+.3g} ({item.low:+.3g} to {item.high:+.3g})"


def quality_text(quality: Quality) -> str:
    """The table of metrics, and every claim about them with its verdicts."""
    rows = quality.noisy_rows
    table = f"Purified images\n{plain_text(rows, heading='method')}" if rows else ""
    if not quality.claims:
        return table
    lines = [
        "Claims about purified images: the metric of the first less that of the second, below 0 as claimed "
        f"(approximate {100 * CONFIDENCE:g}% intervals, for all {len(quality.checked)} together)"
    ]
    for claim in quality.claims:
        items = [item for item in quality.checked if item.claim is claim]
        lines.append(f"{claim.says} [{named(claim)}]: {verdict_counts(items)}")
        cells = [[f"  sigma {exact(item.sigma)}", difference_text(item), item.verdict] for item in items]
        lines += aligned(cells, names=3).splitlines() if cells else []
    return "\n".join([*([table] if table else []), *lines]) + "\n"


def metric_claim_records(checked: Sequence[CheckedMetric]) -> list[dict[str, Any]]:
    """One flat dict per claim and sigma, in full precision."""
    return [
        {
            "claim": item.claim.says,
            "better": item.claim.better,
            "worse": item.claim.worse,
            "metric": item.claim.metric,
            "sigma": item.sigma,
            "images": item.images,
            "difference": item.difference,
            "low": item.low,
            "high": item.high,
            "verdict": item.verdict,
            "joint_confidence": CONFIDENCE,
            "intervals": len(checked),
        }
        for item in checked
    ]

"""Stated orders of methods, held against paired differences of certified accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raycp.config.claims import Claim
from raycp.errors import ConfigError
from raycp.report.conditions import conditions
from raycp.report.formats import aligned
from raycp.report.numerals import exact
from raycp.report.paired import Comparison, count_pair, interval_text, with_intervals
from raycp.report.results import RunLike

CONFIDENCE = 0.95
"""With which all intervals of a comparison hold together."""

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "not confirmed (the other way)", "undecided"
VERDICTS = (CONFIRMED, CONTRADICTED, UNDECIDED)


@dataclass(frozen=True)
class CheckedClaim:
    """A claim at one sigma and radius: the certified accuracy of its better method less that of its worse one."""

    claim: Claim
    comparison: Comparison

    @property
    def verdict(self) -> str:
        """Confirmed or contradicted where the joint interval excludes 0."""
        found = {"higher": CONFIRMED, "lower": CONTRADICTED, "undecided": UNDECIDED}
        return found[self.comparison.verdict]


@dataclass(frozen=True)
class CheckedClaims:
    """All claims of a suite, held against the runs that there are."""

    items: tuple[CheckedClaim, ...]
    """By claim, sigma and radius."""
    notes: tuple[str, ...]
    """Why a claim could not be checked, of those whose methods have ended."""


def check_claims(claims: Sequence[Claim], runs: Mapping[str, RunLike]) -> CheckedClaims:
    """Check the claims of which both methods have ended, at every radius that N lets both of them certify.

    All intervals hold together with probability CONFIDENCE (Bonferroni over the items); over which randomness is said
    at `raycp.statistics.paired_difference`.

    Args:
        claims: in the order of the result.
        runs: the methods' runs by name.
    """
    counted: list[tuple[Claim, Comparison]] = []
    notes: list[str] = []
    for claim in claims:
        better, worse = (runs.get(name) for name in (claim.better, claim.worse))
        if better is None or worse is None or not (better.complete and worse.complete):
            continue
        try:
            found = count_pair(worse, better, claim.worse, claim.better)
        except ConfigError as err:
            notes.append(f"not checked: {claim.says} [{claim.better} > {claim.worse}]: {err}")
            continue
        counted += [
            (claim, c)
            for c in found
            if claim.sigmas is None or c.sigma in claim.sigmas
            if claim.radii is None or c.eps in claim.radii
            if _reaches(better, c) and _reaches(worse, c)
        ]
    with_ends = with_intervals([c for _, c in counted], joint=True, confidence=CONFIDENCE)
    items = (CheckedClaim(claim, c) for (claim, _), c in zip(counted, with_ends, strict=True))
    return CheckedClaims(tuple(items), tuple(notes))


def _reaches(run: RunLike, comparison: Comparison) -> bool:
    largest = conditions(run).largest_radius(comparison.sigma)
    return largest is None or comparison.eps <= largest


class Judged(Protocol):
    """A claim that was held against one difference."""

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""


def verdict_counts(items: Sequence[Judged]) -> str:
    """`5 confirmed, 1 undecided`."""
    verdicts = [item.verdict for item in items]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts) or "not checked"


def claims_text(claims: Sequence[Claim], checked: Sequence[CheckedClaim]) -> str:
    """Every claim with its verdicts, in percentage points; empty without claims."""
    if not claims:
        return ""
    lines = [
        f"Claims: certified accuracy of the first less that of the second, points ({100 * CONFIDENCE:g}% intervals, "
        f"for all {len(checked)} together); images that only one of the two certifies"
    ]
    for claim in claims:
        of_claim = [item for item in checked if item.claim is claim]
        lines.append(f"{claim.says} [{claim.better} > {claim.worse}]: {verdict_counts(of_claim)}")
        cells = [
            [
                f"  sigma {exact(c.sigma)}",
                f"eps {exact(c.eps)}",
                interval_text(c),
                f"{c.only_run} against {c.only_base} of {c.images}",
                item.verdict,
            ]
            for item in of_claim
            for c in [item.comparison]
        ]
        lines += aligned(cells, names=len(cells[0])).splitlines() if cells else []
    return "\n".join(lines) + "\n"


def claim_records(checked: Sequence[CheckedClaim]) -> list[dict[str, Any]]:
    """One flat dict per claim, sigma and radius, in full precision; differences between -1 and 1."""
    return [
        {
            "claim": item.claim.says,
            "better": c.run,
            "worse": c.base,
            "sigma": c.sigma,
            "eps": c.eps,
            "images": c.images,
            "only_better": c.only_run,
            "only_worse": c.only_base,
            "difference": c.difference,
            "low": c.low,
            "high": c.high,
            "verdict": item.verdict,
            "joint_confidence": CONFIDENCE,
            "intervals": len(checked),
        }
        for item in checked
        for c in [item.comparison]
    ]

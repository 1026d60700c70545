"""One simulation: several rules against fixed N on the same images, with figures and their errors over replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.certify.radii import table_radii
from raycp.config import CertifyProtocol
from raycp.config.certify import Sequential
from raycp.simulate.images import ReplayedImages
from raycp.simulate.reference import reference_samples
from raycp.simulate.replay import FIXED, Replayed, replay
from raycp.simulate.rules import require_one_sided

Floats = npt.NDArray[np.float64]

FIXED_SKIPPING = "fixed, skip_wrong"
REFERENCE = "knows p_A"


@dataclass(frozen=True)
class Figure:
    """A mean over replays and its standard error; None with a single replay."""

    mean: float
    error: float | None


@dataclass(frozen=True)
class Cost:
    """Samples per image of one rule, selection included."""

    rule: str
    mean: Figure
    median: float
    percentile_90: float
    fewer: float
    """How many times fewer than fixed N, which samples every image N0 + N times."""
    times_reference: float | None
    """How many times as many as the reference; None where the reference costs nothing."""


@dataclass(frozen=True)
class Accuracy:
    """Certified accuracy of one rule at one radius, shares of the images in [0, 1]."""

    rule: str
    eps: float
    accuracy: Figure
    gap: Figure
    """Fixed N less this rule, on the same samples: positive where the rule certifies less."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """What was replayed, and what came of it.

    Attributes:
        images: with their p_A.
        protocol: of fixed N; the rules differ from it by `rule` alone.
        radii: L2 radii of the table, pixel units.
        dropped_radii: default radii that N cannot certify.
        replays, seed: as asked for.
        outcomes: fixed N first (without skip_wrong), then the rules in the order they were asked for.
        reference_M: samples of the reference that knows p_A.
        costs: of fixed N, of fixed N under skip_wrong if that is on, of the rules, and of the reference.
        accuracies: of fixed N and the rules, radius by radius.
    """

    images: ReplayedImages
    protocol: CertifyProtocol
    radii: tuple[float, ...]
    dropped_radii: tuple[float, ...]
    replays: int
    seed: int
    outcomes: dict[str, Replayed]
    reference_M: Floats
    costs: tuple[Cost, ...]
    accuracies: tuple[Accuracy, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that were asked for."""
        return tuple(name for name in self.outcomes if name not in (FIXED, FIXED_SKIPPING))

    def notes(self) -> list[str]:
        """What a reader must know about the figures, one sentence each."""
        p = self.protocol
        notes = [*self.images.notes]
        if p.skip_wrong:
            notes.append(
                f"skip_wrong: {int(self.images.wrong_M.sum()):,} images whose selected class is not the label cost "
                f"N0 = {p.num_selection:,} alone; `fewer` compares with fixed N without skip_wrong."
            )
        if self.dropped_radii:
            dropped = ", ".join(f"{radius:g}" for radius in self.dropped_radii)
            notes.append(
                f"radii {dropped} are left out: N = {p.num_estimation:,} cannot certify them at this sigma."
            )
        notes.append(
            f"samples include the N0 = {p.num_selection:,} of the selection, whose outcome is taken as recorded. ± is "
            "one standard error over replays of the same images: other images would differ by more."
        )
        notes.append(
            f"{REFERENCE}: Wald's test by someone who knows p_A, against the largest radius of the table that N "
            "samples certify: log(1/alpha) / KL(p_A || p_eps), at most N; nothing for the "
            f"{int((self.reference_M == 0).sum()):,} images that certify none of them. A yardstick, not a strict limit."
        )
        return notes


def simulate(
    images: ReplayedImages,
    protocol: CertifyProtocol,
    rules: Sequence[str],
    replays: int,
    seed: int,
    slack: float = 0.0,
    on_replay: Callable[[], None] = lambda: None,
) -> Simulation:
    """Replay rules side by side with fixed N.

    Args:
        images: with their p_A and sigma.
        protocol: N0, N, alpha, radii, looks and skip_wrong of all of them; its own rule is not used.
        rules: at least one, without `fixed`.
        replays: R, at least 1.
        seed: of the votes.
        slack: total variation distance of the noise from the Gaussian.
        on_replay: called after each replay.

    Raises:
        ConfigError: the protocol's N cannot certify its radii, or its bound cannot be replayed.
    """
    require_one_sided(protocol)
    plain = {"rule": FIXED, "skip_wrong": False, "sequential": Sequential()}
    protocols = {FIXED: protocol.model_copy(update=plain)}
    if protocol.skip_wrong:
        protocols[FIXED_SKIPPING] = protocol.model_copy(update=plain | {"skip_wrong": True})
    for rule in rules:
        protocols[rule] = CertifyProtocol.model_validate(protocol.model_dump() | {"rule": rule})
    radii, dropped = table_radii(protocols[FIXED], {images.sigma: slack})
    outcomes = replay(images, protocols, {images.sigma: slack}, replays, seed, on_replay)
    reference_M = reference_samples(images, protocol, slack, radii)
    return Simulation(
        images=images,
        protocol=protocol,
        radii=tuple(radii),
        dropped_radii=tuple(dropped),
        replays=replays,
        seed=seed,
        outcomes=outcomes,
        reference_M=reference_M,
        costs=_costs(outcomes, reference_M),
        accuracies=tuple(
            _accuracy(name, outcome, outcomes[FIXED], images, eps)
            for name, outcome in outcomes.items()
            if name != FIXED_SKIPPING
            for eps in radii
        ),
    )


def _costs(outcomes: dict[str, Replayed], reference_M: Floats) -> tuple[Cost, ...]:
    fixed = float(outcomes[FIXED].samples_RM.mean())
    reference = float(reference_M.mean())
    rows = [(name, outcome.samples_RM.astype(np.float64)) for name, outcome in outcomes.items()]
    costs = []
    for name, samples_RM in [*rows, (REFERENCE, reference_M[None])]:
        mean = _figure(samples_RM.mean(axis=1))
        median, ninety = np.percentile(samples_RM, [50, 90])
        fewer = fixed / mean.mean if mean.mean else np.inf
        costs.append(
            Cost(
                name, mean, float(median), float(ninety), fewer, mean.mean / reference if reference else None
            )
        )
    return tuple(costs)


def _accuracy(name: str, outcome: Replayed, fixed: Replayed, images: ReplayedImages, eps: float) -> Accuracy:
    own_R, fixed_R = (
        ((replayed.radius_RM >= eps) & images.right_M).mean(axis=1) for replayed in (outcome, fixed)
    )
    return Accuracy(name, eps, _figure(own_R), _figure(fixed_R - own_R))


def _figure(values_R: Floats) -> Figure:
    error = float(values_R.std(ddof=1) / np.sqrt(len(values_R))) if len(values_R) > 1 else None
    return Figure(float(values_R.mean()), error)


def summary_records(simulation: Simulation) -> list[dict[str, Any]]:
    """One flat row per rule, in full precision: samples per image, then accuracies and gaps in [0, 1] by radius."""
    rows = []
    for cost in simulation.costs:
        row: dict[str, Any] = {
            "source": simulation.images.name,
            "sigma": simulation.images.sigma,
            "images": len(simulation.images),
            "replays": simulation.replays,
            "rule": cost.rule,
            "mean_samples": cost.mean.mean,
            "mean_samples_error": cost.mean.error,
            "median_samples": cost.median,
            "percentile_90_samples": cost.percentile_90,
            "fewer_than_fixed": cost.fewer,
            "times_reference": cost.times_reference,
        }
        by_eps = {found.eps: found for found in simulation.accuracies if found.rule == cost.rule}
        for eps in simulation.radii:
            found = by_eps.get(eps)
            row[f"certified_accuracy_at_{eps:g}"] = None if found is None else found.accuracy.mean
            row[f"gap_at_{eps:g}"] = None if found is None else found.gap.mean
            row[f"gap_error_at_{eps:g}"] = None if found is None else found.gap.error
        rows.append(row)
    return rows


def image_records(simulation: Simulation) -> list[dict[str, Any]]:
    """One flat row per image: its p_A, and its mean samples and certified share of replays under each rule."""
    images = simulation.images
    columns: dict[str, npt.NDArray[Any]] = {
        "image_index": images.image_index_M,
        "p_A": images.p_A_M,
        "selected_is_label": images.right_M,
        "reference_samples": simulation.reference_M,
    }
    for rule in simulation.rules:
        columns[f"{rule}_mean_samples"] = simulation.outcomes[rule].samples_RM.mean(axis=0)
        radius_RM = simulation.outcomes[rule].radius_RM
        for eps in simulation.radii:
            columns[f"{rule}_certified_share_at_{eps:g}"] = (radius_RM >= eps).mean(axis=0)
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]

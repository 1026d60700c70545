"""The boundary tables of a sequential run: per noise level, which counts certify which radius at which look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from raycp.config import CertifyProtocol
from raycp.errors import ConfigError
from raycp.statistics.sequential import (
    efficacy_boundary,
    exchange_rate,
    futility_boundary,
    geometric_looks,
    nested,
    spending,
    thresholds,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BoundaryTable:
    """What the counts at each look certify at one noise level.

    Attributes:
        sigma: noise level, pixel units.
        looks_J: sample sizes at which counts are looked at, int64 [J].
        radii_G: L2 radii, pixel units, increasing from 0, float64 [G]: the table's radii that N can reach, and a fine
            grid between and beyond them.
        efficacy_GJ: votes that certify a radius at a look, nested over radii; L_j + 1 where no number does.
        decided_R: the radii that must be decided before sampling stops, as positions in `radii_G`.
        futility_RJ: votes at or below which they are given up; -1 where none are.
    """

    sigma: float
    looks_J: Ints
    radii_G: Floats
    efficacy_GJ: Ints
    decided_R: Ints
    futility_RJ: Ints

    @cached_property
    def last_efficacy_G(self) -> Ints:
        """Votes at the last look that certify each radius."""
        return self.efficacy_GJ[:, -1]

    def certified(self, votes_J: Ints) -> int:
        """How many radii of `radii_G`, from the smallest on, the votes at the first looks certify."""
        return int((votes_J >= self.efficacy_GJ[:, : len(votes_J)]).any(axis=1).sum())


def looks_of(protocol: CertifyProtocol, caps: Sequence[int] = ()) -> tuple[int, ...]:
    """The sample sizes at which a sequential rule looks.

    Args:
        protocol: its looks, or first look and growth, and N.
        caps: the values of N that an extended e_process run had before; they stay looks.

    Raises:
        ConfigError: explicit looks that do not increase up to N.
    """
    sequential, num_samples = protocol.sequential, protocol.num_estimation
    if sequential.looks is not None:
        looks = sequential.looks
        if any(a >= b for a, b in pairwise(looks)) or looks[-1] != num_samples:
            raise ConfigError(
                f"certify.sequential.looks must increase and end at certify.num_estimation = {num_samples}, got "
                f"{list(looks)}. Correct them, or leave them out and set first_look and growth."
            )
        return looks
    if protocol.rule != "e_process":
        return geometric_looks(num_samples, sequential.first_look, sequential.growth)
    # The sequence itself must not depend on N, or samples drawn before an extension would not end at its looks.
    first, growth = sequential.first_look, sequential.growth
    endless = geometric_looks(math.ceil(growth**2 * max(num_samples, first, *caps)), first, growth)
    return tuple(sorted({look for look in endless[:-1] if look < num_samples} | {*caps, num_samples}))


def boundary_tables(
    protocol: CertifyProtocol, slack: Mapping[float, float], radii: Sequence[float]
) -> dict[float, BoundaryTable]:
    """The tables of a `decide` or `anytime` run, by noise level.

    Args:
        protocol: sigmas, N, alpha, the rule and its looks, spending, exchange and step.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
        radii: of the run's table, pixel units.
    """
    sequential = protocol.sequential
    looks = looks_of(protocol)
    spent_J = spending(len(looks), protocol.alpha, sequential.share_of_last_look(protocol.rule))
    worst_slack = max(slack.values())

    fine: list[Ints] = []  # one row per multiple of the step, shared by all noise levels
    while True:
        (p0,) = thresholds(1.0, [len(fine) * sequential.step], worst_slack)
        row = efficacy_boundary(float(p0), looks, spent_J)
        if (row > looks).all():
            break
        fine.append(row)

    tables = {}
    for sigma in protocol.sigmas:
        rows = {position * sequential.step * sigma: row for position, row in enumerate(fine)}
        own = [radius for radius in radii if radius not in rows]
        p0_own = thresholds(sigma, own, slack[sigma])
        rows |= {r: efficacy_boundary(float(p), looks, spent_J) for r, p in zip(own, p0_own, strict=True)}
        radii_G = np.array(sorted(r for r in rows if (rows[r] <= looks).any()), dtype=np.float64)
        efficacy_GJ = nested(np.array([rows[r] for r in radii_G]))
        decided_R = np.flatnonzero(np.isin(radii_G, np.asarray(radii)))
        p0_R = thresholds(sigma, radii_G[decided_R], slack[sigma])
        futility = [
            futility_boundary(
                float(p), looks, efficacy_GJ[g], exchange_rate(float(p), sequential.exchange * looks[-1])
            )
            for p, g in zip(p0_R, decided_R, strict=True)
        ]
        tables[sigma] = BoundaryTable(
            sigma=sigma,
            looks_J=np.array(looks, dtype=np.int64),
            radii_G=radii_G,
            efficacy_GJ=efficacy_GJ,
            decided_R=decided_R,
            futility_RJ=nested(np.array(futility, dtype=np.int64).reshape(len(futility), len(looks))),
        )
    return tables

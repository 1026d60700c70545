"""The rules that stop early: `decide`, `anytime` and `e_process`.

All of them look at the votes for the selected class at sample sizes fixed in advance, and only at complete prefixes,
so that neither the order of arrival nor samples drawn ahead leave a trace. What they certify holds at whatever look
they stop and for whatever reason: see `raycp.statistics.sequential` and `raycp.statistics.e_process`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raycp.certify.boundaries import BoundaryTable, boundary_tables, looks_of
from raycp.certify.rules import (
    COMPLETE,
    DECIDED,
    TOLERANCE,
    UNDECIDED,
    CertificateRow,
    Row,
    largest_at_most,
    nothing_known,
    skipped_row,
)
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certified_radius, clopper_pearson_upper, select_class
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import thresholds

Ints = npt.NDArray[np.int64]

_OPTIMISM = 0.05
"""The chance that an image turns out better than the optimistic guess at what N samples would certify."""


class SequentialRule(ABC):
    """What the rules that look share: selection first, then one look after the other.

    Args:
        protocol: N0, N, alpha, skip_wrong.
        looks: sample sizes at which the votes are looked at, the last one N.
        radii: of the run's table, pixel units.
    """

    def __init__(self, protocol: CertifyProtocol, looks: Sequence[int], radii: Sequence[float]) -> None:
        self._protocol = protocol
        self._radii = radii
        self._looks = tuple(looks)
        self.cuts: Mapping[Phase, tuple[int, ...]] = dict.fromkeys(Phase, ()) | {
            Phase.ESTIMATION: self._looks
        }

    @abstractmethod
    def stop(self, sigma: float, votes_J: Ints) -> tuple[int, str] | None:
        """The first look at which the image is decided, and why; None if it is not by the looks so far."""

    @abstractmethod
    def row(self, label: int, sigma: float, selected: int, votes_J: Ints, reason: str) -> CertificateRow:
        """What the votes at the first looks certify; at least one look."""

    @abstractmethod
    def distance(self, sigma: float, votes_J: Ints) -> int:
        """Samples until the image is decided if its share of votes stays what it is."""

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """The selection, and the samples up to the next look."""
        selection, estimation = tallies[Phase.SELECTION], tallies[Phase.ESTIMATION]
        wanted = {Phase.SELECTION: self._protocol.num_selection}
        if self._protocol.skip_wrong and (
            not selection.covers(self._protocol.num_selection) or select_class(selection.counts_K) != label
        ):
            return wanted
        ahead = [look for look in self._looks if look > estimation.prefix]
        return wanted | {Phase.ESTIMATION: ahead[0] if ahead else self._looks[-1]}

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CertificateRow | None:
        """The certificate, once a look decides the image."""
        selection = tallies[Phase.SELECTION]
        if not selection.covers(self._protocol.num_selection):
            return None
        selected = select_class(selection.counts_K)
        if self._protocol.skip_wrong and selected != label:
            return skipped_row(selected, self._protocol.num_selection)
        votes_J = tallies[Phase.ESTIMATION].counts_at_cuts(selected)
        found = self.stop(sigma, votes_J) if len(votes_J) else None
        if found is None:
            return None
        at, reason = found
        return self.row(label, sigma, selected, votes_J[: at + 1], reason)

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CertificateRow:
        """What the looks so far certify: it holds, whatever stopped the sampling."""
        row = nothing_known(self._protocol, tallies)
        if not row.n0:
            return row
        votes_J = tallies[Phase.ESTIMATION].counts_at_cuts(row.selected)
        return self.row(label, sigma, row.selected, votes_J, UNDECIDED) if len(votes_J) else row

    def used(self, row: Row) -> int:
        """N0 and the estimation samples up to the look that decided."""
        assert isinstance(row, CertificateRow)
        return row.n0 + row.n

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """Samples until a decision if the share of votes stays what it is; the first look while there is none."""
        selection, estimation = tallies[Phase.SELECTION], tallies[Phase.ESTIMATION]
        drawn = selection.num_samples + estimation.num_samples
        if selection.covers(self._protocol.num_selection):
            votes_J = estimation.counts_at_cuts(select_class(selection.counts_K))
            if len(votes_J):
                return self.distance(sigma, votes_J)
        return max(0, self.least_demand() - drawn)

    def least_demand(self) -> int:
        """N0 and the first look."""
        return self._protocol.num_selection + self._looks[0]

    def largest_demand(self) -> int:
        """N0 + N."""
        return self._protocol.num_selection + self._looks[-1]

    def _certificate(
        self, label: int, selected: int, radius: float, p_A_lower: float, votes_J: Ints, reason: str
    ) -> CertificateRow:
        certified = radius >= 0
        return CertificateRow(
            selected=selected,
            predicted=selected if certified else ABSTAIN,
            radius=radius if certified else 0.0,
            p_A_lower=p_A_lower,
            p_B_upper=1.0 - p_A_lower,
            n_A=int(votes_J[-1]),
            n=self._looks[len(votes_J) - 1],
            n0=self._protocol.num_selection,
            correct=certified and selected == label,
            stop_reason=reason,
            grid_radius=largest_at_most(self._radii, radius),
        )


class _TableRule(SequentialRule):
    """A rule over boundary tables: the radius is the largest that any look so far certifies."""

    def __init__(
        self, protocol: CertifyProtocol, tables: Mapping[float, BoundaryTable], radii: Sequence[float]
    ) -> None:
        super().__init__(protocol, next(iter(tables.values())).looks_J.tolist(), radii)
        self._tables = tables

    def row(self, label: int, sigma: float, selected: int, votes_J: Ints, reason: str) -> CertificateRow:
        """See `SequentialRule`. p_A_lower is the probability that the radius stands for."""
        table = self._tables[sigma]
        number = table.certified(votes_J)
        radius = float(table.radii_G[number - 1]) if number else -np.inf
        (p_A_lower,) = thresholds(sigma, [radius]) if number else (0.0,)
        return self._certificate(label, selected, radius, float(p_A_lower), votes_J, reason)


class DecideRule(_TableRule):
    """Samples each image until every radius of the table is certified or given up."""

    def stop(self, sigma: float, votes_J: Ints) -> tuple[int, str] | None:
        """See `SequentialRule`."""
        decided_J = self._decided_RJ(sigma, votes_J, 0).all(axis=0)
        if not decided_J.any():
            return None
        at = int(decided_J.argmax())
        return at, COMPLETE if at == len(self._looks) - 1 else DECIDED

    def distance(self, sigma: float, votes_J: Ints) -> int:
        """See `SequentialRule`."""
        looks = len(votes_J)
        now, ahead_J = self._looks[looks - 1], self._tables[sigma].looks_J[looks:]
        decided_R = self._decided_RJ(sigma, votes_J, 0)[:, -1]
        expected_J = votes_J[-1] * ahead_J // now
        reached_J = (self._decided_RJ(sigma, expected_J, looks) | decided_R[:, None]).all(axis=0)
        return int(ahead_J[reached_J.argmax()]) - now if reached_J.any() else self._looks[-1] - now

    def _decided_RJ(self, sigma: float, votes_J: Ints, first: int) -> npt.NDArray[np.bool_]:
        """Which radii of the table are certified or given up by which look, for votes from look `first` on."""
        table, looks = self._tables[sigma], slice(first, first + len(votes_J))
        certified = votes_J >= table.efficacy_GJ[table.decided_R, looks]
        given_up = votes_J <= table.futility_RJ[:, looks]
        return np.logical_or.accumulate(certified | given_up, axis=1)


class AnytimeRule(_TableRule):
    """Samples each image until N samples would hardly certify a larger radius than is certified already."""

    def stop(self, sigma: float, votes_J: Ints) -> tuple[int, str] | None:
        """See `SequentialRule`."""
        table, tolerance = self._tables[sigma], self._protocol.sequential.tolerance * sigma
        certified_J = np.logical_or.accumulate(votes_J >= table.efficacy_GJ[:, : len(votes_J)], axis=1).sum(
            axis=0
        )
        for at, (votes, certified) in enumerate(zip(votes_J.tolist(), certified_J.tolist(), strict=True)):
            if at == len(self._looks) - 1:
                return at, COMPLETE
            best = int(
                (table.last_efficacy_G <= optimistic_votes(votes, self._looks[at], self._looks[-1])).sum()
            )
            if best == 0 or (
                certified and table.radii_G[best - 1] - table.radii_G[certified - 1] <= tolerance
            ):
                return at, TOLERANCE
        return None

    def distance(self, sigma: float, votes_J: Ints) -> int:
        """See `SequentialRule`: how far an anytime bound still is from its tolerance is not foreseen."""
        return self._looks[-1] - self._looks[len(votes_J) - 1]


class EProcessRule(SequentialRule):
    """As `anytime`, on an e-process: no look is the last, so num_estimation may be raised and the run resumed.

    Args:
        protocol: N0, N, alpha, skip_wrong, tolerance.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
        radii: of the run's table, pixel units.
        looks: sample sizes at which the votes are looked at.
    """

    def __init__(
        self,
        protocol: CertifyProtocol,
        slack: Mapping[float, float],
        radii: Sequence[float],
        looks: Sequence[int],
    ) -> None:
        super().__init__(protocol, looks, radii)
        self._slack = slack

    def stop(self, sigma: float, votes_J: Ints) -> tuple[int, str] | None:
        """See `SequentialRule`."""
        tolerance = self._protocol.sequential.tolerance * sigma
        lower = 0.0
        for at, votes in enumerate(votes_J.tolist()):
            lower = max(lower, self._lower(sigma, votes, self._looks[at]))
            if at == len(self._looks) - 1:
                return at, COMPLETE
            best_votes = optimistic_votes(votes, self._looks[at], self._looks[-1])
            best = certified_radius(sigma, self._lower(sigma, best_votes, self._looks[-1]))
            if best < 0 or best - certified_radius(sigma, lower) <= tolerance:
                return at, TOLERANCE
        return None

    def row(self, label: int, sigma: float, selected: int, votes_J: Ints, reason: str) -> CertificateRow:
        """See `SequentialRule`: the largest bound of all looks."""
        p_A_lower = max(
            self._lower(sigma, votes, look)
            for votes, look in zip(votes_J.tolist(), self._looks, strict=False)
        )
        radius = certified_radius(sigma, p_A_lower)
        return self._certificate(label, selected, radius, p_A_lower, votes_J, reason)

    def distance(self, sigma: float, votes_J: Ints) -> int:
        """See `SequentialRule`: how far an anytime bound still is from its tolerance is not foreseen."""
        return self._looks[-1] - self._looks[len(votes_J) - 1]

    def _lower(self, sigma: float, votes: float, samples: int) -> float:
        return max(0.0, _cached_lower(votes, samples, self._protocol.alpha) - self._slack[sigma])


def sequential_rule(
    protocol: CertifyProtocol,
    slack: Mapping[float, float],
    radii: Sequence[float],
    tables: Mapping[float, BoundaryTable] | None = None,
    caps: Sequence[int] = (),
) -> SequentialRule:
    """The rule of a protocol other than `fixed`.

    Args:
        protocol: of the run.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
        radii: of the run's table, pixel units.
        tables: its boundaries, where the rule has some; None computes them.
        caps: values of N before an extension, under e_process.

    Raises:
        ConfigError: explicit looks that do not increase up to N.
    """
    assert protocol.rule != "fixed"
    if protocol.rule == "e_process":
        return EProcessRule(protocol, slack, radii, looks_of(protocol, caps))
    kind = DecideRule if protocol.rule == "decide" else AnytimeRule
    return kind(protocol, tables or boundary_tables(protocol, slack, radii), radii)


@lru_cache(maxsize=1 << 16)
def _cached_lower(votes: float, samples: int, alpha: float) -> float:
    return e_process_lower(votes, samples, alpha)


@lru_cache(maxsize=1 << 16)
def optimistic_votes(votes: int, samples: int, num_estimation: int) -> float:
    """Votes among N samples that an image will exceed with a chance of about 5%, after `votes` of `samples`.

    Not rounded, so that the radius that so many votes certify never falls as N grows.
    """
    return clopper_pearson_upper(votes, samples, _OPTIMISM) * num_estimation

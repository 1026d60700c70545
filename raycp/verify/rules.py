"""What the counts of one (sigma, image) certify, by each rule: the row of the table, column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.statistics import ABSTAIN, certified_radius, certify, clopper_pearson_upper
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import thresholds
from raycp.verify.boundaries import Table, Tables
from raycp.verify.terms import Terms

Prefix = Callable[[int], npt.NDArray[np.int64] | None]
"""Class counts of the first n samples of a phase, or None where some are missing."""
Row = dict[str, Any]

UNDECIDED = "undecided"
_OPTIMISM = 0.05


def row_of(
    terms: Terms, tables: Tables, sigma: float, label: int, selection: Prefix, estimation: Prefix
) -> Row:
    """The row that follows from the counts: of the look that decides, or of what is certified so far."""
    protocol = terms.protocol
    selection_K = selection(protocol.num_selection)
    if selection_K is None:
        return _row(-1, label, 0, UNDECIDED)
    selected = int(selection_K.argmax())
    n0 = protocol.num_selection
    if protocol.skip_wrong and selected != label:
        return _row(selected, label, n0, "skipped_wrong")
    if protocol.rule == "fixed":
        estimation_K = estimation(protocol.num_estimation)
        if estimation_K is None:
            return _row(selected, label, n0, UNDECIDED)
        found = certify(selection_K, estimation_K, sigma, protocol.alpha, protocol.bound, terms.slack[sigma])
        radius = -np.inf if found.predicted == ABSTAIN else found.radius
        bounds = found.p_A_lower, found.p_B_upper
        return _row(selected, label, n0, "complete", radius, bounds, found.n_A, found.n, terms.radii)

    judge = _EProcess(terms, sigma) if protocol.rule == "e_process" else _ByTable(terms, tables[sigma], sigma)
    reason, n, votes = "", 0, 0
    for look in terms.looks:
        estimation_K = estimation(look)
        if estimation_K is None:
            break
        n, votes = look, int(estimation_K[selected])
        reason = judge.look(votes)
        if look == terms.looks[-1]:
            reason = "complete"
        if reason:
            break
    if not n:
        return _row(selected, label, n0, UNDECIDED)
    p_A_lower = judge.p_A_lower
    bounds = p_A_lower, 1.0 - p_A_lower
    return _row(selected, label, n0, reason or UNDECIDED, judge.radius, bounds, votes, n, terms.radii)


def _row(
    selected: int,
    label: int,
    n0: int,
    reason: str,
    radius: float = -np.inf,
    bounds: tuple[float, float] = (0.0, 1.0),
    n_A: int = 0,
    n: int = 0,
    radii: Sequence[float] = (),
) -> Row:
    certified = radius >= 0
    return {
        "selected": selected,
        "predicted": selected if certified else ABSTAIN,
        "radius": radius if certified else 0.0,
        "grid_radius": max([r for r in radii if r <= radius], default=None),
        "p_A_lower": bounds[0],
        "p_B_upper": bounds[1],
        "n_A": n_A,
        "n": n,
        "n0": n0,
        "correct": certified and selected == label,
        "stop_reason": reason,
        "samples": n0 + n,
    }


class _ByTable:
    """`decide` and `anytime`: the votes, look after look, against a boundary table."""

    def __init__(self, terms: Terms, table: Table, sigma: float) -> None:
        self._terms, self._table, self._sigma = terms, table, sigma
        self._looks = 0
        self._certified_G = np.zeros(len(table.radii_G), dtype=bool)
        self._given_up_R = np.zeros(len(table.decided_R), dtype=bool)

    @property
    def radius(self) -> float:
        """The largest radius that any look certified; -inf if there is none."""
        return float(self._table.radii_G[self._certified_G].max(initial=-np.inf))

    @property
    def p_A_lower(self) -> float:
        """The probability that the radius stands for."""
        return float(thresholds(self._sigma, self.radius)) if self._certified_G.any() else 0.0

    def look(self, votes: int) -> str:
        """Take in the next look; why to stop there, or nothing."""
        table, protocol = self._table, self._terms.protocol
        self._certified_G |= votes >= table.efficacy_GJ[:, self._looks]
        self._given_up_R |= votes <= table.futility_RJ[:, self._looks]
        self._looks += 1
        if protocol.rule == "decide":
            settled = (self._certified_G[table.decided_R] | self._given_up_R).all()
            return "decided" if settled else ""
        most = _optimistic(votes, self._terms.looks[self._looks - 1], self._terms.looks[-1])
        best = table.radii_G[table.efficacy_GJ[:, -1] <= most].max(initial=-np.inf)
        if best < 0:
            return "tolerance"
        enough = self._certified_G.any() and best - self.radius <= protocol.sequential.tolerance * self._sigma
        return "tolerance" if enough else ""


class _EProcess:
    """`e_process`: the largest lower bound of all looks."""

    def __init__(self, terms: Terms, sigma: float) -> None:
        self._terms, self._sigma = terms, sigma
        self._looks = 0
        self.p_A_lower = 0.0

    @property
    def radius(self) -> float:
        """The radius of the bound; -inf if there is none."""
        return certified_radius(self._sigma, self.p_A_lower)

    def look(self, votes: int) -> str:
        """Take in the next look; why to stop there, or nothing."""
        now, last = self._terms.looks[self._looks], self._terms.looks[-1]
        self._looks += 1
        self.p_A_lower = max(self.p_A_lower, self._bound(votes, now))
        best = certified_radius(self._sigma, self._bound(_optimistic(votes, now, last), last))
        tolerance = self._terms.protocol.sequential.tolerance * self._sigma
        return "tolerance" if best < 0 or best - self.radius <= tolerance else ""

    def _bound(self, votes: float, samples: int) -> float:
        return max(
            0.0, _e_process(votes, samples, self._terms.protocol.alpha) - self._terms.slack[self._sigma]
        )


@lru_cache(maxsize=1 << 16)
def _optimistic(votes: int, samples: int, num_estimation: int) -> float:
    """Votes among N that an image as good as its votes so far exceeds with a chance of about 5%."""
    return clopper_pearson_upper(votes, samples, _OPTIMISM) * num_estimation


@lru_cache(maxsize=1 << 16)
def _e_process(votes: float, samples: int, alpha: float) -> float:
    return e_process_lower(votes, samples, alpha)

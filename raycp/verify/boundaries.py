"""Boundary tables, once more: made from the configuration, and held against what the run stored and decided by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.statistics.sequential import (
    crossing_probability,
    efficacy_boundary,
    exchange_rate,
    futility_boundary,
    nested,
    spending,
    thresholds,
)
from raycp.verify.checks import Check
from raycp.verify.parquet import UnreadableError, read_table
from raycp.verify.record import Record
from raycp.verify.terms import Terms

Ints = npt.NDArray[np.int64]
BOUNDARIES = "boundaries.parquet"
_COLUMNS = {
    "sigma": "double", "radius": "double", "looks": "list<element: int64>", "efficacy": "list<element: int64>",
    "futility": "list<element: int64>?",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One radius of one noise level: votes at each look that certify it, and that give it up if it is decided."""

    radius: float
    efficacy_J: Ints
    futility_J: Ints | None


@dataclass(frozen=True)
class Table:
    """The lines of one noise level, radii increasing; `decided_R` are the positions of those with a futility line."""

    radii_G: npt.NDArray[np.float64]
    efficacy_GJ: Ints
    decided_R: Ints
    futility_RJ: Ints

    def lines(self) -> list[Line]:
        """Line by line."""
        given_up = dict(zip(self.decided_R.tolist(), self.futility_RJ, strict=True))
        return [
            Line(radius, self.efficacy_GJ[g], given_up.get(g))
            for g, radius in enumerate(self.radii_G.tolist())
        ]


Tables = dict[float, Table]


def derived_boundaries(terms: Terms) -> Tables:
    """The tables that the configuration stands for, radii increasing."""
    protocol, plan, looks = terms.protocol, terms.protocol.sequential, terms.looks
    spent_J = spending(len(looks), protocol.alpha, plan.share_of_last_look(protocol.rule))
    grid: list[Ints] = []
    worst = max(terms.slack.values())
    while True:
        row = efficacy_boundary(float(thresholds(1.0, len(grid) * plan.step, worst)), looks, spent_J)
        if not _reachable(row, looks):
            break
        grid.append(row)
    tables = {}
    for sigma in protocol.sigmas:
        slack = terms.slack[sigma]
        rows = {step * plan.step * sigma: row for step, row in enumerate(grid)}
        for radius in terms.radii:
            if radius not in rows:
                rows[radius] = efficacy_boundary(float(thresholds(sigma, radius, slack)), looks, spent_J)
        radii = sorted(radius for radius, row in rows.items() if _reachable(row, looks))
        efficacy_GJ = nested(
            np.array([rows[radius] for radius in radii], dtype=np.int64).reshape(-1, len(looks))
        )
        decided = [g for g, radius in enumerate(radii) if radius in terms.radii]
        futility = []
        for g in decided:
            p0 = float(thresholds(sigma, radii[g], slack))
            worth = exchange_rate(p0, plan.exchange * looks[-1])
            futility.append(futility_boundary(p0, looks, efficacy_GJ[g], worth))
        tables[sigma] = Table(
            np.array(radii, dtype=np.float64),
            efficacy_GJ,
            np.array(decided, dtype=np.int64),
            nested(np.array(futility, dtype=np.int64).reshape(-1, len(looks))),
        )
    return tables


def check_boundaries(record: Record, terms: Terms, derived: Tables) -> Check:
    """Compare the stored tables with the derived ones, and compute their exact error."""
    check = Check("boundaries")
    try:
        stored = read_table(record.storage.read(BOUNDARIES), _COLUMNS)
    except UnreadableError as err:
        check.failures.append(f"{BOUNDARIES}: {err}")
        return check
    if _digest(derived, terms.looks) != record.manifest.get("boundaries"):
        check.failures.append(
            "config.json: the digest of the boundary tables is not that of the derived ones"
        )
    found: dict[tuple[float, float], Line] = {}
    for row in stored.to_pylist():
        line = _line(row, terms)
        key = row["sigma"], row["radius"]
        if isinstance(line, str):
            check.failures.append(line)
        elif key in found:
            check.failures.append(f"{BOUNDARIES}: {_name(*key)} appears twice")
        else:
            found[key] = line
    expected = {(sigma, line.radius): line for sigma, table in derived.items() for line in table.lines()}
    check.failures += [f"{BOUNDARIES}: {_name(*key)} is missing" for key in expected if key not in found]
    check.failures += [
        f"{BOUNDARIES}: {_name(*key)} should not be there" for key in found if key not in expected
    ]
    for key in expected.keys() & found.keys():
        check.failures += _differences(key, found[key], expected[key], terms.looks)
    error = _check_error(check, found, terms)
    check.verdict = (
        f"{len(expected)} radii at {len(terms.looks)} looks as derived; exact error at most {error:.4g}"
    )
    return check


def _check_error(check: Check, found: Mapping[tuple[float, float], Line], terms: Terms) -> float:
    """Whether a false certificate has probability at most alpha, whatever made the tables; returns the largest one.

    All false claims contain the smallest false one if no number of votes falls with the radius. The probability of
    crossing does not fall with p, so a line that stands at several radii is computed at the largest p0.
    """
    alpha, worst = terms.protocol.alpha, 0.0
    largest: dict[bytes, tuple[float, tuple[float, float]]] = {}
    for sigma in terms.protocol.sigmas:
        lines = sorted((line for (s, _), line in found.items() if s == sigma), key=lambda line: line.radius)
        for smaller, line in pairwise(lines):
            if (line.efficacy_J < smaller.efficacy_J).any():
                check.failures.append(
                    f"{BOUNDARIES}: {_name(sigma, line.radius)}: certified by fewer votes than {smaller.radius:g}"
                )
        for line in lines:
            p0 = float(thresholds(sigma, line.radius, terms.slack[sigma]))
            key = line.efficacy_J.tobytes()
            if p0 > largest.get(key, (-1.0, (0.0, 0.0)))[0]:
                largest[key] = p0, (sigma, line.radius)
    for p0, at in largest.values():
        error = float(crossing_probability(p0, terms.looks, found[at].efficacy_J)[-1])
        worst = max(worst, error)
        if not error <= alpha:
            check.failures.append(
                f"{BOUNDARIES}: {_name(*at)}: exact error {error:.6g} above alpha {alpha:g}"
            )
    return worst


def _line(row: dict[str, Any], terms: Terms) -> Line | str:
    name = f"{BOUNDARIES}: {_name(row['sigma'], row['radius'])}"
    if row["sigma"] not in terms.protocol.sigmas:
        return f"{name}: not a sigma of this run"
    if row["looks"] != list(terms.looks):
        return f"{name}: looks {row['looks']}, derived {list(terms.looks)}"
    for column in ("efficacy", "futility"):
        numbers = row[column]
        if numbers is None and column == "futility":
            continue
        if numbers is None or None in numbers or len(numbers) != len(terms.looks):
            return f"{name}: {column} is not a number for each look"
    futility = None if row["futility"] is None else np.array(row["futility"], dtype=np.int64)
    return Line(row["radius"], np.array(row["efficacy"], dtype=np.int64), futility)


def _differences(key: tuple[float, float], found: Line, expected: Line, looks: tuple[int, ...]) -> list[str]:
    lines = []
    for column, stored, derived in (
        ("efficacy", found.efficacy_J, expected.efficacy_J),
        ("futility", found.futility_J, expected.futility_J),
    ):
        if stored is None or derived is None:
            if stored is not derived:
                lines.append(
                    f"{BOUNDARIES}: {_name(*key)}: {column} is {'missing' if stored is None else 'too much'}"
                )
            continue
        at = np.flatnonzero(stored != derived)
        if at.size:
            lines.append(
                f"{BOUNDARIES}: {_name(*key)}: {column} at look {looks[at[0]]}: stored {stored[at[0]]}, derived "
                f"{derived[at[0]]}" + (f", and at {at.size - 1} more looks" if at.size > 1 else "")
            )
    return lines


def _digest(tables: Tables, looks: tuple[int, ...]) -> str:
    """SHA-256 over all numbers of the tables, little-endian, as config.json keeps it."""
    sha = hashlib.sha256()
    for sigma in sorted(tables):
        table = tables[sigma]
        for array in (
            np.array([sigma], dtype="<f8"),
            np.array(looks, dtype="<i8"),
            table.radii_G.astype("<f8"),
            table.efficacy_GJ.astype("<i8"),
            table.decided_R.astype("<i8"),
            table.futility_RJ.astype("<i8"),
        ):
            sha.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


def _reachable(row: Ints, looks: tuple[int, ...]) -> bool:
    return bool((row <= np.array(looks)).any())


def _name(sigma: float, radius: float) -> str:
    return f"sigma {sigma:g}, radius {radius:g}"

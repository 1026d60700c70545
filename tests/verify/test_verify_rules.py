"""The rules of `raycp.verify` and those of `raycp.certify`, written apart, agree on thousands of random counts."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from raycp.certify.boundaries import boundary_tables, looks_of
from raycp.certify.rules import FixedRule, Rule
from raycp.certify.sequential import AnytimeRule, DecideRule, EProcessRule
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol
from raycp.sampling.blocks import Phase
from raycp.verify.boundaries import derived_boundaries
from raycp.verify.prefixes import Prefixes
from raycp.verify.rules import row_of
from raycp.verify.terms import Terms

SIGMAS, N0, N, K, RADII = (0.25, 0.5), 20, 1_000, 3, (0.0, 0.1, 0.25, 0.5)
SLACK = {0.25: 1e-4, 0.5: 1e-6}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "two_class": {"bound": "two_class"},
    "skip_wrong": {"skip_wrong": True},
    "decide": {"rule": "decide"},
    "decide, own looks": {"rule": "decide", "sequential": {"looks": [10, 200, 201, N], "last_share": 0.9}},
    "decide, skip_wrong": {"rule": "decide", "skip_wrong": True, "sequential": {"exchange": 0.1}},
    "anytime": {"rule": "anytime"},
    "anytime, no tolerance": {"rule": "anytime", "sequential": {"tolerance": 0}},
    "e_process": {"rule": "e_process"},
    "e_process, extended": {"rule": "e_process", "skip_wrong": True, "sequential": {"tolerance": 0.2}},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_both_give_the_same_rows(name: str) -> None:
    changed = {"sequential": {}, **PROTOCOLS[name]}
    changed["sequential"] = {"step": 0.05, **changed["sequential"]}
    protocol = CertifyProtocol(sigmas=SIGMAS, num_selection=N0, num_estimation=N, radii=RADII, **changed)
    caps = (300, 700) if name.endswith("extended") else ()
    looks = () if protocol.rule == "fixed" else looks_of(protocol, caps)
    terms = Terms(protocol, SLACK, {}, RADII, looks, K)
    rule: Rule
    if protocol.rule == "fixed":
        rule, tables = FixedRule(protocol, SLACK, RADII), {}
    elif protocol.rule == "e_process":
        rule, tables = EProcessRule(protocol, SLACK, RADII, looks), {}
    else:
        made = boundary_tables(protocol, SLACK, RADII)
        rule = (DecideRule if protocol.rule == "decide" else AnytimeRule)(protocol, made, RADII)
        tables = derived_boundaries(terms)
        for sigma in SIGMAS:
            for column in ("radii_G", "efficacy_GJ", "decided_R", "futility_RJ"):
                assert np.array_equal(getattr(made[sigma], column), getattr(tables[sigma], column)), column

    generator = np.random.default_rng(11)
    reasons = set()
    for number in range(200 if protocol.rule == "e_process" else 400):
        sigma, label = SIGMAS[number % 2], number % K
        p_A = generator.choice([0.0, 0.5, 1.0, generator.random(), 1 - generator.random() ** 3 / 2])
        p_K = np.full(K, (1 - p_A) / (K - 1))
        p_K[generator.integers(K)] = p_A
        drawn = {Phase.SELECTION: N0, Phase.ESTIMATION: N}
        if number % 3 == 0:  # stopped from outside
            drawn = {phase: int(generator.integers(size + 1)) for phase, size in drawn.items()}
            drawn[Phase.SELECTION] = N0 if number % 2 else drawn[Phase.SELECTION]
        tallies, prefixes = {}, {}
        for phase in Phase:
            tallies[phase], prefixes[phase] = Tally(K, rule.cuts[phase]), Prefixes(K)
            edges = sorted(
                {0, drawn.get(phase, 0), *(c for c in rule.cuts[phase] if c < drawn.get(phase, 0))}
            )
            for first, stop in pairwise(edges):
                counts = generator.multinomial(stop - first, p_K)
                tallies[phase].add(first, stop - first, counts)
                prefixes[phase].add(first, stop - first, counts)
        expected = rule.decide(label, sigma, tallies) or rule.interim(label, sigma, tallies)
        row = row_of(terms, tables, sigma, label, prefixes[Phase.SELECTION], prefixes[Phase.ESTIMATION])
        samples = row.pop("samples")
        assert row == dataclasses.asdict(expected)  # type: ignore[call-overload]
        assert samples == row["n0"] + row["n"]
        reasons.add(row["stop_reason"])
    assert {"undecided"} < reasons

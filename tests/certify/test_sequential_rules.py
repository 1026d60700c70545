"""When decide, anytime and e_process stop, and what they then certify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from raycp.certify.boundaries import boundary_tables, looks_of
from raycp.certify.rules import CertificateRow, Rule
from raycp.certify.sequential import AnytimeRule, DecideRule, EProcessRule, SequentialRule, optimistic_votes
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, Sequential
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certified_radius
from raycp.statistics.e_process import e_process_lower

SIGMA, LABEL, OTHER, N0, N = 0.5, 1, 2, 10, 1_000
LOOKS = (50, 100, 200, 500, 1_000)
RADII = (0.0, 0.25, 0.5, 0.75)
NO_SLACK = {SIGMA: 0.0}
RULES = ("decide", "anytime", "e_process")
Ints = npt.NDArray[np.int64]


def protocol(rule: str, sequential: Mapping[str, Any] | None = None, **options: Any) -> CertifyProtocol:
    looks: dict[str, Any] = {} if rule == "e_process" else {"looks": LOOKS}
    return CertifyProtocol.model_validate(
        {"rule": rule, "sigmas": (SIGMA,), "num_selection": N0, "num_estimation": N}
        | {"sequential": (looks | {"first_look": 50, "growth": 2.0}) | dict(sequential or {})} | options
    )  # fmt: skip


def rule(name: str, radii: tuple[float, ...] = RADII, slack: float = 0.0, **options: Any) -> SequentialRule:
    made = protocol(name, **options)
    if name == "e_process":
        return EProcessRule(made, {SIGMA: slack}, radii, looks_of(made))
    tables = boundary_tables(made, {SIGMA: slack}, radii)
    return (DecideRule if name == "decide" else AnytimeRule)(made, tables, radii)


def tallies(made: Rule, selected: int | None, votes_J: list[int], ahead: int = 0) -> dict[Phase, Tally]:
    """A complete selection of one class, the votes at the first looks, and maybe samples after a gap."""
    result = {phase: Tally(4, made.cuts[phase]) for phase in Phase}
    if selected is not None:
        result[Phase.SELECTION].add(0, N0, N0 * np.eye(4, dtype=np.int64)[selected])
    looks = made.cuts[Phase.ESTIMATION]
    before, votes_before = 0, 0
    for look, votes in zip(looks, votes_J, strict=False):
        counts_K = np.zeros(4, dtype=np.int64)
        counts_K[[LABEL, OTHER]] = votes - votes_before, look - before - (votes - votes_before)
        assert result[Phase.ESTIMATION].add(before, look - before, counts_K)
        before, votes_before = look, votes
    if ahead:
        assert result[Phase.ESTIMATION].add(before + 1, ahead, np.array([0, ahead, 0, 0]))
    return result


def decided(made: Rule, selected: int | None, votes_J: list[int], ahead: int = 0) -> CertificateRow | None:
    row = made.decide(LABEL, SIGMA, tallies(made, selected, votes_J, ahead))
    assert row is None or isinstance(row, CertificateRow)
    return row


def shares(made: Rule, share: float) -> list[int]:
    return [round(share * look) for look in made.cuts[Phase.ESTIMATION]]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("share", [0.2, 0.45, 0.56, 0.72, 0.9, 0.97, 1.0])
def test_the_first_look_that_decides_decides(name: str, share: float) -> None:
    """Later looks, and samples beyond a gap, leave no trace: the row is that of the prefix."""
    made = rule(name)
    votes = shares(made, share)
    one_by_one = next(row for j in range(1, 1 + len(votes)) if (row := decided(made, LABEL, votes[:j])))
    at = made.cuts[Phase.ESTIMATION].index(one_by_one.n)
    assert decided(made, LABEL, votes) == one_by_one
    # What comes after the deciding look may be anything.
    wild = votes[: at + 1] + [look - 1 for look in made.cuts[Phase.ESTIMATION][at + 1 :]]
    assert decided(made, LABEL, wild) == one_by_one
    if at + 1 < len(votes):
        room = made.cuts[Phase.ESTIMATION][at + 1] - one_by_one.n - 1
        assert decided(made, LABEL, votes[: at + 1], ahead=room) == one_by_one
    if at:
        assert decided(made, LABEL, votes[:at], ahead=1) is None
    assert one_by_one.n_A == votes[at]
    assert one_by_one.n0 == N0
    assert made.used(one_by_one) == N0 + one_by_one.n


def test_decide_stops_by_its_boundaries() -> None:
    """Held against the table, votes by votes, at the first two looks."""
    made = rule("decide")
    table = boundary_tables(protocol("decide"), NO_SLACK, RADII)[SIGMA]
    efficacy_RJ = table.efficacy_GJ[table.decided_R]
    for votes in range(LOOKS[0] + 1):
        settled = (votes >= efficacy_RJ[:, 0]) | (votes <= table.futility_RJ[:, 0])
        row = decided(made, LABEL, [votes])
        assert (row is not None) == settled.all()
        if row is not None:
            assert row.stop_reason == "decided"
            number = int((votes >= table.efficacy_GJ[:, 0]).sum())
            assert row.predicted == (LABEL if number else ABSTAIN)
            assert row.radius == (table.radii_G[number - 1] if number else 0.0)
    # What is certified or given up at one look stays so at the next.
    between = [v for v in range(LOOKS[0] + 1) if decided(made, LABEL, [v]) is None]
    assert between
    reopened = 0
    for votes in between:
        for more in range(LOOKS[1] - LOOKS[0] + 1):
            votes_J = np.array([votes, votes + more])
            by_look = (votes_J >= efficacy_RJ[:, :2]) | (votes_J <= table.futility_RJ[:, :2])
            assert (made.stop(SIGMA, votes_J) is not None) == by_look.any(axis=1).all()
            reopened += bool(by_look.any(axis=1).all() and not by_look[:, 1].all())
    assert reopened  # some of them are settled only by both looks together


@pytest.mark.parametrize("name", RULES)
def test_the_last_look_ends_it(name: str) -> None:
    made = rule(name, sequential={"tolerance": 0.0, "exchange": 1e6})
    row = decided(made, LABEL, shares(made, 0.7))
    assert row is not None
    assert (row.n, row.stop_reason, row.predicted, row.correct) == (N, "complete", LABEL, True)
    assert decided(made, LABEL, shares(made, 0.7)[:-1]) is None


@pytest.mark.parametrize("name", RULES)
def test_rows_state_their_bound_and_the_radius_of_the_table(name: str) -> None:
    made = rule(name)
    for share in (0.3, 0.6, 0.8, 0.95, 1.0):
        row = decided(made, LABEL, shares(made, share))
        assert row is not None
        assert row.p_B_upper == 1.0 - row.p_A_lower
        if row.predicted == ABSTAIN:
            assert (row.radius, row.grid_radius, row.correct) == (0.0, None, False)
            continue
        assert row.radius == pytest.approx(SIGMA * norm.ppf(row.p_A_lower), abs=1e-9)
        assert row.grid_radius == max(r for r in RADII if r <= row.radius)
        assert row.p_A_lower < row.n_A / row.n
        assert share > 0.5


@pytest.mark.parametrize("name", RULES)
def test_a_wrong_class_is_certified_but_not_correct_or_is_skipped(name: str) -> None:
    made = rule(name)
    votes_for_other = [
        look - votes for look, votes in zip(made.cuts[Phase.ESTIMATION], shares(made, 0.0), strict=True)
    ]
    row = decided(made, OTHER, shares(made, 0.0))
    assert row is not None
    assert (row.selected, row.predicted, row.correct) == (OTHER, OTHER, False)
    assert row.n_A == votes_for_other[made.cuts[Phase.ESTIMATION].index(row.n)]
    assert row.radius > 0
    skipping = rule(name, skip_wrong=True)
    empty, wrong, right = (tallies(skipping, selected, []) for selected in (None, OTHER, LABEL))
    assert skipping.wanted(LABEL, empty) == {Phase.SELECTION: N0}
    assert skipping.wanted(LABEL, wrong) == {Phase.SELECTION: N0}
    first = skipping.cuts[Phase.ESTIMATION][0]
    assert skipping.wanted(LABEL, right) == {Phase.SELECTION: N0, Phase.ESTIMATION: first}
    assert made.wanted(LABEL, empty) == {Phase.SELECTION: N0, Phase.ESTIMATION: first}
    assert skipping.decide(LABEL, SIGMA, right) is None
    skipped = decided(skipping, OTHER, [])
    assert skipped is not None
    assert (skipped.stop_reason, skipped.selected, skipped.n, skipped.predicted) == (
        "skipped_wrong",
        OTHER,
        0,
        ABSTAIN,
    )
    assert decided(skipping, OTHER, shares(skipping, 0.0)) == skipped


@pytest.mark.parametrize("name", RULES)
def test_samples_are_wanted_look_by_look(name: str) -> None:
    made = rule(name)
    looks, votes = made.cuts[Phase.ESTIMATION], shares(made, 0.7)
    for j in range(len(looks)):
        for ahead in (0, 5):
            wanted = made.wanted(LABEL, tallies(made, LABEL, votes[:j], ahead))
            assert wanted[Phase.ESTIMATION] == looks[j]
    assert made.wanted(LABEL, tallies(made, LABEL, votes))[Phase.ESTIMATION] == N
    assert (made.least_demand(), made.largest_demand()) == (N0 + looks[0], N0 + N)


@pytest.mark.parametrize("name", RULES)
def test_an_interim_row_claims_what_its_looks_certify(name: str) -> None:
    """Stopped from outside: the claim of the complete looks, never that of the samples beyond them."""
    made = rule(name)
    nothing = made.interim(LABEL, SIGMA, tallies(made, None, [49]))
    assert isinstance(nothing, CertificateRow)
    assert (nothing.selected, nothing.n0, nothing.n, nothing.predicted) == (-1, 0, 0, ABSTAIN)
    chosen = made.interim(LABEL, SIGMA, tallies(made, LABEL, []))
    assert isinstance(chosen, CertificateRow)
    assert (chosen.selected, chosen.n0, chosen.n, chosen.radius) == (LABEL, N0, 0, 0.0)
    votes = shares(made, 0.96)
    radii = []
    for j in range(1, len(votes) + 1):
        row = made.interim(LABEL, SIGMA, tallies(made, LABEL, votes[:j], ahead=0 if j == len(votes) else 40))
        assert isinstance(row, CertificateRow)
        assert (row.stop_reason, row.n, row.n_A) == (
            "undecided",
            made.cuts[Phase.ESTIMATION][j - 1],
            votes[j - 1],
        )
        assert row == made.row(LABEL, SIGMA, LABEL, np.array(votes[:j]), "undecided")
        radii.append(row.radius)
    assert radii == sorted(radii)
    assert 0 < radii[0] < radii[-1]


def test_distance_is_what_the_present_share_still_needs() -> None:
    made = rule("decide")
    for share in (0.54, 0.72, 0.8, 0.9):  # whole numbers of votes at every look
        votes = shares(made, share)
        row = decided(made, LABEL, votes)
        assert row is not None
        for j in range(1, LOOKS.index(row.n)):
            there = tallies(made, LABEL, votes[:j])
            assert made.remaining(LABEL, SIGMA, there) == row.n - LOOKS[j - 1]
    assert made.remaining(LABEL, SIGMA, tallies(made, None, [])) == N0 + LOOKS[0]
    assert made.remaining(LABEL, SIGMA, tallies(made, LABEL, [])) == LOOKS[0]
    assert made.distance(SIGMA, np.array(shares(made, 0.7))) == 0
    for name in ("anytime", "e_process"):
        other = rule(name)
        assert other.distance(SIGMA, np.array(shares(other, 0.7)[:2])) == N - other.cuts[Phase.ESTIMATION][1]


def test_radii_out_of_reach_do_not_keep_sampling_going() -> None:
    """1,000 samples reach 1.23 at sigma 0.5: 1.3 is neither waited for nor certified."""
    far, near = rule("decide", radii=(0.25, 1.3)), rule("decide", radii=(0.25,))
    for share in (0.3, 0.69, 0.8, 1.0):
        votes = shares(far, share)
        rows = decided(far, LABEL, votes), decided(near, LABEL, votes)
        assert rows[0] == rows[1]
    only_far = rule("decide", radii=(1.3,))
    row = decided(only_far, LABEL, shares(only_far, 1.0))
    assert row is not None
    assert (row.n, row.grid_radius) == (LOOKS[0], None)


@pytest.mark.parametrize("name", ["anytime", "e_process"])
def test_tolerance_bounds_what_going_on_could_gain(name: str) -> None:
    """The more radius may be given away, the sooner the stop; what it gives away is then within the tolerance."""
    made = [rule(name, sequential={"tolerance": tolerance}) for tolerance in (0.0, 0.1, 0.4)]
    for share in (0.6, 0.8, 0.99):
        votes = shares(made[0], share)
        rows = [decided(each, LABEL, votes) for each in made]
        assert [row.n for row in rows if row] == sorted((row.n for row in rows if row), reverse=True)
        full = made[0].row(LABEL, SIGMA, LABEL, np.array(votes), "undecided")
        assert rows[2] is not None
        assert full.radius - rows[2].radius <= 0.4 * SIGMA
    hopeless = decided(made[0], LABEL, shares(made[0], 0.2))
    assert hopeless is not None
    assert (hopeless.n, hopeless.stop_reason, hopeless.predicted) == (50, "tolerance", ABSTAIN)
    assert decided(made[2], LABEL, shares(made[2], 1.0)) is not None


def test_e_process_stops_once_n_samples_would_hardly_gain() -> None:
    """Worked out anew on 200 paths: the radius of all looks so far against the optimistic one of N samples."""
    tolerance, rng = 0.3, np.random.default_rng(0)
    made = rule("e_process", sequential={"tolerance": tolerance})
    looks, stopped = made.cuts[Phase.ESTIMATION], set()
    for share in rng.uniform(0.4, 1.0, size=200):
        votes = np.cumsum(rng.binomial(np.diff(looks, prepend=0), share))
        radius, expected = -np.inf, len(looks) - 1
        for j, (v, n) in enumerate(zip(votes.tolist(), looks, strict=True)):
            radius = max(radius, certified_radius(SIGMA, e_process_lower(v, n, 1e-3)))
            best = certified_radius(SIGMA, e_process_lower(optimistic_votes(v, n, N), N, 1e-3))
            if best < 0 or best - radius <= tolerance * SIGMA:
                expected = j
                break
        found = made.stop(SIGMA, votes)
        assert found is not None
        assert found[0] == expected
        if radius >= 0:
            stopped.add(expected)
    assert len(stopped) >= 3  # with something certified


def test_optimistic_votes() -> None:
    """The upper 95% bound of the share, times N."""
    assert optimistic_votes(50, 50, N) == pytest.approx(N, rel=1e-9)
    assert optimistic_votes(0, 50, N) == pytest.approx((1 - 0.05 ** (1 / 50)) * N, rel=1e-9)
    assert optimistic_votes(40, 50, N) > 800


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.4, 1.0), st.integers(60, 3_000), st.integers(1, 3_000))
def test_more_looks_never_shrink_an_e_process_radius(seed: int, p: float, cap: int, more: int) -> None:
    """The extended run looks where the shorter one did and further on, and keeps its largest bound."""
    short = protocol("e_process", num_estimation=cap)
    long = protocol("e_process", num_estimation=cap + more)
    looks_long = looks_of(long, [cap])
    path = np.random.default_rng(seed).random(cap + more) < p
    votes = np.cumsum(path)[np.array(looks_long) - 1]
    before = EProcessRule(short, NO_SLACK, RADII, looks_of(short))
    after = EProcessRule(long, NO_SLACK, RADII, looks_long)
    known = len(looks_of(short))
    assert looks_long[known - 1] == cap
    assert looks_long[:known] == looks_of(short)
    rows = [after.row(LABEL, SIGMA, LABEL, votes[: j + 1], "undecided") for j in range(len(votes))]
    assert [row.radius for row in rows] == sorted(row.radius for row in rows)
    old = before.row(LABEL, SIGMA, LABEL, votes[:known], "undecided")
    assert old == rows[known - 1]
    bounds = [e_process_lower(int(v), n, 1e-3) for v, n in zip(votes, looks_long, strict=True)]
    assert rows[-1].p_A_lower == max(bounds)
    assert rows[-1].radius == max(0.0, certified_radius(SIGMA, max(bounds)))


def test_e_process_takes_the_slack_off_every_bound() -> None:
    plain, moved = rule("e_process"), rule("e_process", slack=0.01)
    votes = np.array(shares(plain, 0.9))
    rows = [made.row(LABEL, SIGMA, LABEL, votes, "undecided") for made in (plain, moved)]
    assert rows[1].p_A_lower == pytest.approx(rows[0].p_A_lower - 0.01, abs=1e-12)
    assert rows[1].radius < rows[0].radius


def test_an_extension_never_takes_a_radius_back() -> None:
    """On random paths, for every growth of N: the run goes on at least as far, and certifies at least as much."""
    rng = np.random.default_rng(11)
    for _ in range(150):
        short, long = sorted(rng.integers(120, 3_000, 2).tolist())
        votes = rng.random(long + 1) < rng.uniform(0.4, 1)
        sequential = Sequential(growth=float(rng.choice([1.1, 2.0, 9.5])))
        rows = []
        for num_estimation, caps in ((short, ()), (long + 1, (short,))):
            protocol = CertifyProtocol(
                sigmas=(SIGMA,), rule="e_process", num_estimation=num_estimation, sequential=sequential
            )
            looks = looks_of(protocol, caps)
            rule = EProcessRule(protocol, {SIGMA: 0.0}, (0.0,), looks)
            votes_J = np.array([int(votes[:look].sum()) for look in looks])
            at, reason = rule.stop(SIGMA, votes_J)
            rows.append(rule.row(0, SIGMA, 0, votes_J[: at + 1], reason))
        assert (rows[1].radius, rows[1].n) >= (rows[0].radius, rows[0].n), (short, long, sequential.growth)

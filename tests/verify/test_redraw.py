"""Which rows are drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from raycp.verify.redraw import choose

SIGMAS = (0.25, 0.5, 1.0)
STRATA = {
    (sigma, phase): np.arange(100) + 100 * number
    for number, (sigma, phase) in enumerate((s, p) for s in SIGMAS for p in ("selection", "estimation"))
}


def strata_of(rows: list[int]) -> set[tuple[float, str]]:
    return {stratum for stratum, numbers in STRATA.items() if set(rows) & set(numbers.tolist())}


@pytest.mark.parametrize("seed", range(5))
def test_every_sigma_and_phase_occurs(seed: int) -> None:
    three = strata_of(choose(STRATA, SIGMAS, 3, seed))
    assert {sigma for sigma, _ in three} == set(SIGMAS)
    assert {phase for _, phase in three} == {"selection", "estimation"}
    assert strata_of(choose(STRATA, SIGMAS, 6, seed)) == set(STRATA)
    twenty = choose(STRATA, SIGMAS, 20, seed)
    assert len(set(twenty)) == 20
    assert all(len(set(twenty) & set(rows.tolist())) in (3, 4) for rows in STRATA.values())


def test_the_choice_follows_the_seed() -> None:
    assert choose(STRATA, SIGMAS, 20, 1) == choose(STRATA, SIGMAS, 20, 1) != choose(STRATA, SIGMAS, 20, 2)


def test_small_strata_leave_room_for_others_and_no_row_is_drawn_twice() -> None:
    strata = {**STRATA, (0.25, "selection"): np.array([7])}
    del strata[1.0, "selection"]
    assert sorted(choose(strata, SIGMAS, 1_000, 3)) == sorted(
        n for rows in strata.values() for n in rows.tolist()
    )
    assert choose({}, SIGMAS, 5, 0) == []

"""Paired comparisons: counts by hand, McNemar's exact test, coverage, and runs that cannot be compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from raycp.errors import ConfigError
from raycp.report.paired import compare, paired_text
from raycp.statistics import paired_difference


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 5), (0, 6), (3, 9), (10, 10), (40, 13), (1, 9)])
def test_the_interval_excludes_zero_where_mcnemars_exact_test_rejects(first: int, second: int) -> None:
    low, high = paired_difference(first, second, 200)
    assert low <= (second - first) / 200 <= high
    rejects = first + second > 0 and binomtest(second, first + second).pvalue < 0.05
    assert (low > 0 or high < 0) == rejects
    mirrored = paired_difference(second, first, 200)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_the_sign_is_wrong_no_more_often_than_stated() -> None:
    """Simulated: with no true difference, a verdict falls on either side in at most 2.5% of all cases."""
    generator = np.random.default_rng(0)
    counts = generator.multinomial(100, [0.1, 0.1, 0.8], size=20_000)
    pairs, repeats = np.unique(counts[:, :2], axis=0, return_counts=True)
    verdicts = [paired_difference(int(a), int(b), 100) for a, b in pairs]
    for wrong in ([low > 0 for low, _ in verdicts], [high < 0 for _, high in verdicts]):
        share = repeats[np.array(wrong)].sum() / 20_000
        assert 0.002 < share < 0.025 + 3 * np.sqrt(0.025 / 20_000)


def test_counts_by_hand(make_run: Callable) -> None:
    base = make_run([(0.5, i, 1, 1, r) for i, r in enumerate((0.3, 0.3, 0.1, 0.0))], name="base")
    run = make_run(
        [(0.5, 0, 1, 1, 0.3), (0.5, 1, 1, 2, 0.3), (0.5, 2, 1, 1, 0.25), (0.5, 3, 1, 1, 0.3)], name="run"
    )
    found = {c.eps: c for c in compare([base, run])}
    assert (found[0.0].only_base, found[0.0].only_run) == (1, 0)
    assert (found[0.25].only_base, found[0.25].only_run, found[0.25].images) == (1, 2, 4)
    assert found[0.25].difference == 0.25
    assert found[0.25].verdict == "undecided"
    text = paired_text(list(found.values()))
    assert "run - base  sigma 0.5  eps 0.25  +25.0 (" in text
    assert text.count("\n") == 1 + len(found)


def test_verdicts(make_run: Callable) -> None:
    one = make_run([(0.5, i, 1, 1, 0.3) for i in range(10)], name="one")
    other = make_run([(0.5, i, 1, 2, 0.3) for i in range(10)], name="other")
    assert {c.verdict for c in compare([one, other]) if c.eps <= 0.25} == {"lower"}
    assert {c.verdict for c in compare([other, one]) if c.eps <= 0.25} == {"higher"}
    assert {c.verdict for c in compare([other, one]) if c.eps > 0.25} == {"undecided"}


def test_joint_intervals_hold_together(make_run: Callable) -> None:
    """Each has its share of the error: six images of one sign, p = 1/32, decide alone, but not among several."""
    one = make_run([(0.5, i, 1, 1, 0.3) for i in range(6)], name="one")
    other = make_run([(0.5, i, 1, 2, 0.3) for i in range(6)], name="other")
    alone, together = compare([one, other]), compare([one, other], joint=True)
    assert [c.verdict for c in alone if c.eps <= 0.25] == ["lower", "lower"]
    assert {c.verdict for c in together} == {"undecided"}
    for c in together:
        assert (c.low, c.high) == paired_difference(c.only_base, c.only_run, 6, 1 - 0.05 / len(together))
    assert "each by itself" in paired_text(alone)
    assert f"for all {len(together)} together" in paired_text(together, joint=True)


def test_a_run_of_a_part_of_the_images_is_compared_on_these(make_run: Callable) -> None:
    base = make_run([(0.5, i, 1, 1, r) for i, r in enumerate((0.3, 0.3, 0.1, 0.3))], name="base")
    part = make_run([(0.5, 1, 1, 1, 0.1), (0.5, 3, 1, 1, 0.3)], name="part")
    for runs, counts in (([base, part], (1, 0)), ([part, base], (0, 1))):
        found = {c.eps: c for c in compare(runs)}
        assert (found[0.25].only_base, found[0.25].only_run, found[0.25].images) == (*counts, 2)


def test_other_images_are_refused(make_run: Callable) -> None:
    one = make_run([(0.5, i, 1, 1, 0.3) for i in range(3)], name="one")
    other = make_run([(0.5, i, 1, 1, 0.3) for i in range(1, 4)], name="other")
    with pytest.raises(
        ConfigError,
        match=r"runs/one and runs/other are not of the same images at sigma 0\.5 \(3 and 3, 2 in both\)",
    ):
        compare([one, other])
    relabelled = make_run([(0.5, i, 2, 2, 0.3) for i in range(3)], name="other")
    with pytest.raises(ConfigError, match="not of the same data: their labels differ"):
        compare([one, relabelled])


def test_a_run_that_has_not_ended_is_refused(make_run: Callable) -> None:
    """What is decided first is not a fair sample of the images."""
    ended = make_run([(0.5, i, 1, 1, 0.3) for i in range(3)], name="ended")
    early = make_run([(0.5, 0, 1, 1, 0.3)], name="early", num_images=3)
    for runs in ([ended, early], [early, ended]):
        with pytest.raises(ConfigError, match=r"runs/early has 2 undecided images at sigma 0\.5"):
            compare(runs)

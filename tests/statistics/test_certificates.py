"""Closed forms, golden values, exact coverage, and simulation of every certified number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from statsmodels.stats.proportion import proportion_confint

from raycp.statistics import (
    ABSTAIN,
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_lower_bound,
    certified_radius,
    certify,
    clopper_pearson_lower,
    clopper_pearson_upper,
    largest_certifiable_radius,
    predict,
    round_down,
)

# (k, n, alpha, p_A_lower, radius / sigma), computed with SciPy 1.17.1 and checked against the binomial tail.
GOLDEN = [
    (100_000, 100_000, 1e-3, 0.9999309248330094, 3.8114565633899),
    (99_000, 100_000, 1e-3, 0.9889893403774748, 2.2899999552137),
    (990, 1_000, 1e-3, 0.9760361871553114, 1.9780095821412),
    (50_500, 100_000, 1e-3, 0.500108951739588, 2.73e-4),
]


@pytest.mark.parametrize(("k", "n", "alpha", "p", "radius"), GOLDEN)
def test_golden_values(k: int, n: int, alpha: float, p: float, radius: float) -> None:
    lower = clopper_pearson_lower(k, n, alpha)
    assert lower == pytest.approx(p, abs=3e-12)
    assert lower <= p
    assert certified_radius(1.0, lower) == pytest.approx(radius, abs=2e-7)
    assert certified_radius(0.25, lower) == pytest.approx(radius / 4, abs=2e-7)


def test_just_below_one_half_abstains() -> None:
    assert clopper_pearson_lower(50_200, 100_000, 1e-3) == pytest.approx(0.497108947805790, abs=1e-11)
    counts = np.array([50_200, 49_800])
    certificate = certify(counts, counts, 0.5, 1e-3)
    assert (certificate.predicted, certificate.radius, certificate.selected) == (ABSTAIN, 0.0, 0)


@pytest.mark.parametrize("n", [1, 7, 100, 1_000, 100_000])
def test_bounds_at_the_ends(n: int) -> None:
    assert clopper_pearson_lower(0, n, 1e-3) == 0.0
    assert clopper_pearson_upper(n, n, 1e-3) == 1.0
    assert clopper_pearson_lower(n, n, 1e-3) == pytest.approx(1e-3 ** (1 / n), rel=2e-12)
    assert clopper_pearson_upper(0, n, 1e-3) == pytest.approx(1 - 1e-3 ** (1 / n), rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bounds_equal_statsmodels_and_scipy(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 100_000))
    k = data.draw(st.integers(0, n))
    alpha = data.draw(st.sampled_from([5e-4, 1e-3, 1e-2, 0.05, 0.2]))
    lower, upper = clopper_pearson_lower(k, n, alpha), clopper_pearson_upper(k, n, alpha)
    theirs = proportion_confint(k, n, alpha=2 * alpha, method="beta")
    assert (lower, upper) == pytest.approx(theirs, abs=1e-10)
    exact = binomtest(k, n).proportion_ci(1 - 2 * alpha, "exact")
    assert (lower, upper) == pytest.approx((exact.low, exact.high), abs=1e-10)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bounds_invert_the_binomial_tail_and_round_outwards(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 20_000))
    k = data.draw(st.integers(1, n))
    alpha = data.draw(st.floats(1e-5, 0.3))
    tail = binom.sf(k - 1, n, clopper_pearson_lower(k, n, alpha))
    assert tail <= alpha * (1 + 1e-12)
    assert tail == pytest.approx(alpha, rel=1e-6)
    upper = clopper_pearson_upper(n - k, n, alpha)
    assert binom.cdf(n - k, n, upper) == pytest.approx(alpha, rel=1e-5)


@pytest.mark.parametrize(("n", "alpha"), [(10, 0.1), (50, 0.05), (300, 1e-3)])
def test_coverage_summed_exactly(n: int, alpha: float) -> None:
    """No sampling: the probability that the bound exceeds p, summed over all outcomes, for a fine grid of p."""
    k = np.arange(n + 1)
    lower = np.array([clopper_pearson_lower(int(i), n, alpha) for i in k])
    upper = np.array([clopper_pearson_upper(int(i), n, alpha) for i in k])
    misses = []
    for p in np.linspace(0.001, 0.999, 1999):
        pmf = binom.pmf(k, n, p)
        misses.append((pmf[lower > p].sum(), pmf[upper < p].sum()))
    assert np.max(misses) <= alpha + 1e-12
    assert np.max(misses) >= 0.9 * alpha  # not merely conservative


@pytest.mark.parametrize(
    ("n_A", "n_B", "one_sided", "two_class"),
    [
        (95_000, 4_000, 1.624, 1.675),
        (70_000, 20_000, 0.512, 0.669),
        (55_000, 20_000, 0.113, 0.470),
        (45_000, 20_000, None, 0.344),
    ],
)
def test_two_class_bound(n_A: int, n_B: int, one_sided: float | None, two_class: float) -> None:
    rest = 100_000 - n_A - n_B
    counts = np.array([rest // 2, n_A, n_B, rest - rest // 2])
    plain = certify(counts, counts, 1.0, 1e-3)
    assert (None if plain.predicted == ABSTAIN else pytest.approx(plain.radius, abs=5e-4)) == one_sided
    both = certify(counts, counts, 1.0, 1e-3, "two_class")
    assert both.predicted == 1
    assert both.radius == pytest.approx(two_class, abs=1e-3)


def test_two_class_misses_at_most_alpha() -> None:
    """With p = (.5, .3, .2), N=200, alpha=.05: 20,000 runs; 1,000 allowed, sd < 31, 5 sd on top: odds below 1e-6."""
    rng = np.random.default_rng(0)
    truth = certified_radius(1.0, 0.5, 0.3)
    counts = rng.multinomial(200, [0.5, 0.3, 0.2], size=20_000)
    selection = np.array([1, 0, 0])
    too_far = sum(certify(selection, row, 1.0, 0.05, "two_class").radius > truth for row in counts)
    assert too_far <= 0.05 * 20_000 + 5 * 31


def test_selection_decides_the_class_not_estimation() -> None:
    certificate = certify(np.array([6, 4]), np.array([100, 900]), 1.0, 1e-3)
    assert (certificate.selected, certificate.predicted, certificate.n_A) == (0, ABSTAIN, 100)


def test_slack_lowers_p_A_and_raises_p_B() -> None:
    counts = np.array([990, 10])
    plain, slackened = (certify(counts, counts, 1.0, 1e-3, "two_class", slack) for slack in (0.0, 1e-3))
    assert slackened.p_A_lower == pytest.approx(plain.p_A_lower - 1e-3)
    assert slackened.p_B_upper == pytest.approx(plain.p_B_upper + 1e-3)
    assert slackened.radius < plain.radius


@pytest.mark.parametrize("bound", ["one_sided", "two_class"])
def test_a_linear_classifier_is_not_certified_beyond_its_margin(bound: str) -> None:
    """Margin m, so p_A = Phi(m / sigma) exactly: a radius above m is a false certificate.

    60,000 simulated certificates at alpha = 0.01: at most 600 expected; 5 standard deviations (122) on top give odds
    below 3e-7 of a false alarm. For the one-sided bound the exact rate is close to alpha, so the test has power.
    """
    rng = np.random.default_rng(1)
    sigma, n, alpha, runs = 0.5, 400, 0.01, 20_000
    for margin in (0.1, 0.4, 0.8):
        n_A = rng.binomial(n, norm.cdf(margin / sigma), size=runs)
        values, times = np.unique(n_A, return_counts=True)
        selection = np.array([1, 0])
        radii = [certify(selection, np.array([k, n - k]), sigma, alpha, bound).radius for k in values]  # type: ignore[arg-type]
        false = times[np.array(radii) > margin].sum()
        assert false <= alpha * runs + 5 * np.sqrt(alpha * runs)
        if bound == "one_sided":
            assert false >= 0.3 * alpha * runs


@pytest.mark.parametrize("n", [10, 100, 1_000, 100_000])
def test_largest_certifiable_radius(n: int) -> None:
    expected = norm.ppf(1e-3 ** (1 / n))
    largest = largest_certifiable_radius(0.5, n, 1e-3)
    if expected < 0:
        assert largest == -np.inf
    else:
        assert largest == pytest.approx(0.5 * expected, rel=1e-8)
        assert largest <= 0.5 * expected


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, 2_000), st.sampled_from([1e-3, 0.05]))
def test_predict_is_the_binomial_test(a: int, b: int, c: int, alpha: float) -> None:
    counts = np.array([a, b, c])
    top, second = np.sort(counts)[::-1][:2]
    if top == 0:
        return
    p_value = binomtest(int(top), int(top + second), 0.5).pvalue
    if abs(p_value - alpha) < 1e-9:
        return
    assert predict(counts, alpha) == (int(np.argmax(counts)) if p_value <= alpha else ABSTAIN)


def test_predict_abstains_on_a_tie() -> None:
    assert predict(np.array([5_000, 5_000]), 0.05) == ABSTAIN


def test_accuracy_counts_only_correct_images_and_includes_the_radius_itself() -> None:
    radius = np.array([0.5, 0.5, 0.49, 2.0, 0.0])
    correct = np.array([True, False, True, True, False])
    assert certified_accuracy(radius, correct, 0.5) == pytest.approx(2 / 5)
    assert certified_accuracy(radius, correct, 0.0) == pytest.approx(3 / 5)
    assert average_certified_radius(radius, correct) == pytest.approx((0.5 + 0.49 + 2.0) / 5)


def test_accuracy_lower_bound_covers() -> None:
    """500 certificates, each false with probability alpha: the exact chance of more false ones than taken off."""
    for alpha in (1e-3, 1e-2):
        taken_off = round((0.6 - certified_accuracy_lower_bound(0.6, 500, alpha, rho=1e-3)) * 500)
        assert binom.sf(taken_off, 500, alpha) <= 1e-3 < binom.sf(taken_off - 1, 500, alpha)
    assert certified_accuracy_lower_bound(0.0, 500, 1e-3) == 0.0


@given(st.floats(0, 10))
def test_round_down_never_exceeds(value: float) -> None:
    shown = float(round_down(value, 3))
    assert shown <= value < shown + 0.001 + 1e-12


def test_round_down_of_a_published_mistake() -> None:
    assert round_down(0.93151, 3) == "0.931"


@pytest.mark.parametrize(
    ("k", "n", "alpha"), [(1, 0, 0.1), (-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)]
)
def test_arguments_out_of_range(k: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"{k if alpha == 0.1 else alpha}"):
        clopper_pearson_lower(k, n, alpha)

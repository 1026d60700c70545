"""The e-process: its mean, its error over time, and its integral done numerically."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from raycp.statistics import clopper_pearson_lower
from raycp.statistics.e_process import e_process_lower, log_e_process

PRECISION = 3e-11
"""Of the bound, in p_A."""


def log_mixture(h: int, t: int, p0: float) -> mpmath.mpf:
    """Log W by quadrature in 40 digits: no cut at h <= p0 t, no margin.

    q = sin^2(v) turns the Beta(1/2, 1/2) density into a constant, and 1 / (2 sqrt(t)) into the width of the peak.
    """
    with mpmath.workdps(40):
        p = mpmath.mpf(p0)
        start, stop = mpmath.asin(mpmath.sqrt(p)), mpmath.pi / 2
        peak = max(start, mpmath.asin(mpmath.sqrt(mpmath.mpf(h) / t)))
        width = 1 / (2 * mpmath.sqrt(t))
        cuts = {min(stop, max(start, peak + i * width)) for i in (-24, -12, -6, -3, -1, 0, 1, 3, 6, 12, 24)}

        def log_ratio(v: mpmath.mpf) -> mpmath.mpf:
            wins = h * mpmath.log(mpmath.sin(v) ** 2 / p) if h else mpmath.mpf(0)
            losses = (t - h) * mpmath.log(mpmath.cos(v) ** 2 / (1 - p)) if h < t else mpmath.mpf(0)
            return wins + losses

        highest = log_ratio(peak)
        mass = mpmath.quad(lambda v: mpmath.exp(log_ratio(v) - highest), sorted(cuts))
        return highest + mpmath.log(mass / (stop - start))


@pytest.mark.parametrize("t", [1, 3, 80, 7_069, 300_000, 30_000_000])
@pytest.mark.parametrize("p0", [0.5, 0.8413447460685429, 0.9999])
@pytest.mark.parametrize("deviations", [0.0, 2.0, 6.0])
def test_equals_the_integral_of_likelihood_ratios_and_is_never_above_it(
    t: int, p0: float, deviations: float
) -> None:
    h = min(t, math.floor(t * p0 + deviations * math.sqrt(t * p0 * (1 - p0))) + 1)
    value, exact = log_e_process(h, t, p0), float(log_mixture(h, t, p0))
    assert value <= exact
    assert value == pytest.approx(exact, abs=3e-9 * max(1.0, t / 1e5))


def test_no_evidence_is_minus_infinity() -> None:
    assert log_e_process(50, 100, 0.5) == -math.inf
    assert log_e_process(0, 100, 0.5) == -math.inf
    assert math.isfinite(log_e_process(51, 100, 0.5))


@pytest.mark.parametrize("t", [1, 2, 10, 137, 1_000])
@pytest.mark.parametrize("p0", [0.5, 0.8413447460685429, 0.99])
def test_mean_is_at_most_one(t: int, p0: float) -> None:
    """E W_t under Bin(t, p), summed over all outcomes, for p = p0 and below."""
    h = np.arange(t + 1)
    w = np.exp([log_e_process(int(k), t, p0) for k in h])
    means = [float(binom.pmf(h, t, p) @ w) for p in (p0, p0 - 0.01, p0 / 2)]
    assert max(means) <= 1.0
    assert means[0] >= means[1] >= means[2]
    if t >= 10 and p0 < 0.9:
        assert means[0] > 0.3  # the cut at h <= p0 t gives some of the mean away, not most of it


@pytest.mark.parametrize("t", [1, 5, 40])
def test_the_uncut_mixture_has_mean_one(t: int) -> None:
    """Sum over all outcomes in 40 digits: what the cut leaves out is all that is missing from 1."""
    p0 = 0.7
    with mpmath.workdps(40):
        p = mpmath.mpf(p0)
        terms = [
            mpmath.binomial(t, h) * p**h * (1 - p) ** (t - h) * mpmath.exp(log_mixture(h, t, p0))
            for h in range(t + 1)
        ]
        assert abs(mpmath.fsum(terms) - 1) < mpmath.mpf(10) ** -30
        kept = mpmath.fsum(term for h, term in enumerate(terms) if h > p0 * t)
    ours = sum(float(binom.pmf(h, t, p0)) * math.exp(log_e_process(h, t, p0)) for h in range(t + 1))
    assert ours == pytest.approx(float(kept), rel=1e-8)


@pytest.mark.parametrize(
    ("p0", "alpha"), [(0.5, 1e-3), (0.5, 0.05), (0.8413447460685429, 1e-3), (0.99, 0.01)]
)
def test_error_over_time_is_at_most_alpha(p0: float, alpha: float) -> None:
    """The chance that the bound ever exceeds p_A = p0 in 20,000 looks, one after every sample, exactly."""
    needed, last = -math.log(alpha), 20_000
    mass, lowest, u, crossed = np.ones(1), 0, 1, 0.0
    for t in range(1, last + 1):
        mass = np.convolve(mass, [1 - p0, p0])
        while u <= t and log_e_process(u, t, p0) < needed:
            u += 1
        cut = max(u - lowest, 0)
        crossed += float(mass[cut:].sum())
        mass = mass[:cut]
        if mass[0] < 1e-30:
            mass, lowest = mass[1:], lowest + 1
    assert crossed <= alpha
    assert crossed >= 0.05 * alpha  # alpha is spent over all time: some of it is spent here
    assert mass.sum() + crossed == pytest.approx(1.0, abs=1e-10)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100_000), st.floats(0.0, 1.0), st.sampled_from([1e-6, 1e-3, 0.05]))
def test_lower_bound_is_rejected_and_the_next_value_is_not(t: int, share: float, alpha: float) -> None:
    h = round(share * t)
    lower = e_process_lower(h, t, alpha)
    assert 0.0 <= lower < max(h / t, 1e-300)
    if lower > 0.0:
        assert log_e_process(h, t, lower) >= -math.log(alpha)
        assert log_e_process(h, t, lower + PRECISION) < -math.log(alpha)
    assert lower <= clopper_pearson_lower(h, t, alpha)  # holding at all times costs something at each


def test_lower_bound_is_zero_without_votes_and_nearly_alpha_of_one_sample() -> None:
    assert e_process_lower(0, 1, 1e-3) == 0.0
    assert e_process_lower(0, 100_000, 0.05) == 0.0
    assert 0.0 < e_process_lower(1, 1, 0.05) < 0.05


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 50_000), st.floats(0.0, 1.0), st.sampled_from([1e-4, 1e-3, 0.05]))
def test_lower_bound_is_monotone(t: int, share: float, alpha: float) -> None:
    """More votes, or fewer samples without a vote, or more alpha: never a smaller bound."""
    h = min(t - 1, int(share * t))
    lower = e_process_lower(h, t, alpha)
    assert e_process_lower(h + 1, t, alpha) >= lower - PRECISION
    assert e_process_lower(h, t + 1, alpha) <= lower + PRECISION
    assert e_process_lower(h, t, 2 * alpha) >= lower - PRECISION


@pytest.mark.parametrize(
    ("h", "t"), [(1, 1), (3, 4), (1, 300), (60, 100), (5_000, 9_000), (999, 1_000), (2_000, 2_000)]
)
def test_rejected_values_form_an_interval_from_zero(h: int, t: int) -> None:
    """W does not rise with p0 where it exceeds 1.28, so that a search for the edge finds the largest rejected value."""
    p0 = np.concatenate([np.geomspace(1e-6, 0.3, 400), np.linspace(0.3, 1.0, 2_000)[1:-1]])
    w = np.array([max(log_e_process(h, t, float(p)), -1e9) for p in p0])
    above = w > math.log(1.28)
    assert (np.diff(w)[above[1:]] <= 1e-9).all()
    assert above[: above.sum()].all()

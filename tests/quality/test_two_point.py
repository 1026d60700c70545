"""Transport in closed form: Example 3.1 of Li et al., and Gaussian data, where the order turns."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from raycp.quality.two_point import consistency_distance, posterior_mean_distance

LEVELS = (0.05, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 20.0)


@pytest.mark.parametrize("t", LEVELS)
def test_quadrature_against_a_plain_one(t: float) -> None:
    def noisy(power: int) -> float:
        integrand = lambda x: abs(1 - math.tanh(x / t**2)) ** power * norm.pdf(x, 1, t)  # noqa: E731
        edges = np.linspace(1 - 10 * t, 1 + 10 * t, 41)
        return float(sum(quad(integrand, a, b)[0] for a, b in pairwise(edges)))

    for power in (1, 2):
        assert posterior_mean_distance(t, power) == pytest.approx(noisy(power), rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
def test_against_monte_carlo(t: float) -> None:
    """A million draws: five standard errors, false alarm once in two million."""
    rng = np.random.default_rng(0)
    x0 = rng.choice([-1.0, 1.0], 1_000_000)
    x = x0 + t * rng.normal(size=x0.size)
    for power in (1, 2):
        for distance, purified in (
            (consistency_distance, np.sign(x)),
            (posterior_mean_distance, np.tanh(x / t**2)),
        ):
            sample = np.abs(x0 - purified) ** power
            assert abs(sample.mean() - distance(t, power)) < 5 * sample.std() / 1000


@pytest.mark.parametrize("t", LEVELS)
def test_the_order(t: float) -> None:
    """The sign moves less in distance, tanh less in squared distance, and the latter two figures of tanh are equal."""
    consistency, posterior_mean = consistency_distance(t), posterior_mean_distance(t)
    assert consistency < posterior_mean < 1.001 * math.pi / 2 * consistency
    assert posterior_mean == pytest.approx(posterior_mean_distance(t, 2), rel=1e-9)
    assert consistency_distance(t, 2) == pytest.approx(2 * consistency)
    assert posterior_mean_distance(t, 2) < consistency_distance(t, 2)


def test_on_gaussian_data_the_order_is_the_other_one() -> None:
    """A shrinkage a x of data N(0, s^2) has the error N(0, (1 - a)^2 s^2 + a^2 t^2), of mean size sqrt(2/pi) its sd."""
    s = 0.5
    for t in (0.1, 0.5, 1.0, 2.0):

        def mean_size(a: float, t: float = t) -> float:
            return math.sqrt(2 / math.pi) * math.hypot((1 - a) * s, a * t)

        posterior_mean, consistency = s**2 / (s**2 + t**2), s / math.hypot(s, t)
        assert mean_size(posterior_mean) < mean_size(consistency)
        rng = np.random.default_rng(0)
        x0 = s * rng.normal(size=400_000)
        x = x0 + t * rng.normal(size=x0.size)
        for a in (posterior_mean, consistency):
            sample = np.abs(x0 - a * x)
            assert abs(sample.mean() - mean_size(a)) < 5 * sample.std() / math.sqrt(x0.size)

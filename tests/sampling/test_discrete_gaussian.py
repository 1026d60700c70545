"""The integer Gaussian: thresholds recomputed with 60 digits, the lookup at every edge, the law, and its slack."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import sqrt

import mpmath
import numpy as np
import pytest
from scipy.stats import chi2, norm

from raycp.errors import ConfigError
from raycp.sampling.discrete_gaussian import DiscreteGaussian, discrete_gaussian

SIGMAS = [0.00075, 0.004, 0.12, 0.25, 0.5, 1.0]


def exact_cdf(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


@pytest.mark.parametrize("sigma", SIGMAS)
def test_thresholds_with_60_digits(sigma: float) -> None:
    gaussian = discrete_gaussian(sigma)
    K = gaussian.largest
    assert int(9 * 255 * sigma) == K
    assert gaussian.thresholds.dtype == np.uint64
    assert gaussian.thresholds.shape == (2 * K,)
    with mpmath.workdps(60):
        expected = [
            int(mpmath.nint(2**64 * exact_cdf((2 * v + 1) / (510 * mpmath.mpf(sigma))))) for v in range(-K, K)
        ]
    assert gaussian.thresholds.tolist() == expected


@pytest.mark.parametrize("sigma", SIGMAS)
def test_probabilities_are_those_of_a_rounded_gaussian(sigma: float) -> None:
    """In float64, from the formula of the module's docstring: a wrong centre, scale or factor 2 is far outside."""
    gaussian = discrete_gaussian(sigma)
    v = np.arange(-gaussian.largest, gaussian.largest + 1)
    edges = [0, *gaussian.thresholds.tolist(), 2**64]
    drawn = np.array([(b - a) / 2**64 for a, b in pairwise(edges)])
    exact = norm.cdf((2 * v + 1) / (510 * sigma)) - norm.cdf((2 * v - 1) / (510 * sigma))
    assert drawn == pytest.approx(exact, abs=5e-15)  # beyond K: on K
    assert drawn.sum() == pytest.approx(1, abs=1e-14)
    # Rounding to the grid adds the variance of a uniform of width 1/255 where sigma is not small against it.
    std = sqrt((drawn * v**2).sum()) / 255
    assert drawn @ v == pytest.approx(0, abs=1e-12)
    if sigma > 0.05:
        assert std == pytest.approx(sqrt(sigma**2 + 1 / (12 * 255**2)), rel=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_thresholds_are_symmetric(sigma: float) -> None:
    thresholds = discrete_gaussian(sigma).thresholds.tolist()
    assert all(a + b == 2**64 for a, b in zip(thresholds, reversed(thresholds), strict=True))
    assert thresholds == sorted(thresholds)


@pytest.mark.parametrize("sigma", [*SIGMAS, 3.7])
def test_lookup_at_every_edge(sigma: float) -> None:
    gaussian = discrete_gaussian(sigma)
    thresholds = gaussian.thresholds.tolist()
    tops = [top << 48 for top in range(0, 2**16, 7)] + [0xFFFF << 48]
    words = [0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
    words += [threshold + d for threshold in thresholds for d in (-1, 0, 1)]
    words += [top + d for top in tops for d in (-1, 0, 1, 2**48 - 1) if top + d >= 0]
    words += np.random.default_rng(3).integers(0, 2**64, 20_000, dtype=np.uint64).tolist()
    values = gaussian(np.array(words, dtype=np.uint64))
    assert values.dtype == np.int16
    assert values.tolist() == [bisect_right(thresholds, word) - gaussian.largest for word in words]
    mirrored = gaussian(np.array([2**64 - 1 - word for word in words], dtype=np.uint64))
    assert (mirrored == -values).all()
    assert values.min() == -gaussian.largest
    assert values.max() == gaussian.largest


def test_lookup_keeps_the_shape_and_the_words() -> None:
    gaussian = discrete_gaussian(0.25)
    words = np.random.default_rng(0).integers(0, 2**64, (7, 33), dtype=np.uint64)
    before = words.copy()
    values = gaussian(words)
    assert values.shape == (7, 33)
    assert (words == before).all()
    assert (gaussian(words.reshape(-1)) == values.reshape(-1)).all()
    assert (gaussian(words.T) == values.T).all()  # not contiguous
    assert (gaussian(words[:, ::2]) == values[:, ::2]).all()


@pytest.mark.parametrize("sigma", [0.004, 0.02, 0.25])
def test_drawn_values_follow_the_law(sigma: float) -> None:
    """Chi-square over values expected at least 50 times, tails pooled. False alarm: 1e-6 per sigma over the seed."""
    gaussian = discrete_gaussian(sigma)
    n = 400_000
    values = gaussian(np.random.Philox(key=20).random_raw(n))
    v = np.arange(-gaussian.largest, gaussian.largest + 1)
    expected = n * (norm.cdf((v + 0.5) / (255 * sigma)) - norm.cdf((v - 0.5) / (255 * sigma)))
    observed = np.bincount(values.astype(np.int64) + gaussian.largest, minlength=len(v))
    often = expected >= 50
    tail_expected, tail_observed = n - expected[often].sum(), n - observed[often].sum()
    statistic = ((observed[often] - expected[often]) ** 2 / expected[often]).sum()
    statistic += (tail_observed - tail_expected) ** 2 / tail_expected
    assert chi2.sf(statistic, often.sum()) > 1e-6
    # Mean and variance, five standard errors each: false alarm 1.2e-6.
    variance = sigma**2 * 255**2 + 1 / 12
    assert abs(values.mean()) < 5 * sqrt(variance / n)
    assert abs(values.astype(np.float64).var() / variance - 1) < 5 * sqrt(2 / n)


@pytest.mark.parametrize("sigma", [0.0005, 0.00075, 0.004, 0.02])
def test_slack_bounds_the_exact_distance(sigma: float) -> None:
    """Total variation of one value, exactly, with 60 digits: never above the slack, which wastes little."""
    gaussian = discrete_gaussian(sigma)
    K = gaussian.largest
    edges = [0, *gaussian.thresholds.tolist(), 2**64]
    with mpmath.workdps(60):
        cdf = [exact_cdf((2 * v + 1) / (510 * mpmath.mpf(sigma))) for v in range(-K - 1, K + 1)]
        inside = sum(
            abs(mpmath.mpf(edges[j + 1] - edges[j]) / 2**64 - (cdf[j + 1] - cdf[j])) for j in range(2 * K + 1)
        )
        outside = cdf[0] + (1 - cdf[-1])
        distance = (inside + outside) / 2
        assert distance < gaussian.slack(1) < 20 * distance
    assert gaussian.slack(3072) == pytest.approx(3072 * gaussian.slack(1), rel=1e-12)


def test_slack_is_negligible_for_real_images() -> None:
    assert discrete_gaussian(0.25).slack(3 * 32 * 32) < 2e-13
    assert discrete_gaussian(1.0).slack(3 * 224 * 224) < 1e-10


@pytest.mark.parametrize("sigma", [1e-9, 4.3e-4, 14.2, 1e6])
def test_sigma_out_of_range(sigma: float) -> None:
    with pytest.raises(ConfigError) as caught:
        DiscreteGaussian(sigma)
    assert str(caught.value) == (
        f"certify.sigmas: sound noise needs a sigma between 0.00044 and 14.1, got {sigma}."
    )


def test_the_limits_of_the_message_are_allowed() -> None:
    assert DiscreteGaussian(0.00044).largest == 1
    largest = DiscreteGaussian(14.1)
    extremes = largest(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert extremes.tolist() == [-32_359, 32_359]
    # What the noisy image is made of: int16 plus a pixel must not wrap around.
    assert (extremes + np.array([255, 255], dtype=np.int16)).tolist() == [-32_104, 32_614]

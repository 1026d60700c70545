"""The certificate of a composition, on half-spaces whose exact radius is known, and the cases one by one.

In two orthogonal directions u and w of the image: the selector chooses the certified classifier where u > 0, the
certified classifier says 1 where w > 0. At the point (u, w) a noisy copy does so with probabilities Phi(u/sigma) and
Phi(w/sigma), independently; the smoothed ones are the same half-spaces. The core says 0 or 1 within `core_radius` of
the point, and 2 beyond.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from scipy.stats import binom, binomtest, entropy, norm

from raycp.statistics import ABSTAIN, certify, clopper_pearson_lower
from raycp.statistics.composition import (
    CERTIFIED,
    CORE,
    CompositeCertificate,
    certify_composition,
    normalised_entropy,
    predict_composition,
)

SIGMA, ALPHA, N = 0.5, 0.1, 200
RUNS = 20_000
FALSE_ALARM = 1e-4
"""Of each simulated check; its seed is fixed."""
Ints = npt.NDArray[np.int64]

# (u, w, class of the core, radius of the core)
POINTS = [
    (0.1, 0.9, 0, 0.0),  # the selector's radius is the smaller one
    (0.9, 0.1, 0, 0.0),  # the certified classifier's is
    (0.2, 0.2, 0, 0.0),
    (-0.02, 0.6, 0, 0.0),  # the core is chosen, just so
    (0.02, -0.02, 0, 0.3),
    (0.1, 0.4, 1, 0.25),  # they agree, the core knows its radius
    (-0.1, 0.3, 1, 0.5),
    (0.0, 0.2, 1, 0.0),
]


def exact_radius(u: float, w: float, core_class: int, core_radius: float, of: int) -> float:
    """Distance to the nearest point where F is not `of`; -inf if that is the point itself. By a fine polar search."""
    angle = np.linspace(0, 2 * np.pi, 721)
    distance = np.linspace(0, 2, 2001)[
        :, None
    ]  # a multiple of it, the radii of the points are found or overstepped
    a, b = u + distance * np.cos(angle), w + distance * np.sin(angle)
    core = np.where(distance <= core_radius, core_class, 2)
    other = np.where(a > 0, (b > 0).astype(int), core) != of
    if other[0].any():
        return -math.inf
    return float(distance[other.any(axis=1)][0, 0]) if other.any() else math.inf


def counts(rng: np.random.Generator, u: float, w: float, n: int, runs: int) -> Ints:
    """[runs, 2, 3]: samples by choice and class."""
    s, g = norm.cdf(u / SIGMA), norm.cdf(w / SIGMA)
    cells = [(1 - s) * (1 - g), (1 - s) * g, 0, s * (1 - g), s * g, 0]
    return rng.multinomial(n, cells, runs).reshape(runs, 2, 3)


def certificates(point: tuple[float, float, int, float]) -> tuple[list[CompositeCertificate], Ints]:
    """Of all different counts that occurred, and how often each did."""
    u, w, core_class, core_radius = point
    rng = np.random.default_rng(7)
    both = np.concatenate([counts(rng, u, w, 20, RUNS), counts(rng, u, w, N, RUNS)], axis=1)
    different, times = np.unique(both, axis=0, return_counts=True)
    made = [certify_composition(c[:2], c[2:], core_class, SIGMA, ALPHA, core_radius) for c in different]
    return made, times


def false_ones(point: tuple[float, float, int, float]) -> int:
    exact = [exact_radius(*point, of=of) for of in (0, 1)]
    return sum(
        int(n)
        for c, n in zip(*certificates(point), strict=True)
        if c.predicted != ABSTAIN and c.radius > exact[c.predicted]
    )


@pytest.mark.parametrize("point", POINTS)
def test_false_certificates_are_no_more_than_alpha(point: tuple[float, float, int, float]) -> None:
    assert binomtest(false_ones(point), RUNS, ALPHA, alternative="greater").pvalue > FALSE_ALARM


def test_the_bound_is_used() -> None:
    """One certificate at its worst errs as often as Clopper-Pearson at alpha/2 does: the test has teeth."""
    p = norm.cdf(0.1 / SIGMA)
    k = next(k for k in range(N + 1) if clopper_pearson_lower(k, N, ALPHA / 2) > p)
    # Of those runs, the few in which the selection chose otherwise certify nothing.
    chosen = binom.sf(10, 20, p)
    expected = chosen * binom.sf(k - 1, N, p)
    assert expected > 0.02
    assert binomtest(false_ones(POINTS[0]), RUNS, expected).pvalue > FALSE_ALARM


def test_the_harness_catches_a_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger of the two radii instead of the smaller one."""
    monkeypatch.setattr("raycp.statistics.composition.min", max, raising=False)
    assert binomtest(false_ones(POINTS[0]), RUNS, ALPHA, alternative="greater").pvalue < FALSE_ALARM


@pytest.mark.parametrize("point", POINTS)
def test_false_predictions_are_no_more_than_alpha(point: tuple[float, float, int, float]) -> None:
    u, w, core_class, _ = point
    true = int(w > 0) if u > 0 else core_class
    different, times = np.unique(counts(np.random.default_rng(3), u, w, N, RUNS), axis=0, return_counts=True)
    answers = [predict_composition(c, core_class, ALPHA) for c in different]
    wrong = sum(int(n) for a, n in zip(answers, times, strict=True) if a not in (ABSTAIN, true))
    assert binomtest(wrong, RUNS, ALPHA, alternative="greater").pvalue > FALSE_ALARM
    assert sum(int(n) for a, n in zip(answers, times, strict=True) if a == true) > 0


def of(core: list[int], certified: list[int]) -> Ints:
    return np.array([core, certified])


def radius_of(n_A: int, n: int) -> float:
    selected = np.array([n_A, n - n_A])
    return certify(selected, selected, SIGMA, ALPHA / 2).radius


@pytest.mark.parametrize(
    ("estimation", "core_class", "core_radius", "predicted", "radius"),
    [
        # selector sure of G (95/100), G of class 1 (90/100): the smaller radius
        (of([0, 5, 0], [10, 85, 0]), 2, 0.0, 1, radius_of(90, 100)),
        (of([0, 10, 0], [5, 85, 0]), 2, 0.0, 1, radius_of(90, 100)),
        # a core that says so too, and is known for 0.4 or for 3
        (of([0, 40, 0], [0, 60, 0]), 1, 0.4, 1, 0.4),
        (of([0, 40, 0], [5, 55, 0]), 1, 3.0, 1, radius_of(95, 100)),
        # selector sure of the core: its answer, for as far as it is known
        (of([90, 0, 0], [0, 10, 0]), 2, 0.0, 2, 0.0),
        (of([90, 0, 0], [0, 10, 0]), 2, 0.1, 2, 0.1),
        (of([90, 0, 0], [0, 10, 0]), 2, 9.0, 2, radius_of(90, 100)),
        # selector unsure: only where both say the same
        (of([0, 50, 0], [0, 50, 0]), 1, 0.0, 1, 0.0),
        (of([0, 50, 0], [0, 50, 0]), 2, 5.0, ABSTAIN, 0.0),
        # selector sure of G, which is not sure
        (of([0, 0, 0], [50, 50, 0]), 1, 0.3, ABSTAIN, 0.0),
    ],
)
def test_cases(estimation: Ints, core_class: int, core_radius: float, predicted: int, radius: float) -> None:
    found = certify_composition(estimation, estimation, core_class, SIGMA, ALPHA, core_radius)
    assert (found.predicted, found.radius) == (predicted, pytest.approx(radius, rel=1e-12))


def test_each_part_has_half_of_alpha() -> None:
    """With all votes for one, the lower bound is (alpha/2)^(1/n)."""
    found = certify_composition(of([0, 0], [0, 10]), of([0, 0], [0, 100]), 0, SIGMA, 0.001)
    bound = 0.0005 ** (1 / 100)
    assert found.selector.p_A_lower == pytest.approx(bound, rel=1e-11)
    assert found.certified.p_A_lower == pytest.approx(bound, rel=1e-11)
    assert (found.selector.predicted, found.certified.predicted) == (CERTIFIED, 1)
    assert found.radius == pytest.approx(SIGMA * norm.ppf(bound), rel=1e-9)
    other = certify_composition(of([0, 10], [0, 0]), of([0, 100], [0, 0]), 0, SIGMA, 0.001)
    assert (other.selector.predicted, other.predicted, other.radius) == (CORE, 0, 0.0)


@pytest.mark.parametrize(
    ("counts_2K", "core_class", "expected"),
    [
        (of([0, 5], [0, 95]), 0, 1),
        (of([0, 95], [0, 5]), 0, 0),
        (of([0, 50], [0, 50]), 1, 1),
        (of([0, 50], [0, 50]), 0, ABSTAIN),
        (of([25, 25], [25, 25]), 1, ABSTAIN),
        (of([0, 0], [50, 50]), 1, ABSTAIN),
    ],
)
def test_predictions(counts_2K: Ints, core_class: int, expected: int) -> None:
    assert predict_composition(counts_2K, core_class, ALPHA) == expected


def test_entropy_is_that_of_scipy() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (50, 10)).astype(np.float32)
    expected = [entropy(softmax(row.astype(np.float64)), base=10) for row in logits]
    np.testing.assert_allclose(normalised_entropy(logits), expected, rtol=1e-12)
    assert normalised_entropy(np.zeros((1, 7)))[0] == pytest.approx(1)
    assert normalised_entropy(np.array([[1e4, 0.0]]))[0] == 0


@pytest.mark.parametrize(
    ("counts_2K", "core_class", "core_radius", "message"),
    [
        (np.zeros((3, 2), np.int64), 0, 0.0, r"\[2, K\] with K >= 2, got \[3, 2\]"),
        (np.zeros(4, np.int64), 0, 0.0, r"got \[4\]"),
        (of([0, 1], [2, 3]), 2, 0.0, "core_class must be one of 2 classes, got 2"),
        (of([0, 1], [2, 3]), -1, 0.0, "core_class"),
        (of([0, 1], [2, 3]), 0, -0.1, "core_radius must be at least 0"),
        (of([0, 1], [2, 3]), 0, math.nan, "core_radius must be at least 0"),
        (of([0, 0], [0, 0]), 0, 0.0, "n >= 1"),
    ],
)
def test_bad_arguments(counts_2K: Ints, core_class: int, core_radius: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify_composition(counts_2K, counts_2K, core_class, SIGMA, ALPHA, core_radius)

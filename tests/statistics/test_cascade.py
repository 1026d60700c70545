"""The cascade over noise levels: against exact radii, and against its failure probability."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from raycp.statistics import ABSTAIN, Stage, certify, certify_cascade

ALPHA = 0.05


def probabilities(x: float, sigma: float, half: float) -> np.ndarray:
    """Of three classes of a number: 0 within `half` of the origin, 1 above, 2 below."""
    above, below = norm.sf(half, x, sigma), norm.cdf(-half, x, sigma)
    return np.array([1 - above - below, above, below])


def answer(x: float, sigmas: list[float], half: float) -> int:
    """The cascade's own answer, written down from its definition."""
    for sigma in sigmas:
        p = probabilities(x, sigma, half)
        if p.max() > 0.5:
            return int(p.argmax())
    return ABSTAIN


def exact_radius(x: float, sigmas: list[float], half: float) -> float:
    """Distance to the nearest point with another answer, by a fine walk and bisection; both directions."""
    here, steps = answer(x, sigmas, half), np.linspace(0, 6, 6001)
    distances = []
    for sign in (1, -1):
        other = next((d for d in steps if answer(x + sign * d, sigmas, half) != here), None)
        if other is None:
            continue
        inside, outside = other - steps[1], other
        for _ in range(60):
            middle = (inside + outside) / 2
            same = answer(x + sign * middle, sigmas, half) == here
            inside, outside = (middle, outside) if same else (inside, middle)
        distances.append(inside)
    return min(distances)


# (point, half-width): decided by the small noise; by the large one for class 1; near where the large noise takes over.
POINTS = [(0.0, 0.5), (0.2, 0.5), (1.6, 0.5), (0.45, 0.6), (0.0, 0.8)]
SIGMAS = [1.0, 0.25]


def draw(rng: np.random.Generator, x: float, half: float, n0: int, n: int) -> list[Stage]:
    stages = []
    for sigma in SIGMAS:
        p = probabilities(x, sigma, half)
        selected = int(rng.multinomial(n0, p).argmax())
        stages.append(Stage(sigma, selected, rng.multinomial(n, p)))
    return stages


@pytest.mark.parametrize(("x", "half"), POINTS)
def test_with_many_samples_the_radius_is_the_exact_one(x: float, half: float) -> None:
    exact = exact_radius(x, SIGMAS, half)
    certificate = certify_cascade(draw(np.random.default_rng(0), x, half, 10_000, 10**8), 0.001)
    assert certificate.predicted == answer(x, SIGMAS, half)
    # In one dimension the linear bound is not attained where a class is an interval: the radius may be smaller.
    assert exact - 0.25 < certificate.radius <= exact
    if x == 1.6:  # a half-line decides, where the bound is sharp, and at the large noise
        assert certificate.sigma == 1.0 and certificate.radius == pytest.approx(exact, abs=2e-3)
    if x in (0.0, 0.2):
        assert certificate.sigma == 0.25


@pytest.mark.parametrize(("x", "half"), POINTS)
@pytest.mark.parametrize("n", [30, 300])
def test_radii_above_the_exact_one_are_as_rare_as_alpha_says(x: float, half: float, n: int) -> None:
    rng, exact, here = np.random.default_rng(n), exact_radius(x, SIGMAS, half), answer(x, SIGMAS, half)
    trials, wrong = 4_000, 0
    for _ in range(trials):
        found = certify_cascade(draw(rng, x, half, 20, n), ALPHA)
        if found.predicted != ABSTAIN:
            wrong += found.radius > exact or found.predicted != here
    assert binomtest(wrong, trials, ALPHA, "greater").pvalue > 1e-4, wrong / trials


def test_alpha_shared_by_the_stage_that_sampling_ends_at_would_not_hold() -> None:
    """Alpha at the first stage and alpha/2 for each bound at the second: false more often than alpha. Ours is not."""
    rng, trials, n = np.random.default_rng(1), 20_000, 1_000
    selection, p = np.array([1, 0]), 0.4999  # class 0 is no answer at either noise level
    ours = theirs = 0
    for _ in range(trials):
        first, second = (np.array([k, n - k]) for k in rng.binomial(n, p, 2))
        theirs += certify(selection, first, 1.0, ALPHA).predicted == 0 or (
            certify(selection, second, 0.25, ALPHA / 2).predicted == 0
        )
        ours += certify_cascade([Stage(1.0, 0, first), Stage(0.25, 0, second)], ALPHA).predicted == 0
    assert binomtest(theirs, trials, ALPHA, "greater").pvalue < 1e-6
    assert binomtest(ours, trials, ALPHA, "greater").pvalue > 1e-4


def test_one_stage_is_certify() -> None:
    counts = np.array([3, 90, 7])
    alone = certify_cascade([Stage(0.5, 1, counts)], 0.001)
    plain = certify(np.array([0, 1, 0]), counts, 0.5, 0.001)
    assert (alone.predicted, alone.radius) == (plain.predicted, plain.radius)


def test_another_class_at_an_earlier_stage_limits_the_radius() -> None:
    sure = Stage(0.25, 0, np.array([1000, 0, 0]))
    free = certify_cascade([Stage(1.0, 1, np.array([330, 330, 340])), sure], 0.001)
    tight = certify_cascade([Stage(1.0, 1, np.array([140, 430, 430])), sure], 0.001)
    none = certify_cascade([Stage(1.0, 1, np.array([100, 480, 420])), sure], 0.001)
    same = certify_cascade([Stage(1.0, 0, np.array([480, 260, 260])), sure], 0.001)
    assert (free.predicted, free.sigma) == (0, 0.25) and (tight.predicted, tight.sigma) == (0, 0.25)
    assert 0 <= tight.radius < 0.1 < free.radius < same.radius
    assert none.predicted == ABSTAIN and none.sigma is None and none.radius == 0


def test_the_larger_of_two_certificates_of_one_class_is_taken() -> None:
    both = certify_cascade([Stage(1.0, 0, np.array([900, 100])), Stage(0.25, 0, np.array([1000, 0]))], 0.001)
    assert both.sigma == 1.0 and both.radius > 1


def test_slack_is_taken_off_both_bounds() -> None:
    def radius(slack: float) -> float:
        stages = [
            Stage(1.0, 1, np.array([300, 350, 350]), slack),
            Stage(0.25, 0, np.array([950, 30, 20]), slack),
        ]
        return certify_cascade(stages, 0.001).radius

    assert radius(0.0) > radius(0.01) > radius(0.05) > 0


@pytest.mark.parametrize("sigmas", [[], [0.25, 0.5], [0.5, 0.5]])
def test_stages_must_be_decreasing(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly decreasing, at least one"):
        certify_cascade([Stage(sigma, 0, np.array([5, 1])) for sigma in sigmas], 0.001)

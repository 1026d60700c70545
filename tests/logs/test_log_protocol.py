"""N and alpha out of printed radii: what made the log is never excluded, and nothing else is named alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_logs import PRINTS, certified_log
from scipy.stats import binom

from raycp.logs.lines import read_lines
from raycp.logs.protocol import (
    Inference,
    PrintedRadii,
    Protocol,
    _largest_share,
    crowded,
    infer,
    misfits,
    possible_radii,
    radii_behind,
)
from raycp.statistics import certified_radius, clopper_pearson_lower


def radii_of(path: Path) -> PrintedRadii:
    lines = read_lines(path)
    assert lines.radius_M is not None and lines.half_unit_M is not None
    return PrintedRadii.of(lines.radius_M, lines.half_unit_M)


def inferred(path: Path, sigma: float) -> Inference:
    return infer(radii_of(path), sigma)


@pytest.mark.parametrize(("n", "alpha"), [(100, 0.05), (10_000, 0.001), (100_000, 0.0005)])
def test_possible_radii_are_those_of_the_statistics_module(n: int, alpha: float) -> None:
    found = possible_radii(0.25, n, alpha, 0, 30)
    expected = [certified_radius(0.25, clopper_pearson_lower(n - m, n, alpha)) for m in range(31)]
    np.testing.assert_allclose(found, [radius for radius in expected if radius >= 0], rtol=1e-9)


GRID = [
    (n, alpha, sigma, printed)
    for n in (100, 1000, 10_000, 100_000)
    for alpha in (0.05, 0.01, 0.001, 0.0005)
    for sigma in (0.12, 0.25, 1.0)
    for printed in PRINTS
]


def check(path: Path, n: int, alpha: float, sigma: float, printed: str, images: int) -> Inference:
    """No wrong answer: the truth is among what fits, also as to how it was rounded."""
    inference = inferred(certified_log(path, n, alpha, sigma, PRINTS[printed], images), sigma)
    assert (n, alpha) in inference.pairs
    ways = {p.rounding for p in inference.fitting if (p.num_estimation, p.alpha) == (n, alpha)}
    assert ("down" if printed.endswith("down") else "nearest") in ways
    return inference


@pytest.mark.parametrize(("n", "alpha", "sigma", "printed"), GRID[:: len(GRID) // 24 + 1])
def test_the_truth_is_never_excluded(
    tmp_path: Path, n: int, alpha: float, sigma: float, printed: str
) -> None:
    check(tmp_path / "log", n, alpha, sigma, printed, 600)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "alpha", "sigma", "printed"), GRID)
def test_the_truth_is_never_excluded_on_the_whole_grid(
    tmp_path: Path, n: int, alpha: float, sigma: float, printed: str
) -> None:
    check(tmp_path / "log", n, alpha, sigma, printed, 3000)


@pytest.mark.parametrize("printed", ["3 digits", "4 decimals", "3 digits, down", "in full"])
@pytest.mark.parametrize("alpha", [0.01, 0.001, 0.0005])
def test_the_field_s_usual_logs_are_decided(tmp_path: Path, alpha: float, printed: str) -> None:
    inference = check(tmp_path / "log", 100_000, alpha, 0.25, printed, 3000)
    assert inference.pairs == ((100_000, alpha),)
    assert inference.telling >= 5
    low, high = inference.num_estimation_range or (0, 0)
    assert 90_000 <= low <= 100_000 <= high <= 110_000


def test_the_same_maximum_with_another_second_radius_is_excluded(tmp_path: Path) -> None:
    """Of N = 150,000 and alpha = 0.001 the largest radius of (100,000, 0.01) is printed alike."""
    path = certified_log(tmp_path / "log", 100_000, 0.01, 0.25, PRINTS["3 digits"], 3000)
    both = [possible_radii(0.25, n, alpha, 0, 1) for n, alpha in ((100_000, 0.01), (150_000, 0.001))]
    assert f"{both[0][0]:.3}" == f"{both[1][0]:.3}" and f"{both[0][1]:.3}" != f"{both[1][1]:.3}"
    assert len(misfits(radii_of(path), Protocol(0.25, 150_000, 0.001, "nearest")))
    assert inferred(path, 0.25).pairs == ((100_000, 0.01),)


@pytest.mark.parametrize(("n", "alpha"), [(95_000, 0.0007), (33_333, 0.001), (100_000, 0.0123)])
def test_pairs_that_are_not_round_are_not_taken_for_round_ones(tmp_path: Path, n: int, alpha: float) -> None:
    path = certified_log(tmp_path / "log", n, alpha, 0.25, PRINTS["3 digits"], 3000)
    assert inferred(path, 0.25).pairs == ()
    assert (n, alpha) in infer(radii_of(path), 0.25, n, alpha).pairs


def test_another_sigma_fits_nothing(tmp_path: Path) -> None:
    path = certified_log(tmp_path / "log", 100_000, 0.001, 0.25, PRINTS["3 digits"], 3000)
    assert inferred(path, 0.2).pairs == ()


def test_few_images_leave_many_pairs(tmp_path: Path) -> None:
    path = certified_log(tmp_path / "log", 100_000, 0.001, 0.25, PRINTS["3 digits"], 9)
    assert len(inferred(path, 0.25).pairs) > 20


def test_no_radius_leaves_nothing() -> None:
    empty = PrintedRadii.of(np.zeros(3), np.zeros(3))
    assert infer(empty, 0.25).fitting == ()


@pytest.mark.parametrize(("left", "first", "last", "right"), [(0, 1, 1, 2), (3, 5, 6, 8), (40, 50, 59, 69)])
def test_the_largest_share_bounds_the_binomial_at_every_p(
    left: int, first: int, last: int, right: int
) -> None:
    n = 1000
    share = _largest_share(n, left, first, last, right)
    q = np.linspace(1e-5, 0.2, 20_000)
    masses = [
        binom.cdf(high, n, q) - binom.cdf(low - 1, n, q) for low, high in ((first, last), (left, right))
    ]
    with np.errstate(invalid="ignore"):
        largest = np.nanmax(np.where(masses[1] > 1e-12, masses[0] / masses[1], 0.0))
    assert largest <= share <= largest * 1.02


def test_crowding_has_few_false_alarms_and_finds_a_denser_set() -> None:
    """Images all of one p crowd most; 200 logs of them raise no alarm (odds below 2e-4), a tenfold N always."""
    generator = np.random.default_rng(5)
    for q in np.geomspace(1e-6, 1e-3, 200):
        misses = generator.binomial(10_000, q, 2000)
        radius_M = np.array([float(f"{r:.4f}") for r in possible_radii(0.5, 10_000, 0.001, 0, 60)])[misses]
        radii = PrintedRadii.of(radius_M, np.full(len(radius_M), 5e-5))
        assert not crowded(radii, Protocol(0.5, 10_000, 0.001, "nearest"))
    # With few misses their radii lie far apart: they are among those of 10^6, too, but between them there is nothing.
    misses = generator.binomial(10_000, 1e-4, 2000)
    radius_M = possible_radii(0.5, 10_000, 0.001, 0, 60)[misses]
    denser = Protocol(0.5, 1_000_000, 0.001, "nearest")
    coarse = PrintedRadii.of(np.round(radius_M, 2), np.full(len(radius_M), 5e-3))
    assert not len(misfits(coarse, denser)) and crowded(coarse, denser)


def test_the_certified_radius_behind_a_printed_one() -> None:
    true = possible_radii(0.25, 100_000, 0.001, 0, 3)
    radii = PrintedRadii.of(np.array([float(f"{r:.3}") for r in true]), np.full(4, 5e-4))
    np.testing.assert_allclose(
        radii_behind(radii, Protocol(0.25, 100_000, 0.001, "nearest")), true[::-1], rtol=0
    )

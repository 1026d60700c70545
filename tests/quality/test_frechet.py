"""FID against closed forms, against other libraries, and its influence against finite differences."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from raycp.quality.frechet import frechet_distance
from raycp.quality.moments import Moments, merged, moments
from raycp.quality.terms import frechet_terms


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(1001, mean, 1000 * covariance)


def positive(rng: np.random.Generator, d: int) -> np.ndarray:
    root = rng.normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


def test_gaussians_with_parallel_axes() -> None:
    """Where the covariances commute, the distance is |m1 - m2|^2 + sum (s1 - s2)^2 over standard deviations."""
    s1, s2 = np.array([1.0, 2.0, 0.5]), np.array([1.5, 0.25, 0.5])
    found = frechet_distance(
        gaussian(np.array([1.0, 0, 0]), np.diag(s1**2)), gaussian(np.array([0, 0, 2.0]), np.diag(s2**2))
    )
    assert found.value == pytest.approx(5.0 + 0.25 + 1.75**2, rel=1e-12)


def test_any_gaussians_as_pot_has_them() -> None:
    rng = np.random.default_rng(0)
    for d in (1, 2, 7):
        m1, m2, s1, s2 = rng.normal(size=d), rng.normal(size=d), positive(rng, d), positive(rng, d)
        expected = float(ot.gaussian.bures_wasserstein_distance(m1, m2, s1, s2)) ** 2
        assert frechet_distance(gaussian(m1, s1), gaussian(m2, s2)).value == pytest.approx(expected, rel=1e-8)


def test_a_set_is_at_no_distance_from_itself() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 4))
    assert frechet_distance(moments(rows), moments(rows)).value == pytest.approx(0, abs=1e-12)


def test_features_that_never_fire() -> None:
    """A column of zeros in both sets adds nothing, to the value or to a term."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 0.5
    with_zeros = [np.insert(x, 1, 0.0, axis=1).astype(np.float32) for x in (a, b)]
    np.testing.assert_allclose(
        frechet_terms(*with_zeros), frechet_terms(a.astype(np.float32), b.astype(np.float32)), rtol=1e-6
    )


def test_the_published_metric() -> None:
    """The FrechetInceptionDistance of torchmetrics, in float64, on the same features."""

    class Features(nn.Module):
        num_features = 5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.double().flatten(1)[:, :5] / 100

    rng = np.random.default_rng(3)
    sets = [
        rng.integers(0, 256, (90, 3, 4, 4), dtype=np.uint8),
        rng.integers(0, 200, (120, 3, 4, 4), dtype=np.uint8),
    ]
    metric = FrechetInceptionDistance(feature=Features(), input_img_size=(3, 4, 4)).set_dtype(torch.float64)
    for images, real in zip(sets, (True, False), strict=True):
        metric.update(torch.from_numpy(images), real=real)
    first, second = (moments(images.reshape(len(images), -1)[:, :5] / 100) for images in sets)
    assert frechet_distance(first, second).value == pytest.approx(float(metric.compute()), rel=1e-9)


def test_shards_have_the_moments_of_the_whole() -> None:
    rows = np.random.default_rng(4).normal(size=(3_000, 6)) + 1e6
    for found in (moments(rows), merged([moments(rows[:17]), moments(rows[17:2000]), moments(rows[2000:])])):
        assert found.count == 3_000
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(found.covariance, np.cov(rows.T), rtol=1e-7, atol=1e-9)


def test_influence_is_the_derivative() -> None:
    """Of the value by the weight of one row, against a central difference of the weighted moments."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) @ positive(rng, 3) + 0.3

    def weighted(rows: np.ndarray, row: int, eps: float) -> Moments:
        weight = np.full(len(rows), (1 - eps) / len(rows))
        weight[row] += eps
        mean = weight @ rows
        covariance = (weight[:, None] * (rows - mean)).T @ (rows - mean) * len(rows) / (len(rows) - 1)
        return gaussian(mean, covariance)

    found = frechet_distance(moments(a), moments(b))
    eps = 1e-4
    for row in (0, 7, 199):
        for influence, at in (
            (found.influence_of_first(a), lambda e, row=row: (weighted(a, row, e), weighted(b, 0, 0))),
            (found.influence_of_second(b), lambda e, row=row: (weighted(a, 0, 0), weighted(b, row, e))),
        ):
            slope = (frechet_distance(*at(eps)).value - frechet_distance(*at(-eps)).value) / (2 * eps)
            assert influence[row] == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_terms_have_the_distance_as_their_mean() -> None:
    rng = np.random.default_rng(6)
    clean = rng.normal(size=(80, 4)).astype(np.float32)
    purified = np.repeat(clean, 3, axis=0) + rng.normal(size=(240, 4)).astype(np.float32)
    terms = frechet_terms(clean, purified)
    assert terms.shape == (80,)
    assert terms.mean() == pytest.approx(frechet_distance(moments(clean), moments(purified)).value, rel=1e-12)

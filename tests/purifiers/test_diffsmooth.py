"""DiffSmooth of a classifier whose vote has a closed form or an integral, and the two kinds of copies.

Random tests have fixed seeds; a right implementation would fail at 1 of 1,000 of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from analytic_networks import (
    consistency_denoiser,
    ddpm_denoiser,
    edm_denoiser,
    gaussian_posterior_mean,
    two_point_posterior_mean,
)
from scipy.special import expit
from scipy.stats import binomtest, chi2, norm
from torch import Tensor

from raycp.config.models import DDPMPurifier, DiffSmoothPurifier, EDMPurifier
from raycp.errors import ModelError
from raycp.maths import cosine_alphas_cumprod
from raycp.models import Denoiser
from raycp.purifiers import build_purifier
from raycp.purifiers.combine import mean_softmax
from raycp.purifiers.diffsmooth import DiffSmooth
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.inner_noise import InnerNoise, inner_noise_by_place
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise

CPU = torch.device("cpu")
MODEL = {"path": "unused"}
STD = 0.4
SIGMA = 0.25
FALSE_ALARM = 1e-3
SLOPE = 3.0
CENTRE = 0.5
X = 0.8
CLEAN = (STD**2 / (STD**2 + 4 * SIGMA**2) * (2 * X - 1) + 1) / 2
"""The posterior mean of a pixel X."""


def diffsmooth(denoiser: Denoiser | None = None, **options: Any) -> DiffSmooth:
    config = DiffSmoothPurifier(kind="diffsmooth", model=MODEL, **options)
    purify = build_purifier(config, denoiser or edm_denoiser(gaussian_posterior_mean(STD)))
    assert isinstance(purify, DiffSmooth)
    return purify


def classify(image: Tensor) -> Tensor:
    """Two classes by the pixel: logits +-SLOPE (z - CENTRE); every pixel is a sample."""
    z = SLOPE * (image.flatten() - CENTRE)
    return torch.stack([-z, z], dim=1)


def combined(purify: DiffSmooth, x: Tensor) -> Tensor:
    images = purify.images(x, SIGMA, inner_noise_by_place(x))
    return purify.combine([classify(image) for image in images])


def probability_of_class_1(num_copies: int, local_sigma: float, slope: float = SLOPE) -> float:
    """P(mean of s(2 slope (CLEAN + local_sigma n_j - CENTRE)) > 1/2), s the logistic function.

    One or two copies: the sum of the n_j decides, as s is odd about 1/2. Three: by quadrature over two of them.
    """
    z = CLEAN - CENTRE
    if num_copies < 3:
        return float(norm.cdf(math.sqrt(num_copies) * z / local_sigma))
    n = np.linspace(-8, 8, 1601)
    weight = norm.pdf(n) * (n[1] - n[0])
    s = expit(2 * slope * (z + local_sigma * n))
    needed = 1.5 - s[:, None] - s[None, :]
    inside = np.clip(needed, 1e-300, 1 - 1e-16)
    threshold = (np.log(inside / (1 - inside)) / (2 * slope) - z) / local_sigma
    probability = np.where(needed <= 0, 1.0, np.where(needed >= 1, 0.0, norm.sf(threshold)))
    return float(weight @ probability @ weight)


@pytest.mark.parametrize("local_sigma", [0.1, 0.4])
@pytest.mark.parametrize("num_copies", [1, 2, 3])
def test_the_class_has_its_exact_probability(num_copies: int, local_sigma: float) -> None:
    x = torch.full((4, 1, 70, 70), X)
    found = combined(diffsmooth(num_copies=num_copies, local_sigma=local_sigma, clip=False), x)
    p = probability_of_class_1(num_copies, local_sigma)
    assert 0.6 < p < 0.99
    assert binomtest(int(found.argmax(1).sum()), x.numel(), p).pvalue > FALSE_ALARM


def test_the_quadrature_of_three_copies_is_right_where_it_is_known() -> None:
    """A steep classifier votes: three votes, each right with probability q."""
    q = float(norm.cdf((CLEAN - CENTRE) / 0.4))
    assert probability_of_class_1(3, 0.4, slope=1e4) == pytest.approx(q**3 + 3 * q**2 * (1 - q), abs=2e-3)


def test_the_mean_softmax_tends_to_the_integral() -> None:
    """E s(2 SLOPE (z + 0.3 n)) by Gauss-Hermite; 400 copies of 100 pixels."""
    x = torch.full((1, 1, 10, 10), X)
    found = combined(diffsmooth(num_copies=400, local_sigma=0.3, clip=False), x)[:, 1].double().numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    values = expit(2 * SLOPE * (CLEAN - CENTRE + 0.3 * nodes))
    weights = weights / weights.sum()
    mean = weights @ values
    spread = math.sqrt(weights @ values**2 - mean**2)
    assert abs(found.mean() - mean) < 3.5 * spread / math.sqrt(40_000)
    assert found.std() == pytest.approx(spread / 20, rel=0.3)


@pytest.mark.parametrize("kind", ["search", "closed_form", "edm"])
def test_the_copies_lie_around_the_one_step_image(kind: str) -> None:
    schedule = cosine_alphas_cumprod(4000)
    denoiser = ddpm_denoiser(two_point_posterior_mean, schedule)
    timestep: Any = kind if kind != "edm" else "search"
    plain: Any = DDPMPurifier(kind="ddpm", model=MODEL, timestep=timestep)
    if kind == "edm":
        denoiser, plain = (
            edm_denoiser(two_point_posterior_mean),
            EDMPurifier(kind="edm", model=MODEL, clip=True),
        )
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    noise = inner_noise_by_place(x)
    purify = diffsmooth(denoiser, timestep=timestep, num_copies=4, local_sigma=0.26)
    images = list(purify.images(x, SIGMA, noise))
    assert len(images) == 4
    assert len(denoiser.network.levels) == 1  # purified once
    clean = build_purifier(plain, denoiser)(x, SIGMA)
    assert clean.min() >= 0 and clean.max() <= 1
    for copy, image in enumerate(images):
        assert torch.equal(image, clean + 0.26 * noise(copy))
    assert torch.stack(images).min() < 0  # the copies themselves are not clipped


def test_fixed_copies_are_the_same_for_all_samples() -> None:
    x = torch.full((5, 1, 4, 4), X)
    noise = inner_noise_by_place(x)
    fixed = list(diffsmooth(copies="fixed").images(x, SIGMA, noise))
    fresh = list(diffsmooth().images(x, SIGMA, noise))
    assert len(fixed) == len(fresh) == 5
    for copy in range(5):
        assert torch.equal(fixed[copy], fixed[copy][:1].expand(5, -1, -1, -1))
        assert len(torch.unique(fresh[copy], dim=0)) == 5
        deviation = (fixed[copy][0] - CLEAN) / 0.25
        torch.testing.assert_close(deviation, noise.shared(copy)[0], atol=1e-5, rtol=1e-4)
    assert len(torch.unique(torch.stack([image[0] for image in fixed]), dim=0)) == 5


@pytest.mark.parametrize("copies", ["fresh", "fixed"])
def test_the_counts_of_a_run_are_binomial(copies: str) -> None:
    """800 images of one pixel, 50 samples each, a batch each, two copies.

    Fresh: an image's count is binomial with the probability over both noises, so counts scatter as binomial ones do:
    a noise shared by a batch would make them scatter more. Fixed: with the probability given the noise of the run.
    """
    num_images, n, seed = 800, 50, 5
    images, index = np.full((num_images, 1, 1, 1), 150, np.uint8), np.arange(num_images)
    noise = make_noise("sound", images, index, seed, CPU)
    purify = diffsmooth(num_copies=2, local_sigma=0.2, clip=False, copies=copies)
    kernel = Kernel(BaseClassifier(purify, classify, CPU, torch.float32, False), noise, 2, n)
    counts = kernel.run(SIGMA, [Block(image, Phase.ESTIMATION, 0, n) for image in range(num_images)])[:, 1]
    factor = STD**2 / (STD**2 + 4 * SIGMA**2)
    distance = (factor * (2 * 150 / 255 - 1) + 1) / 2 - CENTRE
    shared = InnerNoise(seed, np.zeros((1, 3), np.int64), (1, 1, 1), CPU)
    if copies == "fresh":
        p = norm.cdf(distance / math.hypot(factor * SIGMA, 0.2 / math.sqrt(2)))
    else:
        moved = distance + 0.2 * (float(shared.shared(0)) + float(shared.shared(1))) / 2
        p = norm.cdf(moved / (factor * SIGMA))
    assert 0.02 < p < 0.98
    assert binomtest(int(counts.sum()), num_images * n, float(p)).pvalue > FALSE_ALARM
    scatter = ((counts - n * p) ** 2 / (n * p * (1 - p))).sum()
    assert FALSE_ALARM < chi2(num_images).cdf(scatter) < 1 - FALSE_ALARM


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_copy_makes_no_prediction(bad: float) -> None:
    """The softmax of -inf is 0, a number like any other."""
    logits = [torch.eye(3)[[1, 1]] for _ in range(3)]
    logits[1][0, 0] = bad
    result = mean_softmax(logits)
    assert result[0].isnan().all()
    torch.testing.assert_close(result[1], torch.eye(3)[1].softmax(0))


@pytest.mark.parametrize("num_samples", [1, 3, 8, 64])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_a_mean_does_not_depend_on_the_place_in_the_batch(num_samples: int, num_classes: int) -> None:
    """Bit for bit. The mean over a stacked dimension does: it fails this at 8 samples of 10 classes."""
    generator = torch.Generator().manual_seed(4)
    logits = [3 * torch.randn(num_samples, num_classes, generator=generator) for _ in range(5)]
    whole = mean_softmax(logits)
    for sample in range(num_samples):
        assert torch.equal(mean_softmax([part[sample : sample + 1] for part in logits])[0], whole[sample])


def test_a_model_of_another_parametrisation_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"needs a model of parametrisation ddpm or edm, but the one of purifier\.model is"
    ):
        diffsmooth(consistency_denoiser(two_point_posterior_mean))
    denoiser = edm_denoiser(two_point_posterior_mean)
    denoiser.class_predicted = True
    with pytest.raises(
        ModelError, match=r"class_label is predicted, which purifier\.kind diffsmooth does not do"
    ):
        diffsmooth(denoiser)

"""DensePure on data whose reverse process is known: the law of a draw, of a vote, and of the majority.

Pixels are independent here and start at one value, so that every pixel is a draw. Random tests have fixed seeds; a
right implementation would fail at 1 of 1,000 of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from analytic_networks import (
    DDPMNetwork,
    consistency_denoiser,
    ddpm_denoiser,
    edm_denoiser,
    gaussian_posterior_mean,
    two_point_posterior_mean,
)
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, kstest, norm
from torch import Tensor, nn

from raycp.config.models import DensePurePurifier
from raycp.errors import ModelError
from raycp.maths import cosine_alphas_cumprod, learned_log_variance, posterior_mean, step_variances
from raycp.models import Denoiser
from raycp.purifiers import build_purifier
from raycp.purifiers.combine import majority_vote
from raycp.purifiers.densepure import DensePure
from raycp.sampling.inner_noise import InnerNoise, inner_noise_by_place

T = 4000
COSINE = cosine_alphas_cumprod(T)
LINEAR = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
STD = 0.4
SIGMA = 0.3
X = 0.62  # pixel units; 0.24 in model units
FALSE_ALARM = 1e-3


def densepure(denoiser: Denoiser, **options: Any) -> DensePure:
    config = DensePurePurifier(kind="densepure", model={"path": "unused"}, **options)
    purify = build_purifier(config, denoiser)
    assert isinstance(purify, DensePure)
    return purify


def constant(rows: int = 4, size: int = 20) -> Tensor:
    return torch.full((rows, 1, size, size), X)


def draws(purify: DensePure, x: Tensor) -> np.ndarray:
    """[votes, pixels], model units."""
    images = list(purify.images(x, SIGMA, inner_noise_by_place(x)))
    return 2 * torch.stack(images).flatten(1).double().numpy() - 1


def times(num_steps: int, start: float) -> list[int]:
    """From the first step taken to the last."""
    return [round(start * (num_steps - i) / num_steps) for i in range(num_steps)]


def closed_form_chain(num_steps: int) -> tuple[list[int], list[float]]:
    """Steps told and abar, from the first step on: the time at which the cosine schedule has noise of 2 SIGMA."""
    start = brentq(lambda u: cosine(u) - 1 / (1 + 4 * SIGMA**2), 0, T)
    steps = times(num_steps, start)
    return steps, [cosine(step) for step in steps]


def cosine(u: float) -> float:
    def f(u: float) -> float:
        return math.cos((u / T + 0.008) / 1.008 * math.pi / 2) ** 2

    return f(u) / f(0)


def kernel(abar: float, before: float) -> tuple[float, float, float, float]:
    """x_{i-1} given x_i and x_0, by Bayes: coefficients of x_0 and x_i, variance; and the variance of x_i | x_{i-1}.

    Prior N(sqrt(before) x_0, 1 - before); likelihood N(x_i; sqrt(1 - beta) x_{i-1}, beta).
    """
    beta = 1 - abar / before
    precision = (1 - beta) / beta + 1 / (1 - before)
    return (
        math.sqrt(before) / (1 - before) / precision,
        math.sqrt(1 - beta) / beta / precision,
        1 / precision,
        beta,
    )


class Formula(nn.Module):
    """A network in one line, told steps in thousandths of the schedule, as improved-diffusion tells them."""

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None, return_dict: bool) -> tuple[Tensor]:
        shift = 0.1 * torch.sin(t.double() / 100)[:, None, None, None]
        return (torch.cat([0.9 * torch.tanh(1.7 * x + 0.3) + shift, torch.sin(3 * x)], dim=1),)


@pytest.mark.parametrize(
    ("sigma", "recorded"),
    [
        (0.25, [[0.0, 0.240018, 0.760153, 0.887474], [0.180564, 0.291365, 0.34997, 0.961545]]),
        (0.5, [[0.176753, 0.344938, 0.820257, 0.71499], [0.370917, 0.361295, 0.254573, 0.78574]]),
        (1.0, [[0.332652, 0.368622, 0.733316, 0.287836], [0.43631, 0.361886, 0.217538, 0.456686]]),
    ],
)
def test_draws_are_those_that_the_authors_code_made(sigma: float, recorded: list[list[float]]) -> None:
    """`p_sample` of github.com/Jayfeather1024/DensePure, commit 1ed105d, with this network and this noise, 3 steps."""
    levels = ((1 - COSINE) / COSINE).sqrt()
    denoiser = Denoiser(
        Formula(), "ddpm", 1, None, float(levels[0]), float(levels[-1]), alphas_cumprod=COSINE,
        learned_variance=True, conditioning_scale=1000 / T,
    )  # fmt: skip
    noise = torch.tensor(
        [[0.3, -1.1, 0.8, 0.2], [-0.6, 0.9, 1.4, -1.3], [1.2, 0.5, -0.2, -0.9], [0.1, -0.4, -1.5, 0.7]]
    ).view(4, 1, 1, 2, 2)
    x = torch.tensor([-0.4, 0.1, 0.7, 1.5]).view(1, 1, 2, 2)
    purify = densepure(denoiser, num_votes=2, num_steps=3)
    images = purify.images(x, sigma, lambda draw: noise[draw])  # type: ignore[arg-type]
    torch.testing.assert_close(
        torch.stack(list(images)).view(2, 4), torch.tensor(recorded), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("num_steps", [2, 3, 10, 100])
def test_the_chain_is_the_authors(num_steps: int) -> None:
    purify = densepure(
        ddpm_denoiser(gaussian_posterior_mean(STD), COSINE, 1), num_steps=num_steps, variance="small"
    )
    chain = purify.chain(2 * SIGMA)
    steps, abar = closed_form_chain(num_steps)
    assert list(chain.timesteps) == steps[::-1]
    np.testing.assert_allclose(chain.alphas_cumprod, abar[::-1], rtol=1e-9)
    assert chain.scale == pytest.approx(1 / math.sqrt(1 + 4 * SIGMA**2), rel=1e-15)


def test_a_step_is_that_of_bayes() -> None:
    abar = torch.tensor([0.9, 0.7, 0.2], dtype=torch.float64)
    x_0, x_i = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for i in (1, 2):
        of_x_0, of_x_i, small, large = kernel(float(abar[i]), float(abar[i - 1]))
        torch.testing.assert_close(posterior_mean(x_0, x_i, abar, i), of_x_0 * x_0 + of_x_i * x_i)
        assert step_variances(abar, i) == pytest.approx((small, large))
    assert torch.equal(posterior_mean(x_0, x_i, abar, 0), x_0)
    assert step_variances(abar, 0) == pytest.approx((0, 0.1))
    assert float(learned_log_variance(torch.tensor(1.0), abar, 2)) == pytest.approx(math.log(1 - 0.2 / 0.7))


class ExactGaussian(DDPMNetwork):
    """Data N(0, STD^2) with the variance of its reverse steps, for the steps of one chain; told the authors' steps."""

    def __init__(self, num_steps: int) -> None:
        super().__init__(gaussian_posterior_mean(STD), COSINE)
        steps, abar = closed_form_chain(num_steps)
        self.at = {step: (a, b) for step, a, b in zip(steps, abar, [*abar[1:], 1.0], strict=True)}

    def output(self, sample: Tensor, timestep: Tensor) -> Tensor:
        abar, before = self.at[int(timestep)]
        self.levels.append(float(timestep))
        x_0 = math.sqrt(abar) * STD**2 / (abar * STD**2 + 1 - abar) * sample
        values = torch.zeros_like(sample)
        if before < 1:
            of_x_0, _, small, large = kernel(abar, before)
            variance = small + of_x_0**2 * posterior_variance(abar)
            values += 2 * math.log(variance / small) / math.log(large / small) - 1
        return torch.cat([(sample - math.sqrt(abar) * x_0) / math.sqrt(1 - abar), values], dim=1)


def posterior_variance(abar: float) -> float:
    """Var(x_0 | x_i)."""
    return STD**2 * (1 - abar) / (abar * STD**2 + 1 - abar)


@pytest.mark.parametrize("num_steps", [2, 3, 8])
def test_with_the_exact_model_a_draw_is_from_the_posterior(num_steps: int) -> None:
    """x_1 has its exact law given x, and the draw is E[x_0 | x_1]: mean E[x_0 | x], variance less by Var(x_0 | x_1)."""
    denoiser = ddpm_denoiser(gaussian_posterior_mean(STD), COSINE)
    denoiser.network, denoiser.learned_variance = ExactGaussian(num_steps), True
    found = draws(densepure(denoiser, num_votes=5, num_steps=num_steps, clip=False), constant())
    abar = closed_form_chain(num_steps)[1]
    mean = STD**2 / (STD**2 + 4 * SIGMA**2) * (2 * X - 1)
    variance = posterior_variance(abar[0]) - posterior_variance(abar[-1])
    # The closed form rounds the first step: abar is not quite 1/(1 + 4 sigma^2).
    assert abs(found.mean() - mean) < 1e-3 + 3.5 * math.sqrt(variance / found.size)
    assert kstest(found.ravel(), norm(mean, math.sqrt(variance)).cdf).pvalue > FALSE_ALARM
    correlation = np.corrcoef(found)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < 4 / math.sqrt(found.shape[1])  # votes are independent given x
    assert len(denoiser.network.levels) == 1 + 5 * (num_steps - 1)


@pytest.mark.parametrize("parametrisation", ["ddpm", "edm"])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("num_steps", [2, 5])
def test_a_draw_of_a_fixed_variance(num_steps: int, variance: str, parametrisation: str) -> None:
    """The chain is linear: x_{i-1} = a_i x_i + s_i n. The ddpm is told the noise of its step, the next one."""
    steps, abar = closed_form_chain(num_steps)
    if parametrisation == "ddpm":
        denoiser = ddpm_denoiser(gaussian_posterior_mean(STD), COSINE, 1)
        told = [float(COSINE[step]) for step in steps]
    else:
        denoiser = edm_denoiser(gaussian_posterior_mean(STD))
        told = abar
    found = draws(
        densepure(denoiser, num_steps=num_steps, variance=variance, num_votes=4, clip=False), constant()
    )
    factor, spread = 1 / math.sqrt(1 + 4 * SIGMA**2), 0.0
    for i, (a, b) in enumerate(zip(abar, [*abar[1:], 1.0], strict=True)):
        # What predicts the noise at `told` predicts this image at `abar`.
        clean = math.sqrt(told[i]) * STD**2 / (told[i] * STD**2 + 1 - told[i])
        noise = (1 - math.sqrt(told[i]) * clean) / math.sqrt(1 - told[i])
        predicted = (1 - math.sqrt(1 - a) * noise) / math.sqrt(a)
        of_x_0, of_x_i, small, large = (1.0, 0.0, 0.0, 0.0) if b == 1 else kernel(a, b)
        slope = of_x_0 * predicted + of_x_i
        factor, spread = slope * factor, slope**2 * spread + (small if variance == "small" else large)
    law = norm(factor * (2 * X - 1), math.sqrt(spread))
    assert kstest(found.ravel(), law.cdf).pvalue > FALSE_ALARM


def test_many_steps_draw_from_the_posterior_of_two_points() -> None:
    """P(x_0 = 1 | x) = 1/(1 + exp(-2 x/s^2)); 150 steps are within 0.01 of it, and a clean image is -1 or 1."""
    purify = densepure(edm_denoiser(two_point_posterior_mean), num_steps=150, variance="small", num_votes=2)
    found = draws(purify, constant(rows=2, size=50))
    assert np.quantile(np.abs(found), 0.01) > 0.99
    exact = 1 / (1 + math.exp(-2 * (2 * X - 1) / (2 * SIGMA) ** 2))
    assert abs((found > 0).mean() - exact) < 0.01 + 3.5 * math.sqrt(0.25 / found.size)


@pytest.mark.parametrize("num_votes", [1, 4, 5])
def test_the_majority_is_binomial(num_votes: int) -> None:
    """Two points, two steps: a vote is 1 where x_1 > 0. Half the ties go to 1, as the first vote decides."""
    purify = densepure(
        edm_denoiser(two_point_posterior_mean), num_steps=2, variance="small", num_votes=num_votes
    )
    pixel = 0.53
    x = torch.full((5, 1, 40, 40), pixel)
    images = [2 * image - 1 for image in purify.images(x, SIGMA, inner_noise_by_place(x))]
    logits = [torch.stack([-image, image]).flatten(1).T for image in images]
    wins = int(purify.combine(logits).argmax(1).sum())
    first, last = (purify.chain(2 * SIGMA).alphas_cumprod[i].item() for i in (1, 0))
    x_i = (2 * pixel - 1) / math.sqrt(1 + 4 * SIGMA**2)
    of_x_0, of_x_i, variance, _ = kernel(first, last)
    mean = of_x_0 * math.tanh(x_i / math.sqrt(first) / ((1 - first) / first)) + of_x_i * x_i
    p = float(norm.cdf(mean / math.sqrt(variance)))
    half = num_votes // 2
    majority = binom.sf(half, num_votes, p)
    if num_votes % 2 == 0:
        majority += binom.pmf(half, num_votes, p) / 2
    assert 0.6 < p < 0.95
    assert binomtest(wins, x.numel(), majority).pvalue > FALSE_ALARM


@pytest.mark.parametrize("parametrisation", ["ddpm", "edm"])
def test_search_starts_at_the_first_step_with_the_noise(parametrisation: str) -> None:
    denoiser = ddpm_denoiser(gaussian_posterior_mean(STD), LINEAR, 1)
    if parametrisation == "edm":
        denoiser = edm_denoiser(gaussian_posterior_mean(STD))
    chain = densepure(denoiser, timestep="search", variance="large", num_steps=4).chain(2 * SIGMA)
    if parametrisation == "edm":  # it has no schedule: that of the closed form
        assert list(chain.timesteps) == closed_form_chain(4)[0][::-1]
        assert float(chain.alphas_cumprod[-1]) == pytest.approx(1 / (1 + 4 * SIGMA**2), rel=1e-15)
        return
    start = next(t for t in range(1, 1000) if (1 - LINEAR[t]) / LINEAR[t] >= (2 * SIGMA) ** 2)
    assert list(chain.timesteps) == times(4, start)[::-1]
    assert torch.equal(chain.alphas_cumprod, LINEAR[list(chain.timesteps)])
    assert chain.scale == math.sqrt(LINEAR[start])


def test_predictions_are_clipped() -> None:
    """A model that predicts 3 everywhere: clipped, the last step gives 1, and the first one a mean of 1, too."""
    x = constant(rows=1)
    for clip, value in ((True, 1.0), (False, 3.0)):
        purify = densepure(edm_denoiser(lambda x, s: 0 * x + 3), variance="small", clip=clip, num_votes=1)
        assert draws(purify, x).min() == pytest.approx(value, abs=1e-4)


def test_a_draw_depends_on_the_key_of_its_row_alone() -> None:
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    noise = inner_noise_by_place(x)
    purify = densepure(edm_denoiser(two_point_posterior_mean), variance="large", num_steps=3)
    whole = torch.stack(list(purify.images(x, SIGMA, noise)))
    order = np.array([4, 2, 5])
    some = torch.stack(list(purify.images(x[order], SIGMA, noise.rows(order))))
    torch.testing.assert_close(some, whole[:, order], rtol=0, atol=1e-6)
    other = InnerNoise(1, noise.keys_B3, noise.shape, noise.device)
    assert not torch.allclose(torch.stack(list(purify.images(x, SIGMA, other))), whole, atol=1e-3)


def votes(*classes: int, num_classes: int = 3) -> list[Tensor]:
    return [torch.eye(num_classes)[[k]] for k in classes]


@pytest.mark.parametrize(
    ("classes", "winner"),
    [((2,), 2), ((0, 1, 1), 1), ((1, 0, 2, 0), 0), ((2, 0, 0, 2), 2), ((1, 2, 2, 1, 0), 1), ((0, 1, 2), 0),
     ((2, 1, 0), 2)],
)  # fmt: skip
def test_a_tie_goes_to_the_class_that_was_voted_for_first(classes: tuple[int, ...], winner: int) -> None:
    assert int(majority_vote(votes(*classes)).argmax()) == winner


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_image_makes_no_vote(bad: float) -> None:
    logits = [torch.eye(3)[[1, 1]] for _ in range(3)]
    logits[2][0, 0] = bad
    combined = majority_vote(logits)
    assert combined[0].isnan().all()
    assert combined[1].isfinite().all() and int(combined[1].argmax()) == 1


@pytest.mark.parametrize(
    ("denoiser", "options", "message"),
    [
        (consistency_denoiser(two_point_posterior_mean), {}, "needs a model of parametrisation ddpm or edm"),
        (edm_denoiser(two_point_posterior_mean), {}, r"^purifier\.variance is learned, but .* small or large\.$"),
        (ddpm_denoiser(two_point_posterior_mean, LINEAR), {"variance": "small"}, "use search"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(denoiser: Denoiser, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        densepure(denoiser, **options)


def test_more_steps_than_the_schedule_has_below_the_noise() -> None:
    denoiser = ddpm_denoiser(two_point_posterior_mean, LINEAR, 1)
    purify = densepure(denoiser, variance="small", timestep="search", num_steps=200)
    with pytest.raises(
        ModelError, match=r"^purifier\.num_steps is 200, but .* sigma = 0\.05, which is step \d+ of"
    ):
        next(purify.images(constant(), 0.05, inner_noise_by_place(constant())))
    with pytest.raises(ModelError, match="allowed are sigmas from"):
        next(purify.images(constant(), 1e-4, inner_noise_by_place(constant())))


def test_a_predicted_class_is_refused() -> None:
    denoiser = edm_denoiser(two_point_posterior_mean)
    denoiser.class_predicted = True
    with pytest.raises(
        ModelError, match=r"class_label is predicted, which purifier\.kind densepure does not do"
    ):
        densepure(denoiser, variance="small")

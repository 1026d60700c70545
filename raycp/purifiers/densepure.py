"""Several draws of the reverse diffusion of a sample, and the majority of the classes of the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raycp.errors import ModelError
from raycp.maths import (
    closed_form_time,
    cosine_alphas_cumprod,
    first_timestep,
    learned_log_variance,
    noise_levels,
    posterior_mean,
    predicted_x0,
    step_variances,
)
from raycp.models import Denoiser
from raycp.purifiers.combine import majority_vote
from raycp.purifiers.pixels import ModelUnits

# Steps of the cosine schedule on which an edm is asked: those of the model that the authors use.
_COSINE_STEPS = 4000


@dataclass(frozen=True)
class Chain:
    """The steps of a fast reverse process, from 0 (the last one taken) to b - 1 (the first).

    Attributes:
        timesteps: step of the model's schedule that the network is told.
        alphas_cumprod: abar, float64 [b], descending.
        scale: what a noisy image is multiplied by to become x_{b-1}.
    """

    timesteps: tuple[int, ...]
    alphas_cumprod: Tensor
    scale: float


@dataclass(frozen=True)
class DensePure:
    """K draws of `x_0` by b reverse steps, each classified; the sample's class is the majority's.

    `x_{i-1} = mu(x_i, x_0(x_i)) + s_i n`, where `x_0(x_i)` is the model's prediction, mu the mean of x_{i-1} given x_i
    and x_0, and n fresh for each vote, step and sample; the last step, i = 0, returns its prediction. The first
    evaluation, which is the same for all votes, is made once.

    Step i is at `(i + 1) T'/b`, rounded, where T' is the time of the noise.
    closed_form: the network is told the time tau, and abar is that of the cosine schedule at time tau, which in the
    discrete schedule is the entry of step tau - 1; `x_{b-1} = x/sqrt(1 + sigma_model^2)`.
    search: T' is the first step with noise of at least sigma_model; network and abar are those of one step.

    Source: Xiao et al. 2023, arXiv 2211.00322, as in the authors' code (closed_form, learned variance, clipped
    predictions). Deviations: edm models, fixed variances, search; see docs/densepure.md.
    """

    denoiser: Denoiser
    units: ModelUnits
    num_votes: int
    num_steps: int
    timestep: Literal["closed_form", "search"]
    variance: Literal["learned", "small", "large"]
    clip: bool

    def images(self, x_BCHW: Tensor, sigma: float, noise: Callable[[int], Tensor]) -> Iterator[Tensor]:
        """The K draws, [B,C,H,W] each, pixel units.

        Args:
            x_BCHW: noisy images, pixel units, not clipped.
            sigma: standard deviation of their noise, pixel units.
            noise: draw number to standard normal numbers [B,C,H,W].

        Raises:
            ModelError: sigma is outside the noise levels of the model, or has no room for `num_steps` steps.
        """
        x_BCHW, sigma_model = self.units.enter(x_BCHW, sigma)
        chain = self.chain(sigma_model)
        first, between = self.num_steps - 1, range(self.num_steps - 2, 0, -1)
        mean, deviation = self._step(chain, first, chain.scale * x_BCHW)
        for vote in range(self.num_votes):
            draws = iter(range(vote * first, (vote + 1) * first))
            x_i = mean + deviation * noise(next(draws))
            for i in between:
                mean_i, deviation_i = self._step(chain, i, x_i)
                x_i = mean_i + deviation_i * noise(next(draws))
            yield self.units.leave(self._predict(chain, 0, x_i)[0])

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """See `majority_vote`."""
        return majority_vote(logits)

    def chain(self, sigma_model: float) -> Chain:
        """The steps from the noise level `sigma_model`, model units, down."""
        b, abar = self.num_steps, self.denoiser.alphas_cumprod
        if self.timestep == "search" and abar is not None:
            start: float = first_timestep(abar, sigma_model)
            times = _times(start, b)
            kept, scale = abar[times], math.sqrt(float(abar[int(start)]))
        else:
            # An edm knows every level: it is asked about those of the cosine schedule, its first exactly.
            schedule = cosine_alphas_cumprod(_COSINE_STEPS) if abar is None else abar
            start = closed_form_time(len(schedule), sigma_model)
            times = [min(time, len(schedule) - 1) for time in _times(start, b)]
            kept = schedule[[max(time - 1, 0) for time in times]]
            scale = 1 / math.sqrt(1 + sigma_model**2)
            if abar is None:
                kept[-1] = scale**2
        lowest = float(noise_levels(kept)[0])
        if times[0] < 1 or len(set(times)) < b or (abar is None and lowest < self.denoiser.sigma_min):
            raise ModelError(
                f"purifier.num_steps is {b}, but there are no {b} different steps below the noise of sigma = "
                f"{sigma_model / 2:g}, which is step {start:.0f} of the schedule (smallest noise level of "
                f"purifier.model: {self.denoiser.sigma_min:g}); take fewer."
            )
        return Chain(tuple(times), kept, scale)

    def _step(self, chain: Chain, i: int, x_i: Tensor) -> tuple[Tensor, Tensor | float]:
        """Mean [B,C,H,W] and standard deviation of x_{i-1} given x_i, i > 0."""
        x_0, values = self._predict(chain, i, x_i)
        mean = posterior_mean(x_0, x_i, chain.alphas_cumprod, i)
        if self.variance == "learned":
            return mean, torch.exp(0.5 * learned_log_variance(values, chain.alphas_cumprod, i))
        small, large = step_variances(chain.alphas_cumprod, i)
        return mean, math.sqrt(small if self.variance == "small" else large)

    def _predict(self, chain: Chain, i: int, x_i: Tensor) -> tuple[Tensor, Tensor]:
        """The image that the model predicts from x_i, and what it says of the variance."""
        abar = float(chain.alphas_cumprod[i])
        if self.denoiser.parametrisation == "edm":
            x_0 = self.denoiser(x_i / math.sqrt(abar), math.sqrt((1 - abar) / abar))
            values = x_0[:, :0]
        else:
            noise, values = self.denoiser.predict_noise_and_variance(x_i, chain.timesteps[i])
            x_0 = predicted_x0(x_i, noise, abar)
        return (x_0.clamp(-1, 1) if self.clip else x_0), values


def _times(start: float, num_steps: int) -> list[int]:
    """`start - i start/num_steps`, rounded, for i from num_steps - 1 to 0: ascending."""
    return [round(start - i * (start / num_steps)) for i in reversed(range(num_steps))]

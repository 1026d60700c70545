"""A denoising network with the arithmetic around it, in model units: images in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from raycp.maths import Scalings, consistency_scalings, edm_scalings, preconditioned

# edm: D(x; sigma), the posterior mean; consistency: f(x, t), the end of the probability-flow ODE;
# ddpm: the noise in x_t at a discrete step.
Parametrisation = Literal["edm", "consistency", "ddpm"]


@dataclass(eq=False)
class Denoiser:
    """A network and its parametrisation.

    Called with a noisy image and its noise level, an edm model returns `D(x; sigma)` and a consistency model
    `f(x, sigma)`. A ddpm model is called through `predict_noise`.

    `network` may be replaced by an equivalent one (compiled, in another memory format, on another device). It is
    called as a diffusers `UNet2DModel`, `network(x_BCHW, conditioning_B, class_labels_B, return_dict=False)[0]`;
    its conditioning tensors are made outside it, so that a compiled network sees no Python numbers.
    """

    network: nn.Module
    parametrisation: Parametrisation
    channels: int
    """Channels of its images."""
    image_size: tuple[int, int] | None
    """Height and width it was trained on, pixels; None when its directory does not say."""
    sigma_min: float
    """Smallest noise level it can be asked about; ddpm: the noise of step 0."""
    sigma_max: float
    """Largest noise level; ddpm: the noise of the last step."""
    sigma_data: float = 0.5
    """Standard deviation of the data; unused by ddpm."""
    rho: float = 7.0
    """Exponent of its noise grid; unused by ddpm."""
    num_steps: int | None = None
    """Levels of the noise grid it was trained on (num_train_timesteps of its scheduler); None when unknown."""
    num_classes: int | None = None
    """Classes K of a class-conditional network."""
    class_label: int | None = None
    """Class that a class-conditional network is conditioned on; K: none, K + 1: the mean of all."""
    class_predicted: bool = False
    """Whether the class of each image is to be predicted, and given with it."""
    alphas_cumprod: Tensor | None = None
    """ddpm: abar, float64 [T], on the CPU."""
    learned_variance: bool = False
    """ddpm: whether the network also predicts the variance of its reverse steps."""
    conditioning_scale: float = 1.0
    """What the conditioning is multiplied by before the network sees it."""

    def __call__(self, x_BCHW: Tensor, sigma_model: float, labels_B: Tensor | None = None) -> Tensor:
        """The clean image at noise level `sigma_model`: `c_skip x + c_out F(c_in x; c_noise)`.

        Args:
            x_BCHW: noisy images, model units.
            sigma_model: noise level, model units, in [sigma_min, sigma_max].
            labels_B: a class for each image, int64, instead of `class_label`.

        Returns:
            [B,C,H,W], model units, not clipped.
        """
        network = partial(self._output, labels_B=labels_B)
        return preconditioned(network, x_BCHW, self._scalings(sigma_model))

    def predict_noise(self, x_BCHW: Tensor, timestep: int, labels_B: Tensor | None = None) -> Tensor:
        """The unit-variance noise in `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n`, for a ddpm model.

        Args:
            x_BCHW: x_t, model units.
            timestep: t, from 0.
            labels_B: a class for each image, int64, instead of `class_label`.

        Returns:
            [B,C,H,W]; of a network that also predicts a variance, the first C channels.
        """
        return self.predict_noise_and_variance(x_BCHW, timestep, labels_B)[0]

    def predict_noise_and_variance(
        self, x_BCHW: Tensor, timestep: int, labels_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `predict_noise`, and the other channels: what a network with learned variance says of it, else none."""
        assert self.parametrisation == "ddpm"
        step = timestep if self.conditioning_scale == 1 else timestep * self.conditioning_scale
        dtype = torch.int64 if self.conditioning_scale == 1 else torch.float32
        timestep_B = torch.full((x_BCHW.shape[0],), step, dtype=dtype, device=x_BCHW.device)
        output = self._output(x_BCHW, timestep_B, labels_B).to(x_BCHW.dtype)
        return output[:, : self.channels], output[:, self.channels :]

    def _scalings(self, sigma_model: float) -> Scalings:
        assert self.parametrisation != "ddpm"
        if self.parametrisation == "edm":
            scalings = edm_scalings(sigma_model, self.sigma_data)
        else:
            scalings = consistency_scalings(sigma_model, self.sigma_data, self.sigma_min)
        return scalings._replace(c_noise=self.conditioning_scale * scalings.c_noise)

    def _output(self, x_BCHW: Tensor, conditioning_B: Tensor, labels_B: Tensor | None) -> Tensor:
        if labels_B is None and self.class_label is not None:
            labels_B = torch.full(
                (x_BCHW.shape[0],), self.class_label, dtype=torch.int64, device=x_BCHW.device
            )
        output_BCHW: Tensor = self.network(x_BCHW, conditioning_B, labels_B, return_dict=False)[0]
        return output_BCHW

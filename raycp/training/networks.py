"""Networks as the losses call them, and how a consistency model inherits a denoiser's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.maths import consistency_scalings, edm_scalings, preconditioned
from raycp.training.losses import Model


def edm_model(unet: nn.Module, sigma_data: float, conditioning_scale: float = 1.0) -> Model:
    """D(x; sigma) of a U-Net under EDM preconditioning; `conditioning_scale` as in `NoiseSchedule`."""

    def denoise(x_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        scalings = edm_scalings(sigma_B, sigma_data)
        return preconditioned(_output_of(unet, conditioning_scale), x_BCHW, scalings)

    return denoise


def consistency_model(
    unet: nn.Module, sigma_data: float, sigma_min: float, conditioning_scale: float = 1.0
) -> Model:
    """f(x, t) of a U-Net under the consistency parametrisation; `conditioning_scale` as in `NoiseSchedule`."""

    def purify(x_BCHW: Tensor, time_B: Tensor) -> Tensor:
        scalings = consistency_scalings(time_B, sigma_data, sigma_min)
        return preconditioned(_output_of(unet, conditioning_scale), x_BCHW, scalings)

    return purify


class OnModelUnits(nn.Module):
    """A classifier of pixels in [0,1] as the losses call it: on images in [-1,1]."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of images [B,C,H,W], model units."""
        logits_BK: Tensor = self.classifier((x_BCHW + 1) / 2)
        return logits_BK


def trainable(network: nn.Module, image_shape: tuple[int, ...]) -> nn.Module:
    """Put a network into train mode, and let all of it be trained that its output depends on.

    The rest (a mask token of pre-training, for example) has no gradient, which data-parallel workers would wait for.
    """
    network.eval().requires_grad_(True)
    device = next(network.parameters()).device
    network(torch.zeros(1, *image_shape, device=device)).sum().backward()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    return network.train()


def features_of(classifier: Any, images_BCHW: Tensor) -> list[Tensor]:
    """Features of model-unit images after the stem, every block and the last normalisation of a residual classifier."""
    features, h = [], images_BCHW
    for layer in (classifier.stem, *classifier.blocks):
        h = layer(h)
        features.append(h)
    return [*features, F.relu(classifier.norm(h))]


def inherit(student: Any, teacher: Any, times_N: Tensor) -> None:
    """Start a consistency model from a denoiser, exactly, at the times of its grid.

    Both are the same U-Net, but one is conditioned on `ln(s)/4` and the other on `250 ln(s)`. The student's first
    layer after the time embedding is solved for (least norm) so that its output at every time of the grid is the
    teacher's; all other weights are copied.

    Args:
        student, teacher: diffusers U-Nets of the same configuration.
        times_N: float64 [N], model units; N at most the width of the embedding, or the fit is by least squares.
    """
    student.load_state_dict(teacher.state_dict())
    layer = student.time_embedding.linear_1
    old = student.time_proj((times_N.log() / 4).float()).double()
    new = student.time_proj((250 * times_N.log()).float()).double()
    wanted = old @ layer.weight.double().T + layer.bias.double()
    ones = torch.ones(len(times_N), 1, dtype=torch.float64)
    solved = torch.linalg.lstsq(torch.cat([new, ones], dim=1), wanted, driver="gelsd").solution
    with torch.no_grad():
        layer.weight.copy_(solved[:-1].T)
        layer.bias.copy_(solved[-1])


def _output_of(unet: nn.Module, conditioning_scale: float) -> Callable[[Tensor, Tensor], Tensor]:
    def output(x_BCHW: Tensor, conditioning_B: Tensor) -> Tensor:
        predicted: Tensor = unet(x_BCHW, conditioning_scale * conditioning_B, return_dict=False)[0]
        return predicted

    return output

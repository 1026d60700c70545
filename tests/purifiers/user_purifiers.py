"""Purifiers as users write them, honest and faulty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor, float], Any]


def blur(size: int = 3) -> Function:
    return lambda x, sigma: F.avg_pool2d(x, size, 1, size // 2)


def exact(dtype: str = "float64") -> Function:
    """Outside of [0, 1], in another dtype."""
    return lambda x, sigma: (2 * x).to(getattr(torch, dtype))


class Shrink(nn.Module):
    """In training mode, in double precision, with gradients; at 0 noise the image."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((1,), strength, dtype=torch.float64))
        self.norm = nn.BatchNorm2d(1).double()

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        assert type(sigma) is float and not self.training and not torch.is_grad_enabled()
        return self.norm(x) / (1 + self.strength * sigma**2)


class Descent(nn.Module):
    """Minimises `|z - x|^2 + sigma |D z|^2` by gradient steps of its own."""

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone()
            z = x.clone().requires_grad_()
            for _ in range(3):
                smooth = (z[..., 1:] - z[..., :-1]).square().sum()
                (step,) = torch.autograd.grad((z - x).square().sum() + sigma * smooth, z)
                z = z - 0.1 * step
        return z


class Jitter:
    """Two noisy copies of each image, the mean of their logits; the noise is raycp's or, wrongly, torch's."""

    def __init__(self, keyed: bool = True, copies: int = 2, combined: str = "mean") -> None:
        self.keyed, self.copies, self.combined = keyed, copies, combined

    def images(self, x: Tensor, sigma: float, noise: Callable[[int], Tensor]) -> Iterator[Tensor]:
        for copy in range(self.copies if self.copies >= 0 else 1 + int((x == 0).any())):
            yield x + sigma * (noise(copy) if self.keyed else torch.randn_like(x))

    def combine(self, logits: Sequence[Tensor]) -> Any:
        total = torch.stack(tuple(logits))
        return {"mean": total.mean(dim=0), "all": total, "overlooks": total.mean(dim=0).nan_to_num()}[
            self.combined
        ]


def random_when_built() -> Function:
    scale = float(np.random.default_rng().uniform())
    return lambda x, sigma: scale * x


def seeded_when_built() -> Function:
    weight = torch.randn(1, 1, 3, 3)
    return lambda x, sigma: F.conv2d(x, weight, padding=1)


def batch_norm_in_training_mode() -> Function:
    network = nn.BatchNorm2d(1, track_running_stats=False)
    return lambda x, sigma: network(x)


def less_the_mean_of_the_batch() -> Function:
    return lambda x, sigma: x - x.mean(dim=0)


def by_the_faintest_of_the_batch() -> Function:
    """NaN beside an image of zeros."""

    def purify(x: Tensor, sigma: float) -> Tensor:
        faintest = x.flatten(1).square().sum(dim=1).min()
        return x * faintest / faintest

    return purify


def noise_by_place() -> Function:
    generator = torch.Generator()
    return lambda x, sigma: x + torch.randn(x.shape, generator=generator.manual_seed(0))


def drawing() -> Function:
    return lambda x, sigma: x + 0.01 * torch.randn_like(x)


def counting() -> Function:
    seen: list[Tensor] = []

    def purify(x: Tensor, sigma: float) -> Tensor:
        seen.append(x)
        return x / len(seen)

    return purify


def in_place() -> Function:
    return lambda x, sigma: x.clamp_(0, 1)


def not_finite(above: float = 0.0) -> Function:
    """NaN in one pixel of images whose mean is above a threshold."""

    def purify(x: Tensor, sigma: float) -> Tensor:
        x = x.clone()
        x[:, 0, 0, 0] = torch.where(x.mean(dim=(1, 2, 3)) > above, torch.nan, x[:, 0, 0, 0])
        return x

    return purify


def smaller() -> Function:
    return lambda x, sigma: x[..., 1:]


def pair() -> Function:
    return lambda x, sigma: (x, sigma)


def integers() -> Function:
    return lambda x, sigma: (255 * x).to(torch.uint8)


def failing() -> Function:
    return lambda x, sigma: F.conv2d(x, torch.zeros(1, 3, 1, 1))


def without_sigma() -> Any:
    return lambda x: x


def forward_without_sigma() -> nn.Module:
    return nn.Identity()


def text() -> str:
    return "blur"


def itself(x: Tensor, sigma: float) -> Tensor:
    """The purifier where its factory should be."""
    return x


def flat() -> nn.Module:
    """A classifier of digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

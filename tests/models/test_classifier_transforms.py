"""What stands between a pixel image and the classifier's network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.config.models import Resize
from raycp.models import (
    Classifier,
)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_pixels_are_resized_then_normalised_then_classified() -> None:
    x = images(2, 3, 4, 4) * 3 - 1  # outside [0,1], as purified images are: nothing may be clipped
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    resize = Resize(size=8, interpolation="bilinear", antialias=True)
    classifier = Classifier(nn.Identity(), 7, 3, resize, mean, std)
    up = F.interpolate(x, (8, 8), mode="bilinear", align_corners=False, antialias=True)
    expected = torch.stack([(up[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(classifier(x), expected)
    assert torch.equal(Classifier(nn.Identity(), 7)(x), x)


def test_resizing_modes_differ_and_keep_constants() -> None:
    x = images(1, 1, 9, 9)
    seen = []
    for interpolation in ("bilinear", "bicubic", "nearest"):
        for antialias in (True, False):
            resize = Resize(size=4, interpolation=interpolation, antialias=antialias)
            classifier = Classifier(nn.Identity(), 7, resize=resize)
            assert classifier(x).shape == (1, 1, 4, 4)
            torch.testing.assert_close(classifier(torch.full_like(x, 0.3)), torch.full((1, 1, 4, 4), 0.3))
            seen.append(classifier(x))
    distinct = {tuple(image.flatten().tolist()) for image in seen}
    assert len(distinct) == 5  # antialiasing does nothing to nearest neighbours

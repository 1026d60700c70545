"""What a network under training does on held-out images: accuracies, and how near purified images come.

The images are cut into batches that do not depend on the number of workers, and noise is keyed by (seed, noise level,
draw, batch): workers that share the batches add up the figures that one worker finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.training.distances import Distance

Purify = Callable[[Tensor, float], Tensor]
"""Purifies images [B, C, H, W] at a noise level, both in model units."""

_BATCH = 250


@dataclass(frozen=True)
class HeldOut:
    """Held-out images, and how they are shared and looked at.

    Attributes:
        images_MCHW: uint8.
        labels_M: int64.
        sigmas: noise levels, pixel units.
        draws: of noise, for each image and noise level.
        seed: of the noise.
        rank, world_size: of this worker.
        device: of the networks.
        add_up: sum of a tensor over all workers.
    """

    images_MCHW: np.ndarray
    labels_M: np.ndarray
    sigmas: Sequence[float]
    draws: int
    seed: int
    rank: int
    world_size: int
    device: torch.device
    add_up: Callable[[Tensor], Tensor]

    def of_classifier(self, classify: nn.Module, sigma: float, purify: Purify | None) -> dict[str, float]:
        """Accuracy and mean cross-entropy on clean images, and accuracy at the noise it is trained on, if any."""
        sums_2 = torch.zeros(2, dtype=torch.float64)
        for _, x_BCHW, label_B in self._batches():
            logits_BK = classify(x_BCHW).float()
            sums_2 += torch.stack([_right(logits_BK, label_B), _cross_entropy(logits_BK, label_B)])
        right, cross_entropy = (self._add_up(sums_2) / len(self.labels_M)).tolist()
        metrics = {"accuracy": right, "cross_entropy": cross_entropy}
        if sigma:
            sums_1 = torch.zeros(1, dtype=torch.float64)
            for number, x_BCHW, label_B in self._batches():
                for draw in range(self.draws):
                    x_noisy = self._noisy(x_BCHW, sigma, draw, number)
                    seen = x_noisy if purify is None else purify(x_noisy, 2 * sigma)
                    sums_1 += _right(classify(seen), label_B)
            name = "noisy" if purify is None else "purified"
            metrics[f"{name}_accuracy@{sigma:g}"] = self._mean(sums_1)[0]
        return metrics

    def of_purifier(
        self, purify: Purify, judge: nn.Module | None, perceptual: Distance | None
    ) -> dict[str, float]:
        """Means over images and draws: L2 distance to the clean image (pixel units), LPIPS, accuracy.

        Args:
            purify: what is trained.
            judge: the classifier whose accuracy on purified images is wanted.
            perceptual: the LPIPS distance, [B].
        """
        metrics = {}
        for sigma in self.sigmas:
            sums_3 = torch.zeros(3, dtype=torch.float64)
            for number, x_BCHW, label_B in self._batches():
                for draw in range(self.draws):
                    purified = purify(self._noisy(x_BCHW, sigma, draw, number), 2 * sigma).float()
                    sums_3[0] += (purified - x_BCHW).double().flatten(1).norm(dim=1).sum().cpu() / 2
                    if perceptual is not None:
                        sums_3[1] += perceptual(purified, x_BCHW).double().sum().cpu()
                    if judge is not None:
                        sums_3[2] += _right(judge(purified), label_B)
            l2, lpips, right = self._mean(sums_3)
            metrics[f"l2@{sigma:g}"] = l2
            if perceptual is not None:
                metrics[f"lpips@{sigma:g}"] = lpips
            if judge is not None:
                metrics[f"purified_accuracy@{sigma:g}"] = right
        return metrics

    def examples(self, purify: Purify, count: int) -> np.ndarray:
        """Clean, noisy and purified pixels of the first images at each noise level, uint8 [sigmas, 3, B, C, H, W]."""
        x_BCHW = self._model_units(self.images_MCHW[:count])
        levels = []
        for sigma in self.sigmas:
            x_noisy = self._noisy(x_BCHW, sigma, 0, 0)
            levels.append(torch.stack([x_BCHW, x_noisy, purify(x_noisy, 2 * sigma).float()]))
        pixels = ((torch.stack(levels) + 1) * 127.5).round().clamp(0, 255)
        return pixels.to(torch.uint8).cpu().numpy()

    def _batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        for number in range(self.rank, -(-len(self.labels_M) // _BATCH), self.world_size):
            rows = slice(number * _BATCH, (number + 1) * _BATCH)
            label_B = torch.from_numpy(np.array(self.labels_M[rows])).to(self.device)
            yield number, self._model_units(self.images_MCHW[rows]), label_B

    def _model_units(self, images: np.ndarray) -> Tensor:
        return (torch.from_numpy(np.array(images)).float() / 127.5 - 1).to(self.device)

    def _noisy(self, x_BCHW: Tensor, sigma: float, draw: int, number: int) -> Tensor:
        key = [self.seed, int(np.float64(sigma).view(np.uint64)), draw, number]
        word = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(word >> np.uint64(1)))
        noise_BCHW = torch.randn(x_BCHW.shape, generator=generator).to(self.device)
        return x_BCHW + 2 * sigma * noise_BCHW

    def _add_up(self, sums: Tensor) -> Tensor:
        return self.add_up(sums.to(self.device)).cpu()

    def _mean(self, sums: Tensor) -> list[float]:
        means: list[float] = (self._add_up(sums) / (len(self.labels_M) * self.draws)).tolist()
        return means


def _right(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    return (logits_BK.argmax(dim=1) == label_B).sum().double().cpu()


def _cross_entropy(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    return F.cross_entropy(logits_BK, label_B, reduction="sum").double().cpu()

"""What a kernel needs beside the base classifier to count for a composition: selector and core.

Counts are over 2K outcomes: a sample of class c is outcome `c` where the selector chooses the core, and `K + c` where
it chooses the certified classifier; [2K] counts are [2, K] ones in the order of `raycp.statistics.composition`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raycp.statistics.composition import CERTIFIED, CORE


def normalised_entropy(logits_BK: torch.Tensor) -> torch.Tensor:
    """`raycp.statistics.normalised_entropy` on a device: float64 [B], at most 1; NaN where a logit is not finite."""
    log_p_BK = logits_BK.double().log_softmax(dim=1)
    entropy_B = -(log_p_BK.exp() * log_p_BK).sum(dim=1)
    # Rounded, the entropy of equal logits may exceed log K; threshold 1 is to choose every sample.
    return (entropy_B / math.log(logits_BK.shape[1])).clamp(max=1.0)


@dataclass(frozen=True)
class Composition:
    """The selector's threshold, and the core with the images it sees.

    Attributes:
        threshold: of the normalised entropy, in [0, 1]; the selector chooses the certified classifier up to it.
        core: images [1, C, H, W], pixel units, to logits [1, K].
        images: of the run, [M, C, H, W], uint8; or float32 in [0, 1].
        device: of the core.
    """

    threshold: float
    core: Callable[[torch.Tensor], torch.Tensor]
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    device: torch.device

    def outcomes(self, logits_BK: torch.Tensor) -> torch.Tensor:
        """Outcome of each sample, int64 [B]; of no meaning where a logit is not finite."""
        K = logits_BK.shape[1]
        chosen_B = normalised_entropy(logits_BK) <= self.threshold
        return logits_BK.argmax(dim=1) + K * torch.where(chosen_B, CERTIFIED, CORE)

    def core_logits(self, image: int) -> torch.Tensor:
        """Logits [1, K] of the core for an image of the run, by itself in a batch: a function of this image alone."""
        stored = self.images[image : image + 1]
        x_1CHW = torch.from_numpy(np.array(stored)).to(self.device)
        x_1CHW = x_1CHW.float().div_(255) if stored.dtype == np.uint8 else x_1CHW.float()
        return self.core(x_1CHW)

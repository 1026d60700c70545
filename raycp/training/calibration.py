"""The loss that calibrates a one-step denoiser to a classifier: consistent where the image can be recovered.

m noisy copies of an image are denoised and classified: `p^i` are the probabilities of copy i and `q = mean_i p^i`. The
image is *recoverable* at its noise level if q is largest at the label.

Units: model units, images in [-1, 1], as in raycp/training/losses.py. Shapes: x_BCHW clean images; label_B int64;
noises_mBCHW standard normal, m copies; sigma_B one noise level per image; p_mBK probabilities over K classes.

Source: the aim is that of Jeong & Shin 2023, arXiv 2310.16779, abstract: "to perform consistent denoising whenever the
original image is recoverable, but to generate rather diverse outputs otherwise". The formulas of their objective could
not be read; those here are a reconstruction. See docs/calibration.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from raycp.training.losses import Model, denoising_error, noisy

# Logits [B, K] of model-unit images [B, C, H, W].
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CalibrationWeights:
    """Weights of the three terms, each at least 0."""

    denoising: float
    brier: float
    anti_consistency: float


def calibration_loss(
    denoise: Model,
    classify: Network,
    x_BCHW: Tensor,
    label_B: Tensor,
    noises_mBCHW: Tensor,
    sigma_B: Tensor,
    sigma_data: float,
    weights: CalibrationWeights,
) -> Tensor:
    """`lam_d E + lam_b S + lam_a (1 - r) A`, [B].

    E is the mean over copies of the EDM-weighted squared error of the denoised image, S the Brier score, A the
    agreement on wrong classes, and r is 1 where the image is recoverable, else 0. All m copies go through the networks
    in one batch of m B images, so `denoise` is called once. Gradients flow through the classifier, not into r.

    Args:
        denoise: what is trained, called with noisy images and their noise levels.
        classify: the classifier that guides it; its weights should be frozen.
        sigma_data: standard deviation of the data, of the EDM weight.
    """
    m, B = noises_mBCHW.shape[:2]
    repeated_mB = sigma_B.repeat(m)
    x_mBCHW = x_BCHW.repeat(m, 1, 1, 1)
    denoised_mBCHW = denoise(noisy(x_mBCHW, noises_mBCHW.flatten(0, 1), repeated_mB), repeated_mB)
    error_B = denoising_error(denoised_mBCHW, x_mBCHW, repeated_mB, sigma_data).view(m, B).mean(dim=0)
    # In float32 under autocast too: 1 - p would lose a confident classifier's probabilities.
    p_mBK = classify(denoised_mBCHW).float().softmax(dim=-1).view(m, B, -1)
    lost_B = (~recoverable(p_mBK, label_B)).to(p_mBK.dtype)
    return (
        weights.denoising * error_B
        + weights.brier * brier_score(p_mBK, label_B)
        + weights.anti_consistency * lost_B * wrong_agreement(p_mBK, label_B)
    )


def recoverable(p_mBK: Tensor, label_B: Tensor) -> Tensor:
    """Whether the mean probabilities of the copies are largest at the label, bool [B]; a tie is not enough."""
    q_BK = p_mBK.detach().mean(dim=0)
    at_label_B = q_BK.gather(-1, label_B[:, None])[:, 0]
    return at_label_B > _without_label(q_BK, label_B).amax(dim=-1)


def brier_score(p_mBK: Tensor, label_B: Tensor) -> Tensor:
    """`mean_i |p^i - e_y|^2`, from 0 (sure of the label) to 2 (sure of another class), [B].

    It is `|q - e_y|^2 + mean_i |p^i - q|^2`: how far the mean is off, and how much the copies differ.

    Source: Brier 1950, for several classes.
    """
    return (p_mBK - F.one_hot(label_B, p_mBK.shape[-1])).square().sum(dim=-1).mean(dim=0)


def wrong_agreement(p_mBK: Tensor, label_B: Tensor) -> Tensor:
    """`mean_{i != j} sum_{k != y} p^i_k p^j_k`: the probability that two copies agree on a wrong class, [B].

    Classes are drawn from the probabilities of two different copies. 1: all copies are sure of the same wrong class; 0:
    no wrong class is possible for two of them. For one-hot copies it is 0 as soon as they all differ. A polynomial, so
    that its gradient is finite everywhere.

    Args:
        p_mBK: of at least two copies.
    """
    m = len(p_mBK)
    wrong_mBK = _without_label(p_mBK, label_B)
    # The sum over i != j from two sums over i: |sum_i w^i|^2 - sum_i |w^i|^2.
    pairs_B = wrong_mBK.sum(dim=0).square().sum(dim=-1) - wrong_mBK.square().sum(dim=(0, -1))
    return pairs_B / (m * (m - 1))


def _without_label(p: Tensor, label_B: Tensor) -> Tensor:
    """Probabilities [..., B, K] with 0 at the label."""
    return p * (1 - F.one_hot(label_B, p.shape[-1])).to(p.dtype)

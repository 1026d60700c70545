"""Losses of base classifiers that see Gaussian noise, each a pure function of a network, images and given noise.

Units: images are in [0, 1] and `sigma` is the noise there (pixel units), as in certification. The network takes model
units, as everywhere in training, so it is called with `2 (x + sigma n) - 1`. Noisy images are not clipped.

Shapes: x_BCHW clean images; label_B int64; noise_BCHW and noises_mBCHW standard normal; logits [B, K], K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

# Logits [B, K] of model-unit images [B, C, H, W].
Network = Callable[[Tensor], Tensor]


def gaussian_loss(
    network: Network,
    x_BCHW: Tensor,
    label_B: Tensor,
    noise_BCHW: Tensor,
    sigma: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-ln p_y(x + sigma n)`: cross-entropy at a noisy image, [B].

    Args:
        sigma: noise level, pixel units; 0 trains on clean images.
        label_smoothing: share of the label's mass that is spread over all classes, in [0, 1).

    Source: Cohen et al. 2019, arXiv 1902.02918, training with Gaussian data augmentation, as in the authors' code.
    """
    logits_BK = network(_noisy(x_BCHW, noise_BCHW, sigma))
    return F.cross_entropy(logits_BK, label_B, reduction="none", label_smoothing=label_smoothing)


def consistency_regularised_loss(
    network: Network,
    x_BCHW: Tensor,
    label_B: Tensor,
    noises_mBCHW: Tensor,
    sigma: float,
    lam: float,
    eta: float,
) -> Tensor:
    """`mean_i -ln p_y^i + lam mean_i KL(q || p^i) + eta H(q)`, [B].

    `p^i` are the probabilities at `x + sigma n_i` and `q = mean_i p^i`. Gradients flow through `q` as well. All m
    copies go through the network in one batch of m B images.

    Args:
        noises_mBCHW: m independent draws for every image; with m = 1 the divergence is 0.
        sigma: noise level, pixel units.
        lam: weight of the divergence, at least 0.
        eta: weight of the entropy of the mean, at least 0.

    Source: Jeong & Shin 2020, arXiv 2006.04062, as in the authors' code (its form "default": m = 2, lam 5 to 20,
    eta 0.5), without their bound of 1e-20 on `q` inside the logarithm, which logarithms of sums make needless.
    """
    m = len(noises_mBCHW)
    logits_mBK = network(_noisy(x_BCHW, noises_mBCHW, sigma).flatten(0, 1)).reshape(m, len(x_BCHW), -1)
    log_p_mBK = logits_mBK.log_softmax(dim=-1)
    log_q_BK = log_p_mBK.logsumexp(dim=0) - math.log(m)
    q_BK = log_q_BK.exp()
    likelihood_mB = log_p_mBK.gather(-1, label_B.expand(m, -1)[..., None])[..., 0]
    divergence_mB = (q_BK * (log_q_BK - log_p_mBK)).sum(dim=-1)
    entropy_B = -(q_BK * log_q_BK).sum(dim=-1)
    return -likelihood_mB.mean(dim=0) + lam * divergence_mB.mean(dim=0) + eta * entropy_B


def _noisy(x_BCHW: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Noisy images in model units; `noise` may have an axis of copies in front."""
    return 2 * (x_BCHW + sigma * noise) - 1

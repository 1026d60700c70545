"""From the logits of several images of a sample to those of the sample. Shapes: M images, B samples, K classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def majority_vote(logits: Sequence[Tensor]) -> Tensor:
    """`M n_k - j_k`: n_k images vote for class k, the first of them is number j_k (from 0; M where none does).

    The largest is the class with the most votes; of those with equally many, the one that the earliest image voted
    for, as in the authors' merge of DensePure's runs. The images of a sample are exchangeable, so this favours no
    class. NaN where a logit of any image is not finite: a broken image is no vote.

    Args:
        logits: M tensors [B,K].

    Returns:
        Float32 [B,K]; whole numbers, exact for M up to 4,096.
    """
    logits_MBK = torch.stack(tuple(logits))
    M, _, K = logits_MBK.shape
    voted_MBK = F.one_hot(logits_MBK.argmax(dim=2), K)
    number_M11 = torch.arange(M, device=logits_MBK.device)[:, None, None]
    first_BK = torch.where(voted_MBK == 1, number_M11, M).amin(dim=0)
    score_BK = (M * voted_MBK.sum(dim=0) - first_BK).float()
    return _where_finite(logits_MBK, score_BK)


def mean_softmax(logits: Sequence[Tensor]) -> Tensor:
    """The mean of `softmax(logits)` over M tensors [B,K]: [B,K]; NaN where a logit of any image is not finite."""
    logits_MBK = torch.stack(tuple(logits))
    # One after the other: torch's reduction over M adds in another order in the last columns of a batch.
    total_BK = torch.zeros_like(logits_MBK[0])
    for logits_BK in logits_MBK:
        total_BK += logits_BK.softmax(dim=1)
    return _where_finite(logits_MBK, total_BK / len(logits_MBK))


def _where_finite(logits_MBK: Tensor, result_BK: Tensor) -> Tensor:
    finite_B = logits_MBK.isfinite().all(dim=2).all(dim=0)
    return torch.where(finite_B[:, None], result_BK, torch.nan)

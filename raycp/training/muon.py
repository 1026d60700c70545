"""Muon: momentum made orthogonal, for the convolutions of networks that must learn a lot in few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_EPS = 1e-7
_RMS = 0.2
"""Root mean square of the elements of an update of AdamW, roughly."""


class Muon(torch.optim.Optimizer):
    """`W <- (1 - lr weight_decay) W - 0.2 lr sqrt(max(m, n)) U` for kernels W of m filters of n elements.

    U is the Nesterov momentum of the gradient with its singular values brought near 1. The factor gives updates the
    size of AdamW's, so that both can share a learning rate. Unlike `torch.optim.Muon` it takes kernels of any shape and
    computes in their dtype: bfloat16 is emulated, slowly, on many CPUs.

    Args:
        params: kernels [m, ...].
        lr: learning rate.
        momentum: decay of the mean of the gradients.
        weight_decay: decoupled from the gradient.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the factor: Liu et al. 2025, arXiv 2502.16982, 2.2.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["mean"] = torch.zeros_like(param)
                mean = state["mean"].lerp_(param.grad, 1 - group["momentum"])
                update_mn = orthogonal(param.grad.lerp(mean, group["momentum"]).flatten(1))
                rate = group["lr"] * _RMS * max(update_mn.shape) ** 0.5
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update_mn.reshape(param.shape), alpha=-rate)


def orthogonal(matrix_mn: Tensor) -> Tensor:
    """The same singular vectors [m, n], with singular values of 0.6 to 1.2 where they were not tiny.

    Five Newton-Schulz steps with a polynomial that is steep at 0; see `Muon` for the source.
    """
    tall = matrix_mn.shape[0] > matrix_mn.shape[1]
    x = matrix_mn.T if tall else matrix_mn
    x = x / x.norm().clamp(min=_EPS)
    a, b, c = _QUINTIC
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x

"""One stage of training: steps of an optimiser with warm-up, clipping and an average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raycp.config.stages import StageConfig
from raycp.errors import TrainingError
from raycp.training.muon import Muon


class StageTraining:
    """The state of one stage: everything that a checkpoint must hold to go on bit for bit.

    Args:
        config: of the stage.
        network: what is trained, as the loss calls it (it may be wrapped for data parallelism).
        plain: the same network without a wrapper, whose weights are averaged and kept.
        loss: of a part of a step's share, [B]; called with the step and the part.
        target: a slowly following copy of the network, if the loss wants one.
        target_decay: of `target`.
        over_workers: mean of a tensor over all workers: of the loss, so that all of them stop where it is not finite,
            and of the running statistics of batch normalisation, each worker's being those of its share.
    """

    def __init__(
        self,
        config: StageConfig,
        network: nn.Module,
        plain: nn.Module,
        loss: Callable[[int, int], Tensor],
        target: nn.Module | None = None,
        target_decay: float = 0.0,
        over_workers: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> None:
        self._over_workers = over_workers
        self._config = config
        self._network = network
        self._plain = plain
        self._loss = loss
        self._target = target
        self._target_decay = target_decay
        self.average = copy.deepcopy(plain).requires_grad_(False)
        self.step = 0
        self._statistics = running_statistics(plain)
        self._optimizers = _optimizers(config, network)

    def run(self) -> Iterator[float]:
        """Make the remaining steps; yields the loss of each.

        Raises:
            TrainingError: the loss is NaN or infinite.
        """
        config = self._config
        while self.step < config.steps:
            rate = config.learning_rate * schedule(self.step, config.steps, config.warmup_steps)
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
            value = self._over_workers(self._accumulated_gradient()).item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss of stage {config.name} is {value} at step {self.step}. Look for NaN in the "
                    "training images and in the models it starts from; otherwise lower learning_rate or clip_norm."
                )
            nn.utils.clip_grad_norm_(self._network.parameters(), config.clip_norm)
            for optimizer in self._optimizers:
                optimizer.step()
            self._share_statistics()
            # At the start the average forgets faster, so that it is not held back by the first weights.
            self._follow(self.average, min(config.ema_decay, (1 + self.step) / (10 + self.step)))
            if self._target is not None:
                self._follow(self._target, self._target_decay)
            self.step += 1
            yield value

    def _accumulated_gradient(self) -> Tensor:
        """Add up the gradients of all parts of this worker's share; returns the mean loss."""
        parts = self._config.accumulate
        device = next(self._plain.parameters()).device
        total = torch.zeros((), device=device)
        for part in range(parts):
            # DistributedDataParallel averages over workers in the last backward pass alone.
            network, last = self._network, part == parts - 1
            apart = isinstance(network, DistributedDataParallel) and not last
            with network.no_sync() if apart else nullcontext():  # type: ignore[operator]
                with torch.autocast(device.type, torch.bfloat16, enabled=self._config.dtype == "bfloat16"):
                    loss = self._loss(self.step, part).float().mean() / parts
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def state(self) -> dict[str, Any]:
        """For a checkpoint: tensors and numbers only."""
        return {
            "step": self.step,
            "network": self._plain.state_dict(),
            "average": self.average.state_dict(),
            "target": None if self._target is None else self._target.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step = state["step"]
        self._plain.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if self._target is not None:
            self._target.load_state_dict(state["target"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    @torch.no_grad()
    def _share_statistics(self) -> None:
        if self._statistics:
            mean = self._over_workers(torch.cat(self._statistics))
            parts = torch.split_with_sizes(mean, [len(statistic) for statistic in self._statistics])
            torch._foreach_copy_(self._statistics, parts)

    @torch.no_grad()
    def _follow(self, follower: nn.Module, decay: float) -> None:
        followers = [*follower.parameters(), *running_statistics(follower)]
        torch._foreach_lerp_(followers, [*self._plain.parameters(), *self._statistics], 1 - decay)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances of all batch normalisations, [C] each.

    Their counters are left out: they have no effect at a fixed momentum.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]
    found = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
    return [statistic for statistic in found if statistic is not None]


def _optimizers(config: StageConfig, network: nn.Module) -> list[torch.optim.Optimizer]:
    """One for all parameters, or Muon for the kernels of convolutions and AdamW for the rest."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "radam":
        return [torch.optim.RAdam(parameters, rate, weight_decay=decay, decoupled_weight_decay=True)]
    if config.optimizer == "adamw":
        # Fused into one pass over the weights; PyTorch has no such RAdam.
        return [torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)]
    kernels = [parameter for parameter in parameters if parameter.ndim == 4]
    others = [parameter for parameter in parameters if parameter.ndim != 4]
    return [
        Muon(kernels, rate, weight_decay=decay),
        torch.optim.AdamW(others, rate, weight_decay=decay, fused=True),
    ]


def schedule(step: int, steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate: linear warm-up times half a cosine."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))

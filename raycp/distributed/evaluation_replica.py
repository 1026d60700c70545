"""A replica that measures purified images. No Ray in here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raycp.distributed.replica import Replica, ReplicaSpec
from raycp.models import Bundle
from raycp.models.features import build_features
from raycp.sampling.blocks import Block
from raycp.sampling.measure import Measurer
from raycp.training.perceptual import lpips_distance


@dataclass(frozen=True)
class EvaluationSpec(ReplicaSpec):
    """See `ReplicaSpec`.

    Attributes:
        features: the feature network's weights; None: no FID.
        perceptual: the LPIPS backbone's weights; None: none, or those that torchvision has in its cache.
        keep: number of leading images whose purified pixels are wanted.
    """

    features: Bundle | None
    perceptual: dict[str, np.ndarray] | None
    keep: int

    def build(self) -> EvaluationReplica:
        """The replica, in this process."""
        return EvaluationReplica(self)


class EvaluationReplica(Replica):
    """Answers tasks with `Measured`; its purifier and classifier run as in certification."""

    def __init__(self, spec: EvaluationSpec) -> None:
        super().__init__(spec)
        self._evaluation = spec
        self._measurer: Measurer | None = None

    def prepare(self, batch_size: int) -> str:
        """See `Replica`."""
        numerics = super().prepare(batch_size)
        spec = self._evaluation
        backbone = self._config.evaluate.perceptual
        lpips = None
        if backbone is not None:
            state = spec.perceptual
            tensors = None if state is None else {name: torch.tensor(array) for name, array in state.items()}
            lpips = lpips_distance(backbone.net, tensors, backbone.resize).to(self._device)
        features = None if spec.features is None else build_features(spec.features).to(self._device)
        self._measurer = Measurer(
            self.base_classifier, self._noise, spec.images, batch_size, features, lpips, spec.keep
        )
        self._measurer.self_test(self._config.certify.sigmas[0])
        return numerics

    def run(self, sigma: float, blocks: Sequence[Block]) -> tuple[Any, float]:
        """`Measured` of the blocks, and the seconds it took."""
        assert self._measurer is not None, "prepare comes first"
        start = time.perf_counter()
        return self._measurer.run(sigma, blocks), time.perf_counter() - start

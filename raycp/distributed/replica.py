"""A replica: purifier and classifier on one device, and the kernel that draws with them. No Ray in here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raycp.config import RunConfig, parse_config
from raycp.distributed.hardware import keep_freed_memory
from raycp.errors import ClusterError
from raycp.models import Bundle, build_classifier, build_denoiser
from raycp.purifiers import build_purifier
from raycp.sampling.base_classifier import BaseClassifier, numerics_class, prepare_network, set_determinism
from raycp.sampling.batch_size import fastest_batch_size
from raycp.sampling.blocks import Block
from raycp.sampling.kernel import Examples, Kernel
from raycp.sampling.noise import make_noise


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything a replica needs; it reads no files. Arrays travel through the object store once per node.

    Attributes:
        config: resolved RunConfig as plain JSON values.
        purifier: the denoiser's weights; None for plain smoothing.
        classifier: the classifier's weights.
        images: [M, C, H, W], uint8 (float32 for float noise on other images).
        image_index: int64 [M].
        num_classes: K.
        device: `cpu` or `cuda`.
    """

    config: dict[str, Any]
    purifier: Bundle | None
    classifier: Bundle
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    image_index: npt.NDArray[np.int64]
    num_classes: int
    device: str

    def build(self) -> Replica:
        """The replica, in this process."""
        return Replica(self)


class Replica:
    """Builds the models on its device and answers tasks.

    Raises:
        ClusterError: the spec wants a GPU that this process does not see.
    """

    def __init__(self, spec: ReplicaSpec) -> None:
        self._spec = spec
        self._config = parse_config(RunConfig, spec.config)
        self._numerics = self._config.numerics
        keep_freed_memory()
        set_determinism(self._numerics.threads)
        if spec.device == "cuda" and not torch.cuda.is_available():
            raise ClusterError(
                "a replica was asked to run on a GPU, but torch sees none in its process; install a CUDA build of "
                "torch on that node, or set numerics.device to cpu."
            )
        self._device = torch.device(spec.device)
        self._limit_memory()
        self.base_classifier = self._build()
        self._noise = make_noise(
            self._config.certify.noise, spec.images, spec.image_index, self._config.certify.seed, self._device
        )
        self._kernel: Kernel | None = None

    def choose_batch_size(self) -> int:
        """The batch size with the most samples per second here."""
        sigma = self._config.certify.sigmas[0]
        return fastest_batch_size(lambda size: self._make_kernel(size), sigma, self._device)

    def prepare(self, batch_size: int) -> str:
        """Fix the batch shape and test it.

        Returns:
            The numerics class.

        Raises:
            NumericsError: the self-test failed.
        """
        self._kernel = self._make_kernel(batch_size)
        for sigma in self._config.certify.sigmas:
            self._kernel.self_test(sigma)
        kind = self._spec.classifier.recipe["kind"]  # of the network, whatever directory it is in
        return numerics_class(self._numerics, self._device, batch_size, kind)

    def run(self, sigma: float, blocks: Sequence[Block]) -> tuple[Any, float]:
        """Class counts of the blocks, int64 [R, K + 1], and the seconds it took."""
        assert self._kernel is not None, "prepare comes first"
        start = time.perf_counter()
        counts = self._kernel.run(sigma, blocks)
        return counts, time.perf_counter() - start

    def examples(self, sigma: float, images: Sequence[int]) -> Examples:
        """One noisy and purified sample of each image."""
        assert self._kernel is not None, "prepare comes first"
        return self._kernel.examples(sigma, images)

    def _make_kernel(self, batch_size: int) -> Kernel:
        return Kernel(self.base_classifier, self._noise, self._spec.num_classes, batch_size)

    def _build(self) -> BaseClassifier:
        self.denoiser = None
        if self._spec.purifier is not None:
            self.denoiser = build_denoiser(self._spec.purifier)
            self.denoiser.network = prepare_network(self.denoiser.network, self._numerics, self._device)
        self.classifier = build_classifier(self._spec.classifier).to(self._device)
        self.classifier.network = prepare_network(self.classifier.network, self._numerics, self._device)
        return BaseClassifier(
            purify=build_purifier(self._config.purifier, self.denoiser, self.classifier),
            classify=self.classifier,
            device=self._device,
            dtype=torch.bfloat16 if self._numerics.dtype == "bfloat16" else torch.float32,
            channels_last=bool(self._numerics.channels_last),
        )

    def _limit_memory(self) -> None:
        """Keep replicas that share a GPU to their part of it: Ray divides GPUs in name only."""
        fraction = self._config.engine.gpus_per_replica
        if self._device.type == "cuda" and 0 < fraction < 1:
            torch.cuda.set_per_process_memory_fraction(0.95 * fraction)

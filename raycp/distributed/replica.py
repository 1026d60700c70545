"""A replica: purifier and classifier on one device, and the kernel that draws with them. No Ray in here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from raycp.config import RunConfig, parse_config
from raycp.config.models import PythonPurifier
from raycp.distributed.hardware import keep_freed_memory
from raycp.errors import ClusterError
from raycp.models import (
    Bundle,
    Classifier,
    Denoiser,
    build_classifier,
    build_denoiser,
    build_python_purifier,
)
from raycp.purifiers import build_purifier
from raycp.purifiers.python import hold_to_contract, network_of
from raycp.sampling.base_classifier import (
    BaseClassifier,
    Purifier,
    RandomPurifier,
    numerics_class,
    prepare_network,
    set_determinism,
)
from raycp.sampling.batch_size import fastest_batch_size
from raycp.sampling.blocks import Block
from raycp.sampling.composition import Composition
from raycp.sampling.kernel import Examples, Kernel
from raycp.sampling.noise import make_noise


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything a replica needs; it reads no files. Arrays travel through the object store once per node.

    Attributes:
        config: resolved RunConfig as plain JSON values.
        purifier: the purifier's weights; None for plain smoothing.
        classifier: the classifier's weights.
        images: [M, C, H, W], uint8 (float32 for float noise on other images).
        image_index: int64 [M].
        num_classes: K.
        device: `cpu` or `cuda`.
        core: the weights of a composition's core; None for a smoothed classifier alone.
    """

    config: dict[str, Any]
    purifier: Bundle | None
    classifier: Bundle
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    image_index: npt.NDArray[np.int64]
    num_classes: int
    device: str
    core: Bundle | None = field(default=None, kw_only=True)

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
        self.core = self._build_core()
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
        networks = [bundle for bundle in (self._spec.classifier, self._spec.core) if bundle is not None]
        kinds = [bundle.recipe["kind"] for bundle in networks]  # whatever directory they are in
        return numerics_class(self._numerics, self._device, batch_size, *kinds)

    def run(self, sigma: float, blocks: Sequence[Block]) -> tuple[Any, float]:
        """Counts of the blocks, int64 [R, O + 1], see `Kernel.run`, and the seconds it took."""
        assert self._kernel is not None, "prepare comes first"
        start = time.perf_counter()
        counts = self._kernel.run(sigma, blocks)
        return counts, time.perf_counter() - start

    def examples(self, sigma: float, images: Sequence[int]) -> Examples:
        """One noisy and purified sample of each image."""
        assert self._kernel is not None, "prepare comes first"
        return self._kernel.examples(sigma, images)

    def core_logits(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, K] of the core, float32: without a purifier, but under the numerics of the others."""
        assert self.core is not None, "only a composition has a core"
        return replace(self.base_classifier, classify=self.core).classified(x_BCHW)

    def _make_kernel(self, batch_size: int) -> Kernel:
        return Kernel(
            self.base_classifier, self._noise, self._spec.num_classes, batch_size, self._composition()
        )

    def _composition(self) -> Composition | None:
        if self.core is None or self._config.composition is None:
            return None
        threshold = self._config.composition.threshold
        return Composition(threshold, self.core_logits, self._spec.images, self._device)

    def _build(self) -> BaseClassifier:
        self.classifier = self._classifier(self._spec.classifier)
        return BaseClassifier(
            purify=self._build_purifier(),
            classify=self.classifier,
            device=self._device,
            dtype=torch.bfloat16 if self._numerics.dtype == "bfloat16" else torch.float32,
            channels_last=bool(self._numerics.channels_last),
        )

    def _build_purifier(self) -> Purifier | RandomPurifier:
        config, bundle = self._config.purifier, self._spec.purifier
        self.denoiser: Denoiser | None = None
        self.purifier_network: nn.Module | None = None
        if isinstance(config, PythonPurifier):
            assert bundle is not None
            own = build_python_purifier(bundle)
            if isinstance(own, nn.Module):
                own = prepare_network(own, self._numerics, self._device)
            self.purifier_network = network_of(own)
            return hold_to_contract(config, own)
        if bundle is not None:
            self.denoiser = build_denoiser(bundle)
            self.denoiser.network = prepare_network(self.denoiser.network, self._numerics, self._device)
            self.purifier_network = self.denoiser.network
        return build_purifier(config, self.denoiser, self.classifier)

    def _build_core(self) -> Classifier | None:
        assert (self._spec.core is None) == (self._config.composition is None)
        return None if self._spec.core is None else self._classifier(self._spec.core)

    def _classifier(self, bundle: Bundle) -> Classifier:
        classifier = build_classifier(bundle).to(self._device)
        classifier.network = prepare_network(classifier.network, self._numerics, self._device)
        return classifier

    def _limit_memory(self) -> None:
        """Keep replicas that share a GPU to their part of it: Ray divides GPUs in name only."""
        fraction = self._config.engine.gpus_per_replica
        if self._device.type == "cuda" and 0 < fraction < 1:
            torch.cuda.set_per_process_memory_fraction(0.95 * fraction)

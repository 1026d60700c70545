"""The base classifier: everything that happens to a noisy image, executed under fixed numerics."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from raycp.config.certify import Numerics
from raycp.sampling.inner_noise import InnerNoise, inner_noise_by_place

Purifier = Callable[[torch.Tensor, float], torch.Tensor]


@runtime_checkable
class RandomPurifier(Protocol):
    """A purifier that draws: several images of every sample, whose logits become those of the sample."""

    def images(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        """Its images, [B, C, H, W] each, pixel units; all that is random in them comes from `noise`."""
        ...

    def combine(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits [B, K] of the samples from those of each of their images; not finite where any of those is not."""
        ...


@dataclass(frozen=True)
class BaseClassifier:
    """Purify, then classify: one function of a noisy image and, if the purifier draws, of its inner noise.

    A base classifier that draws is certified as any other: its samples are independent when each has its own inner
    noise, so that class counts are binomial with the probability of a class over both noises, which is what Gaussian
    smoothing of `x -> P(class | x)` bounds. It is deterministic given both, for one batch shape.

    Attributes:
        purify: noisy images [B, C, H, W] and sigma, both pixel units, to purified images of the same shape; or what
            makes several of them by drawing.
        classify: images to logits [B, K].
    """

    purify: Purifier | RandomPurifier
    classify: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @property
    def draws(self) -> bool:
        """Whether it needs inner noise."""
        return isinstance(self.purify, RandomPurifier)

    @torch.inference_mode()
    def __call__(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise | None = None) -> torch.Tensor:
        """Logits [B, K], float32; `noise` exactly when it draws."""
        return self.forward(x_BCHW, sigma, noise)[1]

    @torch.inference_mode()
    def purify_and_classify(
        self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Purified images [B, C, H, W] in pixel units, the first of each sample, and logits [B, K], float32."""
        return self.forward(x_BCHW, sigma, noise)

    def some_purified(self, x_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
        """Purified images of samples of no run, to check the models: the first of each, with some inner noise."""
        return next(self.purified(x_BCHW, sigma, inner_noise_by_place(x_BCHW)))

    def purified(self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise) -> Iterator[torch.Tensor]:
        """The purified images of samples, [B, C, H, W] each: one, or as many as a purifier that draws makes."""
        if not isinstance(self.purify, RandomPurifier):
            yield self.purify(x_BCHW, sigma)
        else:
            yield from self.purify.images(x_BCHW, sigma, noise)

    def forward(
        self, x_BCHW: torch.Tensor, sigma: float, noise: InnerNoise | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`purify_and_classify` in the caller's grad mode."""
        if self.channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if not isinstance(self.purify, RandomPurifier):
                purified = self.purify(x_BCHW, sigma)
                return purified.float(), self._vote(purified)
            assert noise is not None, "the inner noise of a sample has its key"
            first, logits = None, []
            for image in self.purify.images(x_BCHW, sigma, noise):
                first = image if first is None else first
                logits.append(self._vote(image))
            assert first is not None
            return first.float(), self.purify.combine(logits)

    def _vote(self, purified_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, K], float32; NaN where the image is not finite, which a classifier may overlook."""
        finite_B = purified_BCHW.isfinite().flatten(1).all(dim=1)
        return torch.where(finite_B[:, None], self.classify(purified_BCHW).float(), torch.nan)

    @torch.inference_mode()
    def classified(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits [B, K], float32, of images as they are: the classifier without its purifier."""
        if self.channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.classify(x_BCHW).float()


def prepare_network(network: nn.Module, numerics: Numerics, device: torch.device) -> nn.Module:
    """Move a network to its device and memory format, and compile it if asked."""
    network = network.to(device)
    if numerics.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if numerics.compile:
        network.compile(fullgraph=False, dynamic=False)
    return network


def choose_device(numerics: Numerics, gpus_per_replica: float) -> str:
    """`cuda` or `cpu`, as configured; auto follows the GPUs a replica asks for."""
    if numerics.device != "auto":
        return numerics.device
    return "cuda" if gpus_per_replica > 0 else "cpu"


def set_determinism(threads: int) -> None:
    """Make torch repeat itself: fixed threads, no autotuned or order-dependent kernels, no TF32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when CUDA starts
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def numerics_class(numerics: Numerics, device: torch.device, batch_size: int, *classifier_kinds: str) -> str:
    """What the executed function depends on beside weights and input; counts are bit-identical within one class."""
    if device.type == "cuda":
        where = f"cuda {torch.cuda.get_device_name(device)}, cuda {torch.version.cuda}"
    else:
        where = f"cpu {cpu_model()}, {torch.backends.cpu.get_cpu_capability()}, {numerics.threads} threads"
    options = [numerics.dtype, f"batch {batch_size}", f"torch {torch.__version__}"]
    # The networks' own code.
    libraries = ["diffusers", "timm"]
    libraries += [kind for kind in ("torchvision", "transformers") if kind in classifier_kinds]
    options += [f"{library} {version(library)}" for library in libraries]
    options += ["channels_last"] * bool(numerics.channels_last) + ["compiled"] * numerics.compile
    return ", ".join([where, *options])


def cpu_model() -> str:
    """The processor of this machine, as it names itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

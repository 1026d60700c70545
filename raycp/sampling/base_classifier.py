"""The base classifier: everything that happens to a noisy image, executed under fixed numerics."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from raycp.config.certify import Numerics

Purifier = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class BaseClassifier:
    """Purify, then classify: one deterministic function of a noisy image, for one batch shape.

    Attributes:
        purify: noisy images [B, C, H, W] and sigma, both pixel units, to purified images of the same shape.
        classify: images to logits [B, K].
    """

    purify: Purifier
    classify: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @torch.inference_mode()
    def __call__(self, x_BCHW: torch.Tensor, sigma: float) -> torch.Tensor:
        """Logits [B, K], float32."""
        return self.purify_and_classify(x_BCHW, sigma)[1]

    @torch.inference_mode()
    def purify_and_classify(self, x_BCHW: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Purified images [B, C, H, W] in pixel units, and logits [B, K], float32."""
        if self.channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            purified = self.purify(x_BCHW, sigma)
            return purified.float(), self.classify(purified).float()

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


def numerics_class(
    numerics: Numerics, device: torch.device, batch_size: int, classifier_kind: str | None = None
) -> str:
    """What the executed function depends on beside weights and input; counts are bit-identical within one class."""
    if device.type == "cuda":
        where = f"cuda {torch.cuda.get_device_name(device)}, cuda {torch.version.cuda}"
    else:
        where = f"cpu {cpu_model()}, {torch.backends.cpu.get_cpu_capability()}, {numerics.threads} threads"
    options = [numerics.dtype, f"batch {batch_size}", f"torch {torch.__version__}"]
    # The networks' own code.
    libraries = ["diffusers", "timm"]
    if classifier_kind in ("torchvision", "transformers"):
        libraries.append(classifier_kind)
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

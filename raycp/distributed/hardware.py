"""What this machine's processor and memory are bad at."""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc; other C libraries lack mallopt, or these two.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_LARGEST_INT = 2**31 - 1

_WITHOUT_BFLOAT16 = ("NO AVX", "AVX2")


def bfloat16_note(where: str) -> str | None:
    """A word for who asked for bfloat16 on a CPU that has no instructions for it; None where it has.

    Convolutions then take a path of PyTorch's that is many times slower than float32: a step of a small residual
    network took more than ten times as long on an AVX2 machine.

    Args:
        where: the configuration key.
    """
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _WITHOUT_BFLOAT16:
        return None
    return (
        f"warning: {where} is bfloat16, which this CPU ({capability}) only emulates, often ten times slower than "
        f"float32; set {where}=float32"
    )


def keep_freed_memory() -> bool:
    """Have glibc keep what a network frees for its next batch; False where the C library is another one.

    By default activations of some MiB go back to the kernel as soon as they are freed, and each batch faults its pages
    in anew: 15% of a batch's CPU time for a U-Net of CIFAR size. No number depends on it.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
    )

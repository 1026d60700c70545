"""What this machine's processor is bad at."""

from __future__ import annotations

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

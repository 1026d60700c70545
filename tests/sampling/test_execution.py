"""Numerics: determinism settings, the numerics class, the device, and the choice of a batch size."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pytest
import torch
from base_classifiers import CPU, of
from torch import nn

from raycp.config import Numerics
from raycp.errors import NumericsError
from raycp.sampling import batch_size as batch_size_module
from raycp.sampling.base_classifier import choose_device, numerics_class, prepare_network, set_determinism
from raycp.sampling.batch_size import fastest_batch_size
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise


@pytest.fixture
def torch_settings() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("torch_settings")
def test_determinism_is_asked_for() -> None:
    set_determinism(2)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    set_determinism(1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("device", "gpus", "chosen"),
    [("auto", 0, "cpu"), ("auto", 0.25, "cuda"), ("cpu", 1, "cpu"), ("cuda", 0, "cuda")],
)
def test_device(device: str, gpus: float, chosen: str) -> None:
    assert choose_device(Numerics(device=device), gpus) == chosen  # type: ignore[arg-type]


def test_numerics_class_names_all_that_changes_bits() -> None:
    """Two replicas share a class only if they execute the same function."""
    base = Numerics(threads=1, channels_last=False)
    variants = [
        (base, 64),
        (base, 65),
        *(
            (base.model_copy(update=change), 64)
            for change in ({"threads": 2}, {"dtype": "bfloat16"}, {"channels_last": True}, {"compile": True})
        ),
    ]
    names = [numerics_class(numerics, CPU, size) for numerics, size in variants]
    assert len(set(names)) == len(names)
    assert names[0] == numerics_class(base, CPU, 64) == numerics_class(base, CPU, 64, "timm")
    # The library of the classifier, where not every run has it: the classes of other runs stay as they were.
    assert (
        numerics_class(base, CPU, 64, "transformers") == f"{names[0]}, transformers {version('transformers')}"
    )
    assert numerics_class(base, CPU, 64, "torchvision") == f"{names[0]}, torchvision {version('torchvision')}"
    for part in (
        "cpu ",
        "float32",
        "batch 64",
        f"torch {torch.__version__}",
        "diffusers ",
        "timm ",
        "1 threads",
    ):
        assert part in names[0]
    assert torch.backends.cpu.get_cpu_capability() in names[0]


def test_prepared_networks_have_the_memory_format() -> None:
    network = prepare_network(nn.Conv2d(3, 4, 3), Numerics(channels_last=True), CPU)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator]
    network = prepare_network(nn.Conv2d(3, 4, 3), Numerics(channels_last=False), CPU)
    assert network.weight.is_contiguous()  # type: ignore[operator]


NOISE = make_noise("sound", np.zeros((1, 1, 2, 2), np.uint8), np.arange(1), 0, CPU)


def kernel_of(batch_size: int) -> Kernel:
    return Kernel(of(lambda x: torch.zeros(len(x), 2)), NOISE, 2, batch_size)


def choose(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> tuple[int, list[int]]:
    """The chosen size if a batch of each size takes these seconds, and the sizes that were tried."""
    tried: list[int] = []

    def timed(kernel: Kernel, sigma: float, blocks: list[object]) -> float:
        size = blocks[0].num_samples  # type: ignore[attr-defined]
        kernel.run(sigma, blocks)  # type: ignore[arg-type]
        tried.append(size)
        return seconds[size]

    monkeypatch.setattr(batch_size_module, "_timed", timed)
    return fastest_batch_size(kernel_of, 0.25, CPU), tried


def test_batch_size_with_the_best_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, tried = choose(monkeypatch, {16: 1.0, 32: 1.5, 64: 2.0, 128: 4.1, 256: 9.0})
    assert chosen == 64
    assert sorted(set(tried)) == [16, 32, 64, 128, 256]


def test_smaller_batch_size_where_rates_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(monkeypatch, {16: 1.03, 32: 1.99, 64: 3.97, 128: 7.9, 256: 15.8})[0] == 32


def test_slow_batches_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, tried = choose(monkeypatch, {16: 15.0, 32: 21.0, 64: 1e-3})
    assert chosen == 32
    assert max(tried) == 32


def test_the_first_run_of_a_size_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It allocates and, where asked, compiles."""
    sizes = {16: 1.0, 32: 2.0, 64: 4.0, 128: 8.0, 256: 16.0}
    calls: list[int] = []

    def timed(kernel: Kernel, sigma: float, blocks: list[object]) -> float:
        size = blocks[0].num_samples  # type: ignore[attr-defined]
        calls.append(size)
        return 1e9 if calls.count(size) == 1 else sizes[size] * (0.5 if size == 128 else 1)

    monkeypatch.setattr(batch_size_module, "_timed", timed)
    assert fastest_batch_size(kernel_of, 0.25, CPU) == 128


def test_memory_ends_the_search_or_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(limit: int) -> int:
        def timed(kernel: Kernel, sigma: float, blocks: list[object]) -> float:
            size: int = blocks[0].num_samples  # type: ignore[attr-defined]
            if size > limit:
                raise torch.OutOfMemoryError("full")
            return 1.0

        monkeypatch.setattr(batch_size_module, "_timed", timed)
        return fastest_batch_size(kernel_of, 0.25, CPU)

    assert limited(64) == 64
    with pytest.raises(
        NumericsError, match=r"^a batch of 16 does not fit the memory of cpu; set numerics\.batch_size"
    ):
        limited(15)

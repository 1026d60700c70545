"""The self-test: what couples the samples of a batch must not pass, what does not must."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from base_classifiers import CPU, BlurringPurifier, of, small_network
from torch import nn

from raycp.errors import NumericsError
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise

K = 5
IMAGES = np.random.default_rng(2).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
NOISE = make_noise("sound", IMAGES, np.arange(2), 3, CPU)
SIGMA = 0.25
NETWORK = small_network(3, K)
SIZES = [2, 3, 4, 5, 8, 33]


def check(classify: Callable[[torch.Tensor], torch.Tensor], batch_size: int, **options: object) -> None:
    Kernel(of(classify, **options), NOISE, K, batch_size).self_test(SIGMA)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, *SIZES, 64])
def test_an_honest_network_passes(batch_size: int) -> None:
    check(NETWORK, batch_size)
    check(NETWORK, batch_size, purify=BlurringPurifier(3))


def test_nan_that_belongs_to_its_sample_passes() -> None:
    """It is reported by the counts, with its image."""

    def classify(x: torch.Tensor) -> torch.Tensor:
        logits = NETWORK(x)
        odd = (x.double() * 255).round().flatten(1).sum(1) % 2 == 1
        return torch.where(odd[:, None], torch.nan, logits)

    check(classify, 16)


def batch_norm_in_training_mode() -> nn.Module:
    network = small_network(3, K)
    network[4].train()  # type: ignore[index]
    return network


COUPLED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "batch norm in training mode": batch_norm_in_training_mode(),
    "mean of the batch": lambda x: NETWORK(x) - NETWORK(x).mean(0),
    "position in the batch": lambda x: NETWORK(x) + 1e-6 * torch.arange(len(x))[:, None],
    "the first sample alone": lambda x: NETWORK(x) + 1e-3 * (torch.arange(len(x)) == 0)[:, None],
    "the last sample alone": lambda x: NETWORK(x) + 1e-3 * (torch.arange(len(x)) == len(x) - 1)[:, None],
    "largest logit of the batch": lambda x: NETWORK(x) / NETWORK(x).abs().max(),
    "the neighbour": lambda x: NETWORK(x) + 1e-4 * NETWORK(x).roll(1, 0),
    "the last bit of the first sample": lambda x: torch.where(
        (torch.arange(len(x)) == 0)[:, None], NETWORK(x).nextafter(torch.tensor(torch.inf)), NETWORK(x)
    ),
    "NaN by position": lambda x: torch.where((torch.arange(len(x)) == 0)[:, None], torch.nan, 0 * NETWORK(x)),
}


@pytest.mark.parametrize("batch_size", SIZES)
@pytest.mark.parametrize("name", COUPLED)
def test_a_network_that_couples_samples_is_refused(name: str, batch_size: int) -> None:
    with pytest.raises(NumericsError) as caught:
        check(COUPLED[name], batch_size)
    message = str(caught.value)
    assert f"at batch size {batch_size} on cpu" in message
    assert "numerics.batch_size" in message
    assert message.startswith(("the order of a batch changes", "padding a batch changes"))


@pytest.mark.parametrize("batch_size", SIZES)
def test_a_purifier_that_couples_samples_is_refused(batch_size: int) -> None:
    with pytest.raises(NumericsError):
        check(NETWORK, batch_size, purify=lambda x, sigma: x - x.mean(0))


@pytest.mark.parametrize("batch_size", SIZES)
def test_coupling_that_only_padding_shows_is_refused(batch_size: int) -> None:
    """Symmetric in the order of the batch: a permutation alone would not find it."""
    with pytest.raises(NumericsError, match=r"^padding a batch changes"):
        check(lambda x: NETWORK(x) + (x.flatten(1).abs().sum(1) == 0).any() * 1e-3, batch_size)


def test_noise_inside_the_network_is_refused() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with pytest.raises(NumericsError):
            check(lambda x: NETWORK(x) + 1e-6 * torch.randn(len(x), K), 8)

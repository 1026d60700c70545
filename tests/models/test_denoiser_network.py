"""The network inside a denoiser may be moved, reformatted and compiled without the arithmetic around it noticing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from raycp.models import Denoiser


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    return Denoiser(unet.eval().requires_grad_(False), "consistency", 1, (8, 8), 0.002, 80.0)


def images() -> Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_another_memory_format_gives_the_same_image(denoiser: Denoiser) -> None:
    before = denoiser(images(), 1.0)
    denoiser.network = denoiser.network.to(memory_format=torch.channels_last)
    after = denoiser(images().contiguous(memory_format=torch.channels_last), 1.0)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("label", [None, 3])
def test_the_network_is_given_tensors_only(denoiser: Denoiser, label: int | None) -> None:
    seen: list[Any] = []

    def network(*arguments: Any, return_dict: bool) -> tuple[Tensor]:
        assert return_dict is False
        seen.extend(arguments)
        return (arguments[0],)

    denoiser.network, denoiser.class_label = network, label  # type: ignore[assignment]
    denoiser(images(), 1.0)
    x, conditioning, labels = seen
    assert x.shape == (2, 1, 8, 8)
    assert conditioning.shape == (2,) and conditioning.dtype == torch.float32 and conditioning.is_contiguous()
    assert labels is None if label is None else labels.tolist() == [label, label]


@torch.inference_mode()
def test_one_compiled_graph_serves_every_sigma(denoiser: Denoiser) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    levels = (0.5, 1.0, 2.0)
    before = [denoiser(images(), level) for level in levels]
    denoiser.network.compile(backend=backend, fullgraph=True, dynamic=False)
    after = [denoiser(images(), level) for level in levels]
    assert len(graphs) == 1
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@torch.inference_mode()
def test_bfloat16_networks_keep_float32_images(denoiser: Denoiser) -> None:
    reference = denoiser(images(), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = denoiser(images(), 1.0)
        at_the_boundary = denoiser(images(), denoiser.sigma_min)
    assert lowered.dtype == torch.float32
    torch.testing.assert_close(lowered, reference, atol=0.1, rtol=0.05)
    assert not torch.equal(lowered, reference)
    assert torch.equal(at_the_boundary, images())

"""ResNets of the randomized-smoothing literature, in every layout their checkpoints have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from raycp.config import parse_config
from raycp.config.models import CifarResNetClassifier, SmoothingResNetClassifier
from raycp.errors import ModelError
from raycp.models import build_classifier, read_classifier
from raycp.models.file_facts import file_facts
from raycp.models.smoothing_resnet import SmoothingResNet

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
NAME = "residual network for CIFAR with projections, of locuslab/smoothing"


def read(path: Path, **extra: Any) -> Any:
    raw = {"kind": "smoothing_resnet", "weights": str(path), **extra}
    return read_classifier(parse_config(SmoothingResNetClassifier, raw))


def convolution(state: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)


def batch_norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network as a function of its state_dict; the stride is in the first 3x3 convolution of a block."""
    bottleneck = "layer1.0.conv3.weight" in state
    h = batch_norm(state, "bn1", convolution(state, "conv1", x)).relu()
    for stage in (1, 2, 3):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1.weight" in state:
            step = 2 if stage > 1 and block == 0 else 1
            first, second = (1, step) if bottleneck else (step, 1)
            y = batch_norm(state, f"{name}.bn1", convolution(state, f"{name}.conv1", h, first)).relu()
            y = batch_norm(state, f"{name}.bn2", convolution(state, f"{name}.conv2", y, second))
            if bottleneck:
                y = batch_norm(state, f"{name}.bn3", convolution(state, f"{name}.conv3", y.relu()))
            if f"{name}.downsample.0.weight" in state:
                h = batch_norm(
                    state, f"{name}.downsample.1", convolution(state, f"{name}.downsample.0", h, step)
                )
            h = (y + h).relu()
            block += 1
    pooled = F.avg_pool2d(h, 8).flatten(1)
    return pooled @ state["fc.weight"].T + state["fc.bias"]


def random_state(
    bottleneck: bool = False, width: int = 8, blocks: int = 2, classes: int = 6
) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = SmoothingResNet(classes, width, blocks, bottleneck)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, low, high in (
                (layer.running_mean, -0.3, 0.3), (layer.running_var, 0.5, 1.5), (layer.weight, 0.5, 1.5),
                (layer.bias, -0.3, 0.3),
            ):  # fmt: skip
                nn.init.uniform_(values, low, high)
    return network.state_dict()


def normalised(x: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@pytest.mark.parametrize(("blocks", "parameters"), [(3, 272_474), (18, 1_730_714)])
def test_the_published_sizes(blocks: int, parameters: int) -> None:
    """ResNet-20 and 110 of arXiv 1512.03385 (269,722 and 1,727,962), and two projections with their batch norms."""
    network = SmoothingResNet(10, 16, blocks, bottleneck=False)
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert parameters == {3: 269_722, 18: 1_727_962}[blocks] + projections
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "module.", "1.", "1.module.", "module.1.", "module.1.module."])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_layout_gives_the_logits_of_the_reference(
    tmp_path: Path, prefix: str, bottleneck: bool
) -> None:
    state = random_state(bottleneck)
    path = tmp_path / "checkpoint.pth.tar"
    named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1).state_dict()
    torch.save({"epoch": 90, "arch": "cifar_resnet110", "state_dict": named, "optimizer": optimizer}, path)
    bundle = read(path)
    assert bundle.recipe["arguments"] == {"num_classes": 6, "width": 8, "blocks": 2, "bottleneck": bottleneck}
    assert (tuple(bundle.recipe["mean"]), tuple(bundle.recipe["std"])) == (MEAN, STD)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        build_classifier(bundle)(x), reference(state, normalised(x)), rtol=1e-4, atol=1e-4
    )
    facts = file_facts(path)
    assert (facts.network, facts.prefix, facts.state_key) == (NAME, prefix, "state_dict")
    assert facts.others == ("epoch", "arch", "optimizer")


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["1.", "module.1.", "1.module."])
def test_constants_in_the_file_go_before_the_published_ones(tmp_path: Path, prefix: str) -> None:
    state = random_state()
    outer = "module.0." if prefix.startswith("module.1") else "0."
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.25, 2.0)
    named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    named |= {f"{outer}means": torch.tensor(mean), f"{outer}sds": torch.tensor(std).view(1, 3, 1, 1)}
    path = tmp_path / "net.safetensors"
    save_file(named, path)
    bundle = read(path)
    assert (tuple(bundle.recipe["mean"]), tuple(bundle.recipe["std"])) == (mean, std)
    x = torch.rand(2, 3, 32, 32)
    expected = reference(state, normalised(x, mean, std))
    torch.testing.assert_close(build_classifier(bundle)(x), expected, rtol=1e-4, atol=1e-4)
    del named[f"{outer}sds"]
    save_file(named, path)
    assert read(path).recipe["std"] == [1.0, 1.0, 1.0]
    explicit = read(path, mean=list(MEAN), std=[1, 1, 1])
    assert (tuple(explicit.recipe["mean"]), explicit.recipe["std"]) == (MEAN, [1.0, 1.0, 1.0])
    named[f"{outer}sds"] = torch.tensor([1.0, 0.0, 1.0])
    save_file(named, path)
    with pytest.raises(ModelError, match=r"normalises with means .*0\.0.*; give classifier\.mean and std"):
        read(path)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    imagenet = {
        "conv1.weight": torch.ones(1, 3, 7, 7),
        "layer1.0.conv1.weight": torch.ones(1, 1, 1, 1),
        "layer4.0.conv1.weight": torch.ones(1),
        "fc.weight": torch.ones(2, 2),
    }
    torch.save({f"1.module.{name}": tensor for name, tensor in imagenet.items()}, path)
    with pytest.raises(
        ModelError,
        match=r"residual network of torchvision or timm; kind torchvision reads it; kind smoothing",
    ):
        read(path)
    torch.save({"a.weight": torch.ones(1)}, path)
    with pytest.raises(ModelError, match=r"of this network: unknown; kind smoothing_resnet takes"):
        read(path)


def test_kind_cifar_resnet_takes_no_network_behind_another_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "wrapped.pt"
    torch.save({"1.conv1.weight": torch.ones(4, 3, 3, 3), "1.layer3.0.conv1.weight": torch.ones(1),
                "1.linear.weight": torch.ones(2, 2)}, path)  # fmt: skip
    with pytest.raises(ModelError, match="kind cifar_resnet takes"):
        read_classifier(CifarResNetClassifier(kind="cifar_resnet", weights=str(path)))

"""The published CIFAR residual networks: depth and classes are read off the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raycp.config.models import CifarResNetClassifier
from raycp.errors import ModelError
from raycp.models import build_classifier, read_classifier
from raycp.models.cifar_resnet import CifarResNet


@pytest.mark.parametrize(("blocks", "parameters"), [(3, 269_722), (9, 853_018), (18, 1_727_962)])
def test_the_published_sizes(blocks: int, parameters: int) -> None:
    """ResNet-20, 56 and 110, as their authors' table has them: 0.27 M, 0.85 M, 1.7 M."""
    network = CifarResNet(10, 16, blocks)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 6 * blocks + 2


def test_a_block_that_adds_nothing_is_its_shortcut() -> None:
    """Every second pixel, and channels of zeros on both sides."""
    block = CifarResNet(10, 4, 1).eval().layer2[0]  # type: ignore[index]
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 6, 6)
    expected = torch.zeros(2, 8, 3, 3)
    expected[:, 2:6] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
def test_a_file_tells_its_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CifarResNet(7, 8, 2).eval()
    path = tmp_path / "net.th"
    torch.save(
        {"best_prec1": 1.0, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path
    )
    bundle = read_classifier(CifarResNetClassifier(kind="cifar_resnet", weights=str(path)))
    assert bundle.recipe["arguments"] == {"num_classes": 7, "width": 8, "blocks": 2}
    classifier = build_classifier(bundle)
    x = torch.rand(3, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (x - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(classifier(x), network(normalised), rtol=1e-4, atol=1e-5)
    other = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.ones(2, 2)}, other)
    with pytest.raises(
        ModelError, match=r"other\.pt is a torch file of this network: unknown; kind cifar_resnet takes"
    ):
        read_classifier(CifarResNetClassifier(kind="cifar_resnet", weights=str(other)))

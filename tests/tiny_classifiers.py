"""Classifiers of every published kind with random weights: small networks for colour images of 16 pixels, 4 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

CLASSES = 4
SIDE = 16
KINDS = ("transformers", "timm", "torchvision", "cifar_resnet", "wide_resnet", "smoothing_resnet", "python")
RESIZE = {"size": 32, "interpolation": "bilinear", "antialias": False}
NORMALISATION = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.2]}


def section(kind: str, folder: Path) -> dict[str, Any]:
    """Write a classifier's files into a folder; returns the section `classifier` that reads them."""
    torch.manual_seed(0)
    if kind == "transformers":
        return _vit(folder)
    if kind == "python":  # without a file: the weights are those that its function makes
        return {
            "kind": "python", "factory": "tiny_classifiers:with_dropout", "kwargs": {"width": 8},
            "num_classes": CLASSES, "resize": RESIZE,
        }  # fmt: skip
    file = folder / f"{kind}.safetensors"
    named: dict[str, Any] = {"kind": kind, "weights": str(file)}
    if kind == "timm":
        import timm

        network = timm.create_model("test_resnet", num_classes=CLASSES)
        named |= {"name": "test_resnet", "num_classes": CLASSES, **NORMALISATION}
    elif kind == "torchvision":
        from torchvision.models import get_model

        network = get_model("shufflenet_v2_x0_5", num_classes=CLASSES)
        named |= {"name": "shufflenet_v2_x0_5", "num_classes": CLASSES, "resize": RESIZE}
    else:
        from raycp.models.cifar_resnet import CifarResNet
        from raycp.models.smoothing_resnet import SmoothingResNet
        from raycp.models.wide_resnet import WideResNet

        made: dict[str, nn.Module] = {
            "cifar_resnet": CifarResNet(CLASSES, 8, 1),
            "wide_resnet": WideResNet(CLASSES, 10, 1),
            "smoothing_resnet": SmoothingResNet(CLASSES, 8, 1, bottleneck=False),
        }
        network = made[kind]
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return named


def _vit(folder: Path) -> dict[str, Any]:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        image_size=24, patch_size=8, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_labels=CLASSES, hidden_dropout_prob=0.1,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 24, "width": 24}).save_pretrained(folder / "vit")
    return {"kind": "transformers", "path": str(folder / "vit"), "truncate": True}


class _WithDropout(nn.Module):
    """With a parameter that the output does not depend on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, CLASSES),
        )  # fmt: skip

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BK: torch.Tensor = self.layers(x_BCHW)
        return logits_BK


def with_dropout(width: int) -> nn.Module:
    """A user's own network."""
    return _WithDropout(width)


class _Auxiliary(_WithDropout):
    def forward(self, x_BCHW: torch.Tensor) -> Any:
        logits_BK = super().forward(x_BCHW)
        return (logits_BK, logits_BK) if self.training else logits_BK


def with_auxiliary_output() -> nn.Module:
    """A network like Inception, with a second output in train mode."""
    return _Auxiliary(8)

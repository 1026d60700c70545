"""Classifiers of timm: round trips and refusals; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from raycp.config.models import TimmClassifier
from raycp.errors import ModelError
from raycp.models import (
    build_classifier,
    read_classifier,
)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def timm_config(path: Path, **changes: Any) -> TimmClassifier:
    return TimmClassifier(
        **({"kind": "timm", "name": "resnet10t", "num_classes": 5, "weights": str(path)} | changes)
    )


@torch.no_grad()
def test_a_timm_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = timm.create_model("resnet10t", num_classes=5, in_chans=1).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    config = timm_config(
        tmp_path / "w.safetensors", in_channels=1, resize={"size": 32}, mean=(0.5,), std=(0.2,)
    )
    bundle = read_classifier(config)
    (tmp_path / "w.safetensors").unlink()
    classifier = build_classifier(bundle)
    assert (classifier.num_classes, classifier.in_channels) == (5, 1)
    x = images(2, 1, 8, 8)
    up = F.interpolate(x, (32, 32), mode="bicubic", align_corners=False, antialias=True)
    torch.testing.assert_close(classifier(x), network((up - 0.5) / 0.2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "resnet10tt"},
            r"classifier\.name: timm [\d.]+ has no model 'resnet10tt'; did you mean resnet10t",
        ),
        ({"name": "zzzzzzzz"}, r"has no model 'zzzzzzzz'; see timm\.list_models"),
        ({"name": "hf-hub:someone/resnet10t"}, r"has no model 'hf-hub:someone/resnet10t'"),
        ({"num_classes": 7}, r"fc\.weight is \(5, 512\) in the file and \(7, 512\) in the network"),
        (
            {"in_channels": 1},
            r"conv1\.0\.weight is \(24, 3, 3, 3\) in the file and \(24, 1, 3, 3\) in the network",
        ),
        (
            {"kwargs": {"wings": 2}},
            r"timm cannot make resnet10t \(classifier\.name, classifier\.kwargs .*wings",
        ),
        ({"kwargs": {"checkpoint_path": "x"}}, r"classifier\.kwargs must not hold 'checkpoint_path'; use"),
        (
            {"mean": (0.5,), "std": (0.5,)},
            r"mean must have one value per channel of the network \(3\), got \[0\.5\]",
        ),
    ],
)
def test_timm_configurations_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    network = timm.create_model("resnet10t", num_classes=5)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=message):
        read_classifier(timm_config(tmp_path / "w.safetensors", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_classes": 10},
            r"num_classes is 10, but timm's weights of resnet18 have 1000: that layer would be random",
        ),
        (
            {"in_channels": 1},
            r"in_channels is 1, but timm's weights of resnet18 have 3: that layer would be random",
        ),
        (
            {"name": "resnet18.nowhere"},
            r"classifier\.name: .*nowhere.*see timm\.list_pretrained\('resnet18\*'\)",
        ),
        (
            {"name": "coatnet_0_224"},
            r"timm has no published weights for coatnet_0_224; give classifier\.weights",
        ),
    ],
)
def test_published_weights_that_would_be_partly_random_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    arguments = {"kind": "timm", "name": "resnet18", "num_classes": 1000, "pretrained": True} | changes
    with pytest.raises(ModelError, match=message):
        read_classifier(TimmClassifier(**arguments))

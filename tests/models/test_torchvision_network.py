"""Networks of torchvision, read from files and refused where they are no classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from raycp.config import parse_config
from raycp.config.models import TorchvisionClassifier
from raycp.errors import ConfigError, ModelError
from raycp.models import Bundle, build_classifier, read_classifier


def read(weights: Path, **extra: Any) -> Bundle:
    raw = {"kind": "torchvision", "name": "resnet18", "num_classes": 4, "weights": str(weights), **extra}
    return read_classifier(parse_config(TorchvisionClassifier, raw))


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(num_classes=4).eval()


@torch.no_grad()
def test_a_checkpoint_of_cohen_et_al(tmp_path: Path, resnet: torch.nn.Module) -> None:
    """Their ResNet-50 for ImageNet lies under `state_dict`, behind `1.module.`; a smaller one here."""
    path = tmp_path / "checkpoint.pth.tar"
    state = resnet.state_dict()
    named = {f"1.module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": named, "optimizer": {}}, path)
    constants: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    bundle = read(path, state_key="state_dict", strip_prefix="1.module.", **constants)
    assert bundle.recipe["arguments"] == {"name": "resnet18", "num_classes": 4, "kwargs": {}}
    x = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(constants[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(build_classifier(bundle)(x), resnet((x - mean) / std), rtol=1e-4, atol=1e-5)
    plain = tmp_path / "plain.safetensors"
    save_file(state, plain)
    assert read(plain, **constants).sha256 == bundle.sha256
    assert read(plain).recipe["mean"] is None


@torch.no_grad()
def test_further_arguments_reach_the_builder(tmp_path: Path) -> None:
    from torchvision.models import vit_b_16

    kwargs = {"image_size": 32}
    torch.manual_seed(0)
    network = vit_b_16(num_classes=3, image_size=32).eval()
    path = tmp_path / "vit.safetensors"
    save_file(network.state_dict(), path)
    bundle = read(path, name="vit_b_16", num_classes=3, kwargs=kwargs)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(build_classifier(bundle)(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"name": "resnet19"}, r"has no model 'resnet19'; did you mean resnet1\d"),
        ({"name": "nothing_like_it"}, "see torchvision.models.list_models"),
        ({"name": "fcn_resnet50"}, r"a model of segmentation \(torchvision\.models\.segmentation\.fcn\), not a"),
        ({"name": "fasterrcnn_resnet50_fpn"}, "a model of detection"),
        ({"name": "raft_small"}, "a model of optical flow"),
        ({"name": "r3d_18"}, "a model of video"),
        ({"kwargs": {"pretrained": True}}, "must not hold 'pretrained'"),
        ({"kwargs": {"weights": "DEFAULT"}}, "must not hold 'weights'"),
        ({"kwargs": {"no_such": 1}}, "torchvision cannot make resnet18"),
        ({"num_classes": 5}, "2 of another shape: fc.weight is"),
        ({"strip_prefix": "module."}, "does not start with strip_prefix 'module.'"),
    ],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, resnet: torch.nn.Module, extra: dict[str, Any], message: str
) -> None:
    path = tmp_path / "net.safetensors"
    save_file(resnet.state_dict(), path)
    with pytest.raises(ModelError, match=message):
        read(path, **extra)


def test_weights_are_wanted() -> None:
    with pytest.raises(ConfigError, match="weights"):
        parse_config(TorchvisionClassifier, {"kind": "torchvision", "name": "resnet18", "num_classes": 4})

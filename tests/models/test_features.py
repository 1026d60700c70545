"""Feature networks: what they see, and which files they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from raycp.config import parse_config
from raycp.config.evaluate import InceptionFeatures
from raycp.config.models import PythonClassifier
from raycp.errors import ModelError
from raycp.models.features import FeatureNetwork, build_features, read_features
from raycp.models.fid_inception import FidInception, resize_like_tensorflow_1


@pytest.fixture(scope="module")
def inception() -> FidInception:
    torch.manual_seed(0)
    network = FidInception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def inception_file(path: Path, network: FidInception) -> InceptionFeatures:
    torch.save(network.network.state_dict(), path)
    return InceptionFeatures(kind="inception", weights=str(path))


def test_names_and_shapes_of_the_published_file(inception: FidInception) -> None:
    """As pytorch-fid and torch-fidelity load it, strictly."""
    state = inception.network.state_dict()
    assert len([name for name in state if name.endswith("conv.weight")]) == 94
    assert {name.rpartition(".")[0] for name in state if "AuxLogits" in name} == set()
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6b.branch7x7_2.conv.weight": (128, 128, 1, 7),
        "Mixed_7c.branch3x3dbl_3b.bn.running_var": (384,),
        "Mixed_7c.branch_pool.bn.bias": (192,),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }.items():
        assert state[name].shape == shape, name


def test_resizing_puts_corners_on_corners() -> None:
    """Output pixel i lies at input pixel i * old / new; the last ones repeat the edge."""
    x = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 2, 4)
    expected = torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    torch.testing.assert_close(resize_like_tensorflow_1(x, 8)[0, 0, 3], expected)
    same = torch.rand(2, 3, 299, 299)
    torch.testing.assert_close(resize_like_tensorflow_1(same, 299), same)


def test_pools_differ_from_torchvision_where_they_should(inception: FidInception) -> None:
    network = inception.network
    for block, channels, pool in (
        (network.Mixed_5b, 192, "mean"),
        (network.Mixed_6c, 768, "mean"),
        (network.Mixed_7b, 1280, "mean"),
        (network.Mixed_7c, 2048, "maximum"),
    ):
        x = torch.rand(1, channels, 5, 5)
        padded = F.pad(x, (1, 1, 1, 1), value=float("nan")).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        seen = padded.nan_to_num(-1.0).amax(dim=4) if pool == "maximum" else padded.nanmean(dim=4)
        expected = block.branch_pool(seen)
        with torch.inference_mode():
            torch.testing.assert_close(block(x)[:, -expected.shape[1] :], expected, rtol=1e-4, atol=1e-5)


def test_inception_features_are_what_its_pooling_gives(inception: FidInception, tmp_path: Path) -> None:
    bundle = read_features(inception_file(tmp_path / "inception.pth", inception))
    network = build_features(bundle)
    seen: list[Tensor] = []
    inception.network.avgpool.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        inception(x)
    features = network(x)
    assert network.dimensions == 2048
    torch.testing.assert_close(features, seen[0].flatten(1))
    grey = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ModelError, match="1 or 3 channels, got 4"):
        network(torch.rand(1, 4, 32, 32))


def test_an_inception_file_of_another_network_is_refused(inception: FidInception, tmp_path: Path) -> None:
    state = inception.network.state_dict()
    state["fc.weight"] = torch.zeros(1000, 2048)
    torch.save(state, tmp_path / "imagenet.pth")
    config = InceptionFeatures(kind="inception", weights=str(tmp_path / "imagenet.pth"))
    message = r"evaluate.features.weights: .*imagenet.pth does not fit.*fc.weight is \(1000, 2048\)"
    with pytest.raises(ModelError, match=message):
        read_features(config)
    with pytest.raises(ModelError, match=r"evaluate\.features\.weights"):
        read_features(InceptionFeatures(kind="inception", weights=str(tmp_path / "absent.pth")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.pth", b"no tensors", "is damaged or not a torch file"),
        ("empty.pth", b"", "is damaged or not a torch file"),
        ("text.safetensors", b"no tensors", "is damaged or not a safetensors file"),
        ("empty.safetensors", b"", "is damaged or not a safetensors file"),
    ],
)
def test_an_inception_file_that_holds_no_tensors(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} {message}"):
        read_features(InceptionFeatures(kind="inception", weights=str(tmp_path / name)))


def test_an_inception_file_that_lacks_layers(inception: FidInception, tmp_path: Path) -> None:
    """As a torch file and as safetensors; the message says which file is wanted."""
    state = {name: t for name, t in inception.network.state_dict().items() if not name.startswith("Mixed_7c")}
    torch.save(state, tmp_path / "part.pth")
    save_file({name: t.contiguous() for name, t in state.items()}, tmp_path / "part.safetensors")
    for name in ("part.pth", "part.safetensors"):
        with pytest.raises(ModelError) as caught:
            read_features(InceptionFeatures(kind="inception", weights=str(tmp_path / name)))
        assert "missing: Mixed_7c.branch1x1.conv.weight" in str(caught.value)
        assert "kind: inception wants pt_inception-2015-12-05-6726825d.pth of pytorch-fid" in str(
            caught.value
        )
    torch.save(torch.zeros(3), tmp_path / "one.pth")
    with pytest.raises(ModelError, match=r"one\.pth must hold tensors by name; it holds a Tensor"):
        read_features(InceptionFeatures(kind="inception", weights=str(tmp_path / "one.pth")))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["Mixed_6c.branch_pool.conv.weight", "Mixed_7c.branch1x1.bn.running_var"])
def test_an_inception_file_that_is_not_finite(
    inception: FidInception, tmp_path: Path, name: str, value: float
) -> None:
    state = {name: tensor.clone() for name, tensor in inception.network.state_dict().items()}
    state[name].view(-1)[-1] = value
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(ModelError) as caught:
        read_features(InceptionFeatures(kind="inception", weights=str(tmp_path / "broken.pth")))
    assert str(caught.value).startswith(
        f"evaluate.features.weights: 1 of {len(state)} tensors in {tmp_path / 'broken.pth'} hold NaN or infinite "
        f"weights, first {name}; fetch the file again. kind: inception wants pt_inception-2015-12-05-6726825d.pth"
    )


class Headless(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean(dim=(2, 3))


class Tokens(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x[:, 0]).mean(dim=1)


class Plain(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(16, 7)
        self.head = nn.Linear(7, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x.flatten(1)).relu())


def test_features_of_a_classifier_are_what_its_last_layer_sees() -> None:
    network = FeatureNetwork(Plain(), 3, "mine")
    x = torch.rand(5, 1, 4, 4)
    assert network.dimensions == 7
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network.network.first(x.flatten(1)).relu())


def test_a_classifier_by_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    config = {"kind": "python", "factory": "test_features:Plain", "num_classes": 3, "kwargs": {}}
    network = build_features(read_features(parse_config(PythonClassifier, config)))
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 7)


def test_networks_without_features_are_refused() -> None:
    with pytest.raises(ModelError, match="mine does not end in a linear layer of 3 outputs"):
        FeatureNetwork(Headless(), 3, "mine")
    with pytest.raises(ModelError, match=r"sees \[2, 4, 4\] for 2 images"):
        FeatureNetwork(Tokens(), 3, "mine")(torch.rand(2, 1, 4, 4))

"""LPIPS on ImageNet backbones: equal to the lpips package, and safe to differentiate."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import lpips
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from raycp.errors import TrainingError
from raycp.training import perceptual
from raycp.training.perceptual import PerceptualDistance, lpips_distance

Net = Literal["vgg", "alex", "squeeze"]
NETS: tuple[Net, ...] = ("vgg", "alex", "squeeze")
SMALLEST = {"vgg": 16, "alex": 31, "squeeze": 17}


def random_backbone(net: Net) -> dict[str, Tensor]:
    """He-normal weights, so that deep features neither vanish nor explode, under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for own, empty in perceptual._empty_backbone(net).state_dict().items():
        scale = (2 / empty[0].numel()) ** 0.5 if empty.ndim == 4 else 0.1
        name = "features." + own.split(".", 1)[1]
        state[name] = scale * torch.randn(empty.shape, generator=generator)
    return state


@pytest.fixture(scope="module")
def backbones() -> dict[Net, dict[str, Tensor]]:
    return {net: random_backbone(net) for net in NETS}


@pytest.fixture(scope="module")
def squeeze(backbones: dict[Net, dict[str, Tensor]]) -> PerceptualDistance:
    return lpips_distance("squeeze", backbones["squeeze"], None)


def pairs(B: int = 2, side: int = 40, C: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (2 * torch.rand(2, B, C, side, side, generator=generator) - 1).unbind()
    return x, y


def package_distance(net: Net, backbone: dict[str, Tensor]) -> nn.Module:
    """The package's own LPIPS with its learned weights and the given backbone, built as its users build it."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = lpips.LPIPS(pretrained=False, pnet_rand=True, net=net, verbose=False)
    state = {f"scaling_layer.{k}": v for k, v in lpips.lpips.ScalingLayer().state_dict().items()}
    for name in model.state_dict():
        if name.startswith("net.slice"):
            state[name] = backbone["features." + name.split(".", 2)[2]]
    learned = torch.load(
        Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth", map_location="cpu", weights_only=True
    )
    assert len(learned) == (7 if net == "squeeze" else 5)
    for name, weight in learned.items():
        state[name] = state[name.replace("lin", "lins.")] = weight
    model.load_state_dict(state, assign=True)
    return model.eval()


@pytest.mark.parametrize("net", NETS)
def test_values_are_those_of_the_lpips_package(net: Net, backbones: dict[Net, dict[str, Tensor]]) -> None:
    ours = lpips_distance(net, backbones[net], None)
    x, y = pairs()
    x[0, :, :20] = 0.3  # a flat region
    with torch.no_grad():
        found, expected = ours(x, y), package_distance(net, backbones[net])(x, y)
    assert found.shape == (2,) and bool((found > 0.01).all())
    torch.testing.assert_close(found, expected.flatten(), atol=1e-5, rtol=1e-5)


def test_symmetric_and_zero_at_identity(squeeze: PerceptualDistance) -> None:
    x, y = pairs()
    assert torch.equal(squeeze(x, y), squeeze(y, x))
    assert torch.equal(squeeze(x, x), torch.zeros(2))
    torch.testing.assert_close(squeeze(x, y)[1:], squeeze(x[1:], y[1:]))


def test_grey_images_are_repeated_to_three_channels(squeeze: PerceptualDistance) -> None:
    x, y = pairs(C=1)
    assert torch.equal(squeeze(x, y), squeeze(x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1)))
    with pytest.raises(TrainingError, match=r"images of 1 or 3 channels, got 2\. Train with l1 or l2"):
        squeeze(x.repeat(1, 2, 1, 1), y.repeat(1, 2, 1, 1))


def test_gradients_are_finite_where_images_are_equal_or_constant(squeeze: PerceptualDistance) -> None:
    image = pairs()[0]
    for start, other in ((image, image), (torch.zeros_like(image), image), (torch.ones_like(image),) * 2):
        x = start.clone().requires_grad_()
        squeeze(x, other).sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("size", [1.0, 1e-24])
def test_gradients_are_finite_where_features_vanish(
    size: float, backbones: dict[Net, dict[str, Tensor]]
) -> None:
    """With 1e-24, first features are positive but their squares are 0; there the package's own gradient is not finite.

    With biases of -100 no ReLU is open; there the ReLUs stop the package's NaN as well.
    """
    backbone = dict(backbones["alex"])
    if size == 1.0:
        backbone |= {name: torch.full_like(v, -100.0) for name, v in backbone.items() if v.ndim == 1}
    else:
        backbone["features.0.weight"] = size * backbone["features.0.weight"]
        backbone["features.0.bias"] = torch.full((64,), size)
    image, other = pairs()
    for distance, finite in (
        (lpips_distance("alex", backbone, None), True),
        (package_distance("alex", backbone), size == 1.0),
    ):
        x = image.clone().requires_grad_()
        distance(x, other).sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all()) is finite


def test_the_slope_of_a_vanishing_feature_is_bounded() -> None:
    zero = torch.zeros(1, 4, 1, 1, requires_grad=True)
    perceptual._unit(zero)[0, 0].sum().backward()
    assert zero.grad is not None
    assert zero.grad.flatten().tolist() == pytest.approx([1e5, 0, 0, 0], rel=1e-6)
    f = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(perceptual._unit(f), lpips.normalize_tensor(f), atol=1e-6, rtol=0)


def test_gradients_flow_to_images_and_not_to_weights(squeeze: PerceptualDistance) -> None:
    x, y = pairs()
    x.requires_grad_()
    squeeze(x, y).sum().backward()
    assert x.grad is not None and bool((x.grad.abs().sum(dim=(1, 2, 3)) > 0).all())
    assert len(list(squeeze.parameters())) == 50 and not any(p.requires_grad for p in squeeze.parameters())
    assert not any(module.training for module in squeeze.train().modules())
    step = 1e-2 * x.grad / x.grad.norm()
    with torch.no_grad():
        assert bool((squeeze(x - step, y) < squeeze(x, y)).all())


def test_resizing_is_bilinear_to_a_square(backbones: dict[Net, dict[str, Tensor]]) -> None:
    plain, resizing = (lpips_distance("squeeze", backbones["squeeze"], size) for size in (None, 48))
    x, y = (image[..., :20] for image in pairs())
    by_hand = [F.interpolate(image, (48, 48), mode="bilinear", align_corners=False) for image in (x, y)]
    assert torch.equal(resizing(x, y), plain(*by_hand))
    assert not torch.allclose(resizing(x, y), plain(x, y))


@pytest.mark.parametrize("net", NETS)
def test_images_too_small_for_the_backbone(net: Net, backbones: dict[Net, dict[str, Tensor]]) -> None:
    least = SMALLEST[net]
    distance = lpips_distance(net, backbones[net], None)
    assert bool(distance(*pairs(side=least)).isfinite().all())
    x, y = pairs(side=least - 1)
    with pytest.raises(RuntimeError, match="too small"):
        distance._features(x)
    message = f"images of {least - 1}x{least - 1} pixels are too small for .* {net}, .* at least {least}. Set resize"
    with pytest.raises(TrainingError, match=message):
        distance(x, y)
    assert lpips_distance(net, backbones[net], least)(x, y).shape == (2,)
    with pytest.raises(TrainingError, match=f"resize must be at least {least} for the backbone {net}, got 8"):
        lpips_distance(net, backbones[net], 8)


def test_nothing_is_printed_or_drawn(
    backbones: dict[Net, dict[str, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lpips_distance("alex", backbones["alex"], None)
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


def test_the_callers_weights_are_left_alone(backbones: dict[Net, dict[str, Tensor]]) -> None:
    half = {name: weight.half().requires_grad_() for name, weight in backbones["alex"].items()}
    with_more = {
        **half,
        "classifier.1.weight": torch.zeros(3),
    }  # torchvision's files hold the classifier as well
    distance = lpips_distance("alex", with_more, None)
    assert distance(*pairs()).dtype == torch.float32
    assert all(weight.requires_grad and weight.dtype == torch.float16 for weight in half.values())


def test_weights_of_another_network(backbones: dict[Net, dict[str, Tensor]]) -> None:
    alex = backbones["alex"]
    with pytest.raises(TrainingError) as raised:
        lpips_distance("squeeze", alex, None, key="lpips.backbone")
    assert str(raised.value) == (
        "lpips.backbone: these are not the weights of the backbone squeeze: missing features.3.squeeze.weight, "
        "features.3.squeeze.bias, features.3.expand1x1.weight and 45 more; unexpected features.3.weight, "
        "features.3.bias, features.6.weight and 5 more. Wanted are torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1, "
        "or a file with its features.*."
    )
    with pytest.raises(TrainingError, match=r"missing none; unexpected features\.12\.weight\. Wanted"):
        lpips_distance("alex", {**alex, "features.12.weight": torch.zeros(1)}, None)
    without = {name.removeprefix("features."): weight for name, weight in alex.items()}
    with pytest.raises(TrainingError, match=r"missing features\.0\.weight, .* and 7 more; unexpected none\."):
        lpips_distance("alex", without, None)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (torch.zeros(64, 3, 3, 3), r"shape \[64, 3, 11, 11\] for .* alex, got float32 of shape \[64, 3, 3, 3\]"),
        (torch.zeros(64, 3, 11, 11, dtype=torch.int8), r"must be a float tensor .*, got int8 of shape"),
        (torch.full((64, 3, 11, 11), float("nan")), r"features\.0\.weight holds NaN or infinite weights"),
    ],
)  # fmt: skip
def test_damaged_weights(broken: Tensor, message: str, backbones: dict[Net, dict[str, Tensor]]) -> None:
    with pytest.raises(TrainingError, match=message + r".*torchvision's AlexNet_Weights\.IMAGENET1K_V1"):
        lpips_distance("alex", {**backbones["alex"], "features.0.weight": broken}, None)


@pytest.mark.parametrize(
    ("net", "file", "enum"),
    [
        ("vgg", "vgg16-397923af.pth", "VGG16_Weights"),
        ("alex", "alexnet-owt-7be5be79.pth", "AlexNet_Weights"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth", "SqueezeNet1_1_Weights"),
    ],
)
def test_without_torchvisions_file(
    net: Net, file: str, enum: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(TrainingError) as raised:
        lpips_distance(net, None, 224, key="stages.finetune.backbone")
    message = str(raised.value)
    for part in (
        f"no file {file} in {tmp_path / 'checkpoints'}",
        f"{enum}.IMAGENET1K_V1",
        "nothing is downloaded",
    ):
        assert part in message
    assert message.endswith("or name another file with stages.finetune.backbone.")
    assert "http" not in message


def test_torchvisions_file_is_checked_and_read(
    backbones: dict[Net, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({**backbones["alex"], "classifier.6.bias": torch.zeros(5)}, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()[:8]
    path = (folder / "new").rename(folder / f"alexnet-owt-{digest}.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual, "_published", lambda net: SimpleNamespace(url=f"host/{path.name}"))
    x, y = pairs()
    cached = lpips_distance("alex", None, None)(x, y)
    assert torch.equal(cached, lpips_distance("alex", backbones["alex"], None)(x, y))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        TrainingError, match=f"{path.name} is damaged: its SHA-256 starts with .*, not {digest}"
    ):
        lpips_distance("alex", None, None)


def test_real_squeezenet_weights_order_distortions(shared_data: Path) -> None:
    """Stronger noise is further away, and a shift by one pixel is nearer than noise of the same squared error."""
    file = shared_data / "squeezenet" / "squeezenet1_1-imagenet-features.safetensors"
    distance = lpips_distance("squeeze", load_file(file), None)
    ramp = torch.linspace(-3, 3, 64)
    waves = [torch.sin(2 * ramp[:, None] + k * ramp[None]) for k in (1.0, 1.5, 2.0)]
    x = 0.8 * torch.stack(waves)[None]
    shifted = x.roll(1, dims=3)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    equal = x + (shifted - x).square().mean().sqrt() * noise
    levels = [distance(x, x + sigma * noise).item() for sigma in (0.05, 0.1, 0.2, 0.4, 0.8)]
    assert levels == sorted(levels) and levels[-1] > 5 * levels[0]
    assert distance(x, shifted).item() < 0.5 * distance(x, equal).item()

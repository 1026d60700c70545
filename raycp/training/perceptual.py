"""LPIPS with an ImageNet backbone, as a distance for training.

Shapes: x_BCHW images in model units [-1, 1], C 1 or 3; features [B, C_l, H_l, W_l] of layer l; weight_l [1, C_l, 1, 1].
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycp.errors import TrainingError

Net = Literal["vgg", "alex", "squeeze"]

_PREFIX = "features."
# Images with a shorter side lose all their pixels in the backbone's pooling.
_SMALLEST = {"vgg": 16, "alex": 31, "squeeze": 17}
# Under the root, so that the slope of a feature that vanishes is at most 1e5.
_EPS = 1e-10


def lpips_distance(
    net: Net, backbone: Mapping[str, Tensor] | None, resize: int | None, key: str = "backbone"
) -> PerceptualDistance:
    """The LPIPS distance on a backbone's features: version 0.1, with the learned weights that the lpips package ships.

    Args:
        net: the backbone: VGG-16, AlexNet or SqueezeNet 1.1.
        backbone: its weights under torchvision's names, `features.*`; other names, such as those of the classifier
            behind the features, are ignored. None reads torchvision's file from the checkpoints folder of torch.hub.
            Nothing is ever downloaded.
        resize: images are resized to `resize x resize` first (224 in Li et al.); None compares them as they are.
        key: dotted path of the configuration key that names a weights file, and the file if there is one; for messages.

    Returns:
        A module on the CPU, in float32; move it with `.to(device)`.

    Raises:
        TrainingError: there is no cached file, it is damaged, the weights belong to another network, or `resize` is
            too small for the backbone.
    """
    if resize is not None and resize < _SMALLEST[net]:
        raise TrainingError(f"resize must be at least {_SMALLEST[net]} for the backbone {net}, got {resize}.")
    state = _cached_backbone(net, key) if backbone is None else backbone
    return PerceptualDistance(net, state, resize, key)


class PerceptualDistance(nn.Module):
    """`sum_l mean_{h,w} sum_c w_lc (u_lc(x) - u_lc(y))^2`, u_l the features of layer l at unit norm over channels, [B].

    The backbone is frozen and in eval mode; gradients flow to the images. Grey images are repeated to three channels.
    Resizing is bilinear, with `align_corners=False` and no antialiasing. The lpips package supplies the layers, the
    normalisation of the input and the weights w.

    Source: Zhang et al. 2018, arXiv 1801.03924, equation 1. Deviation from the package's forward pass: features are
    scaled by `1/sqrt(|f|^2 + 1e-10)`, not `1/(|f| + 1e-10)`, whose slope is up to 1e10 near 0 and NaN where squares
    underflow. A scaled feature differs by the factor `1 - 0.5e-10/|f|^2`. Li et al. 2024 use the backbone vgg and
    resize to 224.
    """

    def __init__(
        self, net: Net, backbone: Mapping[str, Tensor], resize: int | None, key: str = "backbone"
    ) -> None:
        super().__init__()
        import lpips

        self._net = net
        self._resize = resize
        self._scaling = lpips.lpips.ScalingLayer()
        self._features = _empty_backbone(net)
        names = {_torchvision_name(name): name for name in self._features.state_dict()}
        _check_backbone(net, self._features, names, backbone, key)
        state = {own: backbone[name].detach().to("cpu", torch.float32) for name, own in names.items()}
        self._features.load_state_dict(state, assign=True)
        for number, weight in enumerate(_channel_weights(net)):
            self.register_buffer(f"_weight_{number}", weight)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """A distance is never trained: it stays in eval mode."""
        return super().train(False)

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
        """The distance of each pair of images, [B].

        Raises:
            TrainingError: the images have neither 1 nor 3 channels, or are too small for the backbone.
        """
        total = x_BCHW.new_zeros(len(x_BCHW))
        for number, (f, g) in enumerate(zip(self._layers(x_BCHW), self._layers(y_BCHW), strict=True)):
            weight: Tensor = getattr(self, f"_weight_{number}")
            total = total + (weight * (_unit(f) - _unit(g)).square()).sum(dim=1).mean(dim=(1, 2))
        return total

    def _layers(self, x_BCHW: Tensor) -> tuple[Tensor, ...]:
        C, H, W = x_BCHW.shape[1:]
        if C not in (1, 3):
            raise TrainingError(f"lpips compares images of 1 or 3 channels, got {C}. Train with l1 or l2.")
        if self._resize is not None:
            size = (self._resize, self._resize)
            x_BCHW = F.interpolate(x_BCHW, size, mode="bilinear", align_corners=False)
        elif min(H, W) < _SMALLEST[self._net]:
            raise TrainingError(
                f"images of {H}x{W} pixels are too small for the backbone {self._net}, which needs at least "
                f"{_SMALLEST[self._net]}. Set resize, 224 for example, or take a smaller backbone."
            )
        layers: tuple[Tensor, ...] = self._features(self._scaling(x_BCHW.expand(-1, 3, -1, -1)))
        return layers


def _unit(f_BCHW: Tensor) -> Tensor:
    return f_BCHW * torch.rsqrt(f_BCHW.square().sum(dim=1, keepdim=True) + _EPS)


def _empty_backbone(net: Net) -> nn.Module:
    """The backbone cut into layers, without memory for its weights and without drawing any."""
    from lpips import pretrained_networks

    make = {
        "vgg": pretrained_networks.vgg16,
        "alex": pretrained_networks.alexnet,
        "squeeze": pretrained_networks.squeezenet,
    }
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models\._utils")
        backbone: nn.Module = make[net](pretrained=False)
    return backbone


def _torchvision_name(own: str) -> str:
    """`slice2.3.squeeze.weight` -> `features.3.squeeze.weight`: lpips keeps torchvision's numbers inside its slices."""
    return _PREFIX + own.partition(".")[2]


def _check_backbone(
    net: Net, features: nn.Module, names: Mapping[str, str], backbone: Mapping[str, Tensor], key: str
) -> None:
    """Refuse weights that are not all of this network's features, and nothing but them."""
    own = features.state_dict()
    missing = [name for name in names if name not in backbone]
    unexpected = [name for name in backbone if name.startswith(_PREFIX) and name not in names]
    if missing or unexpected:
        raise TrainingError(
            f"{key}: these are not the weights of the backbone {net}: missing {_some(missing)}; unexpected "
            f"{_some(unexpected)}. {_wanted(net)}, or a file with its features.*."
        )
    for name, own_name in names.items():
        found, expected = backbone[name], own[own_name]
        if found.shape != expected.shape or not found.is_floating_point():
            raise TrainingError(
                f"{key}: {name} must be a float tensor of shape {list(expected.shape)} for the backbone {net}, got "
                f"{str(found.dtype).removeprefix('torch.')} of shape {list(found.shape)}. {_wanted(net)}."
            )
        if not bool(found.isfinite().all()):
            raise TrainingError(f"{key}: {name} holds NaN or infinite weights. {_wanted(net)}.")


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}" or "none"


def _wanted(net: Net) -> str:
    return f"Wanted are torchvision's {_published(net)}"


def _published(net: Net) -> Any:
    """Torchvision's enum member of the weights that LPIPS was fitted on."""
    from torchvision import models

    return {
        "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        "alex": models.AlexNet_Weights.IMAGENET1K_V1,
        "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }[net]


def _cached_backbone(net: Net, key: str) -> dict[str, Tensor]:
    """Torchvision's weights file from the folder where torchvision itself would keep it."""
    published = _published(net)
    name = published.url.rpartition("/")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    if not path.is_file():
        raise TrainingError(
            f"the backbone {net} of lpips needs torchvision's {published}: there is no file {name} in {folder}, and "
            f"nothing is downloaded. Put it there (torchvision does when it loads {published}), or name another file "
            f"with {key}."
        )
    # Torchvision's names end in the first digits of the file's SHA-256: a file cut short is found before it is read.
    digest = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise TrainingError(
            f"{path} is damaged: its SHA-256 starts with {found[: len(digest)]}, not {digest}. Fetch it again, or "
            f"name another file with {key}."
        )
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _channel_weights(net: Net) -> list[Tensor]:
    """The learned weight of every channel of every layer, from the file that the lpips package installs."""
    file = resources.files("lpips") / "weights" / "v0.1" / f"{net}.pth"
    with resources.as_file(file) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{number}.model.1.weight"] for number in range(len(state))]

"""Feature networks: what the last linear layer of a network sees, for comparing sets of images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from raycp.config.evaluate import InceptionFeatures
from raycp.config.models import ClassifierConfig
from raycp.errors import ModelError
from raycp.models.bundle import Bundle, fitted_state, load_state, make_bundle
from raycp.models.classifier import build_classifier, read_classifier
from raycp.models.fid_inception import FidInception
from raycp.models.weights import read_tensors

_INCEPTION = "inception"
_INCEPTION_FILES = (
    "kind: inception wants pt_inception-2015-12-05-6726825d.pth of pytorch-fid or "
    "weights-inception-2015-12-05-6726825d.pth of torch-fidelity; torchvision's inception_v3 is another network."
)


class FeatureNetwork(nn.Module):
    """Images to the input of a network's last linear layer.

    Args:
        network: images in pixel units to logits.
        num_classes: outputs of its last linear layer.
        name: for messages and results.

    Raises:
        ModelError: the network has no such layer.
    """

    def __init__(self, network: nn.Module, num_classes: int, name: str) -> None:
        super().__init__()
        self.network = network
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        if not layers or layers[-1].out_features != num_classes:
            raise ModelError(
                f"evaluate.features: {name} does not end in a linear layer of {num_classes} outputs, whose input "
                "would be its features. Take another classifier, or the Inception network."
            )
        self.dimensions: int = layers[-1].in_features
        self._seen: list[Tensor] = []
        layers[-1].register_forward_pre_hook(lambda _, inputs: self._seen.append(inputs[0]))

    @torch.inference_mode()
    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features [B, d], float32, of images [B, C, H, W] in [0, 1]."""
        self._seen.clear()
        self.network(x_BCHW)
        (features_Bd,) = self._seen
        if features_Bd.shape != (len(x_BCHW), self.dimensions):
            raise ModelError(
                f"evaluate.features: the last linear layer sees {list(features_Bd.shape)} for {len(x_BCHW)} images, "
                "not one row of features per image. Take another classifier, or the Inception network."
            )
        return features_Bd.float()


def read_features(config: InceptionFeatures | ClassifierConfig) -> Bundle:
    """Read a feature network's weights and check that they fit.

    Raises:
        ModelError, UnsafeFileError: see `read_classifier`; there is no layer to take features from; or an Inception
            file holds NaN or infinite weights.
    """
    if not isinstance(config, InceptionFeatures):
        bundle = read_classifier(config)
        build_features(bundle)
        return bundle
    with torch.device("meta"):
        network = FidInception()
    tensors = read_tensors(config.weights, key="evaluate.features.weights")
    try:
        state = fitted_state(network.network, tensors, f"evaluate.features.weights: {config.weights}")
    except ModelError as err:
        raise ModelError(f"{err} {_INCEPTION_FILES}") from err
    bundle = make_bundle({"kind": _INCEPTION}, state, network)
    if bad := bundle.not_finite:
        raise ModelError(
            f"evaluate.features.weights: {len(bad)} of {len(state)} tensors in {config.weights} hold NaN or infinite "
            f"weights, first {bad[0]}; fetch the file again. {_INCEPTION_FILES}"
        )
    return bundle


def build_features(bundle: Bundle) -> FeatureNetwork:
    """Build the network from a bundle, without files: float32, eval mode, no gradients, on the CPU."""
    name = features_name(bundle.recipe)
    if bundle.recipe["kind"] != _INCEPTION:
        return FeatureNetwork(build_classifier(bundle), bundle.recipe["num_classes"], name)
    with torch.device("meta"):
        inception = FidInception()
    load_state(inception.network, bundle.state, assign=True)
    return FeatureNetwork(inception.eval(), 1008, name)


def features_name(recipe: dict[str, Any]) -> str:
    """What a feature network is, in a few words."""
    if recipe["kind"] == _INCEPTION:
        return "Inception 2015-12-05"
    return f"{recipe['kind']} classifier"

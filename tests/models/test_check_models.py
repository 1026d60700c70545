"""The one-image check: what does not fit is said in the words of the configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raycp.config.models import PythonClassifier
from raycp.errors import ModelError
from raycp.models import (
    Classifier,
    Denoiser,
    ResidualClassifier,
    build_classifier,
    check_models,
    read_classifier,
)

DIGIT = torch.full((1, 8, 8), 0.5)


def identity(x: Tensor, sigma: float) -> Tensor:
    return x


def classifier(in_channels: int = 1, num_classes: int = 10) -> Classifier:
    network = ResidualClassifier(num_classes, in_channels, (8,), blocks=1).eval()
    return Classifier(network, num_classes, in_channels)


def denoiser(channels: int) -> Denoiser:
    return Denoiser(nn.Identity(), "edm", channels, (8, 8), 0.002, 80.0)


def test_models_that_fit_pass_at_every_sigma() -> None:
    seen = []

    def purify(x: Tensor, sigma: float) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append((sigma, tuple(x.shape)))
        return x

    check_models(purify, denoiser(1), classifier(), DIGIT, (0.25, 1.0))
    assert seen == [(0.25, (1, 1, 8, 8)), (1.0, (1, 1, 8, 8))]


def test_channels_of_the_purifier() -> None:
    with pytest.raises(ModelError) as error:
        check_models(identity, denoiser(3), classifier(), DIGIT, (0.5,))
    assert str(error.value) == (
        "the images are 1x8x8, 1 channel(s), but the purifier's network (purifier.model.path) takes 3: choose the "
        "network or the data set so that they agree."
    )


def test_channels_of_the_classifier() -> None:
    with pytest.raises(
        ModelError, match=r"1 channel\(s\), but the classifier's network \(classifier\.in_channels, "
    ):
        check_models(identity, None, classifier(in_channels=3), DIGIT, (0.5,))


def test_a_normalisation_of_three_channels_does_not_turn_a_grey_image_into_a_colour_one() -> None:
    config = PythonClassifier(
        kind="python", factory="user_resnet:resnet", kwargs={"depth": 8}, num_classes=10,
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    made = build_classifier(read_classifier(config))
    assert made(DIGIT[None]).shape == (1, 10)  # by broadcasting: the mistake that the check is for
    with pytest.raises(
        ModelError, match=r"images are 1x8x8, 1 channel\(s\), but the classifier's network .* takes 3"
    ):
        check_models(identity, None, made, DIGIT, (0.5,))


def test_a_users_network_of_other_channels_says_what_torch_says() -> None:
    config = PythonClassifier(
        kind="python", factory="user_resnet:resnet", kwargs={"depth": 8}, num_classes=10
    )
    made = build_classifier(read_classifier(config))
    with pytest.raises(
        ModelError, match=r"classifier's network fails on 1x8x8 images: .* 3 channels, but got 1"
    ):
        check_models(identity, None, made, DIGIT, (0.5,))


def test_a_number_of_logits_that_is_not_the_number_of_classes() -> None:
    with pytest.raises(
        ModelError, match=r"\[1, 7\] for one image \(classifier\.num_classes\), got \[1, 10\]"
    ):
        check_models(identity, None, Classifier(classifier().network, 7), DIGIT, (0.5,))


def test_logits_that_are_no_tensor() -> None:
    config = PythonClassifier(kind="python", factory="user_resnet:tuple_of_logits", num_classes=3)
    made = build_classifier(read_classifier(config))
    with pytest.raises(ModelError, match="must return a tensor of logits, got a tuple"):
        check_models(identity, None, made, DIGIT, (0.5,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(value: float) -> None:
    made = classifier()
    made.network.head.bias.data[3] = value
    with pytest.raises(ModelError, match=r"NaN or infinite logits for the checked image at sigma = 0\.5"):
        check_models(identity, None, made, DIGIT, (0.5,))


def test_a_purifier_that_fails_or_changes_the_shape() -> None:
    def failing(x: Tensor, sigma: float) -> Tensor:
        raise RuntimeError("Sizes of tensors must match")

    with pytest.raises(
        ModelError, match=r"purifier's network .* fails on 1x8x8 images: Sizes of tensors must match"
    ):
        check_models(failing, None, classifier(), DIGIT, (0.5,))
    with pytest.raises(
        ModelError, match=r"turns a 1x8x8 image into one of \(1, 4, 4\); it must keep the shape"
    ):
        check_models(lambda x, sigma: x[..., ::2, ::2], None, classifier(), DIGIT, (0.5,))


def test_an_error_of_ours_keeps_its_message() -> None:
    def outside(x: Tensor, sigma: float) -> Tensor:
        raise ModelError("sigma = 90 is outside")

    with pytest.raises(ModelError, match=r"^sigma = 90 is outside$"):
        check_models(outside, None, classifier(), DIGIT, (90.0,))


def test_importing_models_and_purifiers_loads_no_library_of_networks() -> None:
    code = "import raycp.models, raycp.purifiers, sys; print({'diffusers', 'timm', 'transformers'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "set()"

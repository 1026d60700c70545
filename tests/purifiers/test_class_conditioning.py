"""Class-conditional purifiers: one class, none, the mean of all, or the one that the classifier predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, DenoiserModel, EDMPurifier, PFODEPurifier
from raycp.errors import ModelError
from raycp.models import Classifier, Denoiser, build_denoiser, check_models, read_denoiser
from raycp.models.denoiser_directory import save_denoiser
from raycp.models.score_unet import ScoreUNet
from raycp.purifiers import build_purifier
from raycp.sampling.base_classifier import RandomPurifier

CLASSES = 3
BETAS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


def saved(folder: Path, parametrisation: Any, ours: bool = False) -> Any:
    """A small class-conditional network with random weights, written to a folder."""
    from diffusers import UNet2DModel

    torch.manual_seed(3)
    network: Any
    if ours:
        network = ScoreUNet(8, 1, 8, [1, 2], 1, [4], False, False, 1, [1, 1], CLASSES)
    else:
        network = UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1,
            norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
            num_class_embeds=CLASSES,
        )  # fmt: skip
        with torch.no_grad():
            network.class_embedding.weight.mul_(5)
    steps = BETAS if parametrisation == "ddpm" else {}
    save_denoiser(folder, network, parametrisation, **steps)
    return network.eval()


def denoiser_of(folder: Path, label: Any) -> Denoiser:
    return build_denoiser(read_denoiser(DenoiserModel(path=str(folder), class_label=label)))


@torch.no_grad()
def test_none_and_mean_of_a_unet_of_diffusers(tmp_path: Path) -> None:
    unet = saved(tmp_path, "edm")
    x, conditioning = torch.randn(2, 1, 8, 8), torch.full((2,), torch.tensor(0.9).log() / 4)
    rows = unet.class_embedding.weight.clone()
    mean = rows.mean(dim=0)
    outputs = {}
    for label, row in {"none": torch.zeros_like(mean), "mean": mean, 2: rows[2]}.items():
        unet.class_embedding.weight.copy_(row.expand_as(rows))
        norm = (0.81 + 0.25) ** 0.5
        output = unet(x / norm, conditioning, class_labels=torch.tensor([0, 1])).sample
        expected = 0.25 / norm**2 * x + 0.9 * 0.5 / norm * output
        outputs[label] = denoiser_of(tmp_path, label)(x, 0.9)
        torch.testing.assert_close(outputs[label], expected, rtol=1e-4, atol=1e-5)
    assert (outputs["none"] - outputs["mean"]).abs().max() > 1e-3
    assert (outputs[2] - outputs["mean"]).abs().max() > 1e-3


@torch.no_grad()
def test_none_and_mean_of_a_score_unet(tmp_path: Path) -> None:
    """As the original does it: no class is a row of zeros in the place of the one-hot row."""
    network = saved(tmp_path, "edm", ours=True)
    x, conditioning = torch.randn(2, 1, 8, 8), torch.tensor([-0.4, 0.2])
    built: Any = denoiser_of(tmp_path, 0).network
    assert torch.equal(built(x, conditioning, torch.full((2,), CLASSES))[0], network(x, conditioning)[0])
    for labels, chosen in (
        (torch.full((2,), CLASSES), torch.zeros(2, CLASSES)),
        (torch.full((2,), CLASSES + 1), torch.full((2, CLASSES), 1 / CLASSES)),
        (torch.tensor([2, 0]), torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])),
    ):
        bias = network.map_label.bias + chosen * CLASSES**0.5 @ network.map_label.weight.T
        each = []
        for image in range(2):
            plain = ScoreUNet(**network.config)
            plain.load_state_dict(network.state_dict())
            plain.map_label.weight.zero_()
            plain.map_label.bias.copy_(bias[image])
            each.append(plain(x[image : image + 1], conditioning[image : image + 1])[0])
        torch.testing.assert_close(built(x, conditioning, labels)[0], torch.cat(each), rtol=1e-4, atol=1e-5)


def predicting(x_BCHW: Tensor) -> Tensor:
    """Logits [B, 3]: the class by the mean of the image."""
    value = x_BCHW.mean(dim=(1, 2, 3))
    return torch.stack([value * 0, value - 0.4, 2 * value - 1.2], dim=1)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["consistency", "edm", "pf_ode", "ddpm"])
def test_a_predicted_class_is_that_of_the_image_purified_with_the_mean(tmp_path: Path, kind: str) -> None:
    saved(tmp_path, "edm" if kind == "pf_ode" else kind)

    def purifier(label: Any) -> Any:
        model = DenoiserModel(path=str(tmp_path), class_label=label)
        config: Any = {
            "consistency": ConsistencyPurifier,
            "edm": EDMPurifier,
            "pf_ode": PFODEPurifier,
            "ddpm": DDPMPurifier,
        }[kind](kind=kind, model=model)
        return build_purifier(config, build_denoiser(read_denoiser(model)), predicting)

    x = torch.linspace(0, 1.2, 9).view(9, 1, 1, 1) + 0.25 * torch.randn(9, 1, 8, 8)
    labels = predicting(purifier("mean")(x, 0.25)).argmax(dim=1)
    assert set(labels.tolist()) == {0, 1, 2}
    ours = purifier("predicted")(x, 0.25)
    for image, label in enumerate(labels.tolist()):
        torch.testing.assert_close(
            ours[image], purifier(label)(x[image : image + 1], 0.25)[0], rtol=1e-4, atol=1e-5
        )
        assert (ours[image] - purifier((label + 1) % 3)(x[image : image + 1], 0.25)[0]).abs().max() > 1e-3


def test_a_classifier_of_other_classes_cannot_predict_them(tmp_path: Path) -> None:
    saved(tmp_path, "consistency")
    denoiser = denoiser_of(tmp_path, "predicted")
    classifier = Classifier(nn.Identity(), 10, 1)
    with pytest.raises(ModelError, match=r"knows 3 classes and the classifier 10; they must be the same"):
        check_models(lambda x, sigma: x, denoiser, classifier, torch.zeros(1, 8, 8), [0.25])


def test_the_label_is_part_of_the_hash(tmp_path: Path) -> None:
    saved(tmp_path, "consistency")
    labels = (0, 1, "none", "mean", "predicted")
    hashes = {read_denoiser(DenoiserModel(path=str(tmp_path), class_label=label)).sha256 for label in labels}
    assert len(hashes) == 5


@torch.no_grad()
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_predict_no_class(tmp_path: Path, value: float) -> None:
    """The second purification could hide them: the sample must not become a vote."""
    saved(tmp_path, "consistency")
    model = DenoiserModel(path=str(tmp_path), class_label="predicted")
    calls = []

    def failing_first(x_BCHW: Tensor) -> Tensor:
        logits = torch.zeros(len(x_BCHW), CLASSES)
        if not calls:
            logits[1, 0] = value
        calls.append(len(x_BCHW))
        return logits

    config = ConsistencyPurifier(kind="consistency", model=model)
    purify = build_purifier(config, build_denoiser(read_denoiser(model)), failing_first)
    assert not isinstance(purify, RandomPurifier)
    purified = purify(torch.rand(3, 1, 8, 8), 0.25)
    assert purified[[0, 2]].isfinite().all() and purified[1].isnan().all()

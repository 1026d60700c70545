"""A converted model votes as the network of the original file does: the same noise, the same counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edm_files import write_edm_file
from openai_reference import OpenaiUnet
from torch import Tensor, nn

from raycp.config.models import ConsistencyPurifier, DDPMPurifier, DenoiserModel, EDMPurifier
from raycp.models import build_denoiser, read_denoiser
from raycp.models.conversion import Conversion, convert_denoiser
from raycp.models.edm_pickle import read_edm_pickle
from raycp.models.score_unet import ScoreUNet
from raycp.purifiers import build_purifier
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise

CPU = torch.device("cpu")
SIGMA, SIDE, K, SAMPLES, BATCH = 0.5, 16, 5, 60, 20
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)


class Original(nn.Module):
    """OpenAI's network, called as one of diffusers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, x: Tensor, conditioning_B: Tensor, labels_B: Tensor | None, return_dict: bool
    ) -> tuple[Tensor]:
        return (self.network(x, conditioning_B.float(), labels_B),)


def openai(
    folder: Path, conversion: Conversion, label: int | None, **shape: Any
) -> tuple[nn.Module, DenoiserModel]:
    torch.manual_seed(1)
    network = OpenaiUnet(resnets=1, **shape).eval()
    torch.save(network.state_dict(), folder / "net.pt")
    convert_denoiser(folder / "net.pt", folder / "out", conversion)
    return Original(network), DenoiserModel(path=str(folder / "out"), class_label=label)


def consistency(folder: Path) -> tuple[nn.Module, DenoiserModel]:
    shape = {"channels": [32, 64], "attends": [False, True], "heads": 2, "improved": False, "classes": 4}
    return openai(folder, Conversion("consistency", SIDE, head_width=32), 2, **shape)


def ddpm(folder: Path) -> tuple[nn.Module, DenoiserModel]:
    shape = {"channels": [32, 64], "attends": [False, True], "heads": 4, "improved": True, "outside": 6}
    return openai(folder, Conversion("ddpm", SIDE), None, **shape)


def edm(folder: Path) -> tuple[nn.Module, DenoiserModel]:
    arguments = {
        "img_resolution": SIDE, "img_channels": 3, "label_dim": 0, "model_type": "SongUNet", "model_channels": 16,
        "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8], "embedding_type": "positional",
        "encoder_type": "standard", "channel_mult_noise": 1, "resample_filter": [1, 1],
    }  # fmt: skip
    torch.manual_seed(1)
    network = ScoreUNet(SIDE, 3, 16, [1, 2], 1, [8], False, False, 1, [1, 1])
    file = write_edm_file(
        folder / "net.pkl",
        arguments,
        {f"model.{name}": t.detach() for name, t in network.state_dict().items()},
    )
    convert_denoiser(file, folder / "out", Conversion())
    state = {name.removeprefix("model."): tensor for name, tensor in read_edm_pickle(file).state.items()}
    network.load_state_dict(state, strict=True)
    return network.eval(), DenoiserModel(path=str(folder / "out"))


@torch.no_grad()
@pytest.mark.parametrize("make", [consistency, ddpm, edm])
def test_the_same_counts(tmp_path: Path, make: Any) -> None:
    network, model = make(tmp_path)
    kinds = {"consistency": ConsistencyPurifier, "ddpm": DDPMPurifier, "edm": EDMPurifier}
    config: Any = kinds[make.__name__](kind=make.__name__, model=model)
    converted = build_denoiser(read_denoiser(model))
    torch.manual_seed(2)
    classify = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, K)).eval()

    def counts(denoiser: Any) -> np.ndarray:
        purify = build_purifier(config, denoiser)
        base = BaseClassifier(purify, classify, CPU, torch.float32, channels_last=False)
        noise = make_noise("sound", IMAGES, np.arange(3), 0, CPU)
        return Kernel(base, noise, K, BATCH).run(
            SIGMA, [Block(i, Phase.ESTIMATION, 0, SAMPLES) for i in range(3)]
        )

    found = counts(converted)
    assert np.array_equal(found, counts(dataclasses.replace(converted, network=network)))
    assert (np.sort(found, axis=1)[:, -2] > 0).any()  # not all samples of an image vote alike
    for parameter in network.parameters():
        parameter.mul_(1.5)
    assert not np.array_equal(found, counts(dataclasses.replace(converted, network=network)))

"""The networks of NVlabs' EDM from pickles of their form: what the original code recorded, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from edm_files import write_edm_file
from safetensors.torch import load_file
from torch import nn

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError
from raycp.models import build_denoiser, read_denoiser
from raycp.models.conversion import Conversion, convert_denoiser
from raycp.models.diffusers_unet import make_unet
from raycp.models.edm_unet import edm_unet
from raycp.models.score_unet import ScoreUNet

SMALL: dict[str, Any] = {
    "img_resolution": 8, "img_channels": 3, "label_dim": 0, "model_type": "SongUNet", "model_channels": 8,
    "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "embedding_type": "fourier",
    "encoder_type": "residual", "channel_mult_noise": 2, "resample_filter": [1, 3, 3, 1],
}  # fmt: skip


@torch.no_grad()
def test_the_recorded_images(shared_data: Path, tmp_path: Path) -> None:
    """A pickle of the published form, converted, is D(x; sigma)."""
    folder = shared_data / "parity" / "edm"
    arguments = json.loads((folder / "ncsnpp.init_kwargs.json").read_text())["init_kwargs"]
    state, io = load_file(folder / "ncsnpp.safetensors"), load_file(folder / "ncsnpp.io.safetensors")
    file = write_edm_file(tmp_path / "net.pkl", arguments, state)
    facts, bundle = convert_denoiser(file, tmp_path / "out", Conversion())
    assert bundle is not None and facts.network == "EDMPrecond of EDM around a SongUNet"
    denoiser = build_denoiser(bundle)
    assert (denoiser.parametrisation, denoiser.image_size, denoiser.channels) == ("edm", (16, 16), 3)
    for i, sigma in enumerate(io["sigma"].tolist()):
        assert float((denoiser(io["x_t"][i : i + 1], sigma) - io["denoised"][i : i + 1]).abs().max()) <= 1e-4


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ({"fourier": False, "residual_input": False, "noise_mult": 1, "resample_filter": [1, 1]}, 55_732_739),
        (
            {"fourier": True, "residual_input": True, "noise_mult": 2, "resample_filter": [1, 3, 3, 1]},
            56_395_523,
        ),
    ],
)
def test_the_published_sizes(shape: dict[str, Any], parameters: int) -> None:
    """DDPM++ and NCSN++ for CIFAR-10, as the original code counts them."""
    with torch.device("meta"):
        network = ScoreUNet(32, 3, 128, [2, 2, 2], 4, [16], **shape)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def small_state(**changes: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    arguments = SMALL | changes
    network = ScoreUNet(8, 3, 8, [1, 2], 1, [4], True, True, 2, [1, 3, 3, 1], arguments["label_dim"] or None)
    with torch.no_grad():
        network.map_noise.freqs.copy_(torch.randn(8))
    return arguments, {f"model.{name}": tensor.detach() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def test_a_converted_pickle_is_its_network(tmp_path: Path) -> None:
    arguments, state = small_state(label_dim=5)
    file = write_edm_file(tmp_path / "net.pkl", arguments, state)
    assert convert_denoiser(file, tmp_path / "out", Conversion())[1] is None  # it wants a class
    bundle = read_denoiser(DenoiserModel(path=str(tmp_path / "out"), class_label=3))
    assert {f"model.{name}" for name in bundle.state} == set(state)
    denoiser = build_denoiser(bundle)
    x = torch.randn(2, 3, 8, 8)
    network = ScoreUNet(**bundle.recipe["network"]).eval()
    network.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    conditioning = torch.full((2,), torch.tensor(0.7).log() / 4)
    output = network(x / (0.25 + 0.49) ** 0.5, conditioning, torch.tensor([3, 3]))[0]
    expected = 0.25 / 0.74 * x + 0.7 * 0.5 / 0.74**0.5 * output
    torch.testing.assert_close(denoiser(x, 0.7), expected, rtol=1e-4, atol=1e-5)
    unlabelled = network(x, conditioning)[0]
    assert not torch.allclose(unlabelled, network(x, conditioning, torch.tensor([3, 3]))[0], atol=1e-4)
    with pytest.raises(ModelError, match="class_label must be 0 to 4, none, mean or predicted, got 5"):
        read_denoiser(DenoiserModel(path=str(tmp_path / "out"), class_label=5))


@torch.no_grad()
def test_without_classes_it_sees_their_mean(tmp_path: Path) -> None:
    arguments, state = small_state(label_dim=5)
    file = write_edm_file(tmp_path / "net.pkl", arguments, state)
    _, bundle = convert_denoiser(file, tmp_path / "out", Conversion(unconditional=True))
    assert bundle is not None
    convert_denoiser(file, tmp_path / "classes", Conversion())
    labelled = read_denoiser(DenoiserModel(path=str(tmp_path / "classes"), class_label=0))
    network: Any = build_denoiser(labelled).network
    weight = network.map_label.weight
    weight.copy_(weight.mean(dim=1, keepdim=True).expand_as(weight))
    x, conditioning = torch.randn(2, 3, 8, 8), torch.tensor([-0.5, 0.3])
    expected = network(x, conditioning, torch.tensor([1, 4]))[0]
    ours = build_denoiser(bundle).network(x, conditioning, return_dict=False)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_what_is_another_network_is_named(tmp_path: Path) -> None:
    arguments, state = small_state()
    for changes, words in {
        ("model_type", "Transformer"): "a network of kind Transformer; known are SongUNet and DhariwalUNet",
        ("decoder_type", "skip"): "decoder_type skip; evaluated are",
    }.items():
        with pytest.raises(ModelError, match=words):
            edm_unet(arguments | dict([changes]), state, "net.pkl")
    with pytest.raises(ModelError, match=r"resample_filter is not \[1, 3, 3, 1\]"):
        edm_unet(
            arguments, state | {"model.enc.4x4_down.conv0.resample_filter": torch.ones(1, 1, 4, 4)}, "net.pkl"
        )
    file = write_edm_file(tmp_path / "net.pkl", arguments, state)
    with pytest.raises(ModelError, match="is a network of EDM with image_size 8, not 32"):
        convert_denoiser(file, tmp_path / "out", Conversion(image_size=32))
    lacking = {name: tensor for name, tensor in state.items() if "map_layer0" not in name}
    file = write_edm_file(tmp_path / "lacking.pkl", arguments, lacking)
    with pytest.raises(ModelError, match=r"2 missing: map_layer0\.weight"):
        convert_denoiser(file, tmp_path / "out", Conversion())
    assert not (tmp_path / "out").exists()


ADM: dict[str, Any] = {
    "img_resolution": 16, "img_channels": 3, "label_dim": 10, "model_type": "DhariwalUNet", "model_channels": 8,
    "channel_mult": [2, 3], "num_blocks": 1, "attn_resolutions": [16, 8],
}  # fmt: skip


def test_the_head_width_of_adm_is_given(shared_data: Path, tmp_path: Path) -> None:
    """Narrow layers, narrow heads, and a noise embedding narrower than the first layer: all of it in the folder."""
    state = load_file(shared_data / "parity" / "edm" / "adm-multihead.safetensors")
    file = write_edm_file(tmp_path / "net.pkl", ADM, state)
    with pytest.raises(ModelError, match="has 16 channels, which heads of 64 channels do not divide"):
        convert_denoiser(file, tmp_path / "out", Conversion())
    convert_denoiser(file, tmp_path / "out", Conversion(head_width=8))
    written = json.loads((tmp_path / "out" / "unet" / "config.json").read_text())
    assert (written["attention_head_dim"], written["norm_num_groups"]) == (8, 32)
    assert (written["min_channels_per_group"], written["noise_channels"]) == (4, 8)
    network: Any = build_denoiser(
        read_denoiser(DenoiserModel(path=str(tmp_path / "out"), class_label=0))
    ).network
    assert [block.attentions[0].heads for block in network.down_blocks] == [2, 3]
    assert {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)} == {4, 6, 8, 10, 12}
    file = write_edm_file(tmp_path / "score.pkl", *small_state())
    with pytest.raises(ModelError, match="whose layers have one head each; give no head width"):
        convert_denoiser(file, tmp_path / "other", Conversion(head_width=8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"min_channels_per_group": 5},
            "min_channels_per_group 5, up to 32 groups, for a layer of 16 channels",
        ),
        ({"min_channels_per_group": 0}, "min_channels_per_group must be a whole number above 0, got 0"),
        ({"noise_channels": "8"}, "noise_channels must be a whole number above 0, got '8'"),
        (
            {"noise_channels": 8, "time_embedding_type": "fourier"},
            "noise_channels with time_embedding_type 'fourier'",
        ),
    ],
)
def test_arguments_of_ours_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    small = {
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
    }
    with pytest.raises(ValueError, match=message):
        make_unet(small | {"norm_num_groups": 32 if "min_channels_per_group" in arguments else 8} | arguments)

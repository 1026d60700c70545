"""OpenAI's U-Nets as diffusers networks: the same function, of an oracle and of the recorded published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from openai_reference import OpenaiUnet
from safetensors.torch import load_file
from torch import Tensor

from raycp.config.models import DDPMPurifier, DenoiserModel
from raycp.errors import ModelError
from raycp.models import build_denoiser, read_denoiser
from raycp.models.conversion import Conversion, convert_denoiser
from raycp.models.diffusers_unet import make_unet
from raycp.models.openai_unet import diffusers_unet
from raycp.purifiers import build_purifier

SHAPES: dict[str, dict[str, Any]] = {
    "consistency_models": {"channels": [32, 64], "resnets": 2, "attends": [False, True], "heads": 2, "improved": False,
                           "classes": 5},
    "improved-diffusion": {"channels": [32, 64, 64], "resnets": 1, "attends": [False, True, True], "heads": 4,
                           "improved": True, "outside": 6},
    "plain embedding, one level": {"channels": [64], "resnets": 3, "attends": [True], "heads": 4, "improved": True,
                                   "scaled": False},
}  # fmt: skip


def reference(**shape: Any) -> OpenaiUnet:
    torch.manual_seed(0)
    return OpenaiUnet(**shape).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_the_same_function(name: str) -> None:
    from diffusers import UNet2DModel

    network = reference(**SHAPES[name])
    width = 32 if name == "consistency_models" else None
    arguments, tensors = diffusers_unet(network.state_dict(), 16, width, "net.pt")
    converted: Any = UNet2DModel(**arguments)
    converted.load_state_dict(tensors, strict=True)
    x, time = torch.randn(3, 3, 16, 16), torch.tensor([0.0, 12.3, 900.0])
    labels = torch.tensor([0, 3, 4]) if "classes" in SHAPES[name] else None
    ours = converted.eval()(x, time, labels, return_dict=False)[0]
    torch.testing.assert_close(ours, network(x, time, labels), rtol=1e-4, atol=1e-5)
    swapped = converted(x, time.flip(0), labels, return_dict=False)[0]
    assert not torch.allclose(swapped, ours, atol=1e-3)  # it hears the time


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [  # the published sizes, and the numbers of parameters of the original code
        ({"channels": [128, 256, 256, 256], "attends": [False, True, True, False], "heads": 4, "improved": True,
          "outside": 6}, 52_546_438),
        ({"channels": [192, 384, 576, 768], "attends": [False, True, True, True], "heads": 6, "improved": False,
          "classes": 1000}, 295_899_267),
        ({"channels": [128, 256, 384, 512], "attends": [False, False, True, True], "heads": 4, "improved": True,
          "outside": 6}, 121_063_942),
    ],
)  # fmt: skip
def test_the_published_sizes(shape: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        network = OpenaiUnet(resnets=3, **shape)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        arguments, tensors = diffusers_unet(network.state_dict(), 64, None, "net.pt")
        converted = make_unet(arguments)
    converted.load_state_dict(tensors, strict=True, assign=True)
    assert sum(parameter.numel() for parameter in converted.parameters()) == parameters


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    state = reference(**SHAPES["consistency_models"]).state_dict()
    with pytest.raises(
        ModelError, match="an attention layer of 64 channels, which heads of 48 channels do not divide"
    ):
        diffusers_unet(state, 16, 48, "net.pt")
    for damage in ("middle_block.1.qkv.weight", "output_blocks.2.0.skip_connection.bias"):
        lacking = {name: tensor for name, tensor in state.items() if name != damage}
        with pytest.raises(ModelError, match=damage):
            diffusers_unet(lacking, 16, 32, "net.pt")
    with pytest.raises(ModelError, match=r"1 tensors that such a network does not have, first extra\.weight"):
        diffusers_unet({**state, "extra.weight": torch.ones(1)}, 16, 32, "net.pt")
    other = save(tmp_path / "other.pt", {"conv1.weight": torch.ones(2), "fc.weight": torch.ones(2)})
    as_edm = Conversion("edm", 16)
    with pytest.raises(
        ModelError, match=r"other\.pt is a torch file of this network: unknown; converted are"
    ):
        convert_denoiser(other, tmp_path / "out", as_edm)
    with pytest.raises(
        ModelError, match=r"its tensors do not say whether .* give both \(--as, --image-size\)"
    ):
        convert_denoiser(save(tmp_path / "good.pt", dict(state)), tmp_path / "out", Conversion("edm"))
    good = save(tmp_path / "good.pt", dict(state))
    with pytest.raises(ModelError, match="not empty; take another --out"):
        convert_denoiser(good, tmp_path, as_edm)
    with pytest.raises(ModelError, match="is a file, not a model folder; `raycp weights convert`"):
        read_denoiser(DenoiserModel(path=str(good)))


@torch.no_grad()
def test_a_converted_directory_is_the_file(tmp_path: Path) -> None:
    """Read back, the folder has every number of the file, and its card the file's hash."""
    network = reference(**SHAPES["improved-diffusion"])
    path = save(
        tmp_path / "net.pt", {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    )
    facts, bundle = convert_denoiser(path, tmp_path / "out", Conversion("ddpm", 16))
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["converted_from"]["sha256"] == facts.sha256 and facts.prefix == "module."
    assert bundle is not None
    assert sum(tensor.size for tensor in bundle.state.values()) == facts.numbers
    denoiser = build_denoiser(bundle)
    assert (
        denoiser.parametrisation == "ddpm"
        and denoiser.num_steps == 4000
        and denoiser.conditioning_scale == 0.25
    )
    x = torch.randn(2, 3, 16, 16)
    expected = network(x, torch.full((2,), 0.25 * 1158))[:, :3]
    torch.testing.assert_close(denoiser.predict_noise(x, 1158), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_classes_it_sees_their_mean(tmp_path: Path) -> None:
    network = reference(**SHAPES["consistency_models"])
    path = save(tmp_path / "net.pt", dict(network.state_dict()))
    forget = Conversion("edm", 16, head_width=32, unconditional=True)
    _, bundle = convert_denoiser(path, tmp_path / "out", forget)
    assert bundle is not None and bundle.recipe["network"]["num_class_embeds"] is None
    network.label_emb.weight.copy_(network.label_emb.weight.mean(dim=0).expand(5, -1))
    x, time = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 500.0])
    ours = build_denoiser(bundle).network(x, time, return_dict=False)[0]
    torch.testing.assert_close(ours, network(x, time, torch.tensor([0, 4])), rtol=1e-4, atol=1e-5)
    path = save(tmp_path / "plain.pt", reference(**SHAPES["improved-diffusion"]).state_dict())
    with pytest.raises(ModelError, match="is unconditional as it is"):
        convert_denoiser(path, tmp_path / "other", Conversion("ddpm", 16, unconditional=True))


@torch.no_grad()
def test_as_many_heads_in_layers_of_different_widths(tmp_path: Path) -> None:
    """As in improved-diffusion's network for ImageNet-64, which diffusers alone cannot describe."""
    network = reference(
        channels=[32, 64, 96], resnets=1, attends=[False, True, True], heads=4, improved=True, outside=6
    )
    path = save(tmp_path / "net.pt", network.state_dict())
    _, bundle = convert_denoiser(path, tmp_path / "out", Conversion("ddpm", 16))
    assert bundle is not None and bundle.recipe["network"]["attention_heads"] == 4
    x = torch.randn(2, 3, 16, 16)
    expected = network(x, torch.full((2,), 0.25 * 700))[:, :3]
    torch.testing.assert_close(build_denoiser(bundle).predict_noise(x, 700), expected, rtol=1e-4, atol=1e-5)
    config = tmp_path / "out" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"attention_heads": 5}))
    with pytest.raises(ModelError, match="attention_heads 5 for an attention layer of 64 channels"):
        read_denoiser(DenoiserModel(path=str(tmp_path / "out")))


def test_a_conditioning_scale_must_be_a_number_above_0(tmp_path: Path) -> None:
    network = reference(**SHAPES["improved-diffusion"])
    convert_denoiser(
        save(tmp_path / "net.pt", network.state_dict()), tmp_path / "out", Conversion("ddpm", 16)
    )
    path = tmp_path / "out" / "scheduler" / "scheduler_config.json"
    for wrong in ("fast", 0, -1, True, float("inf")):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"conditioning_scale": wrong}))
        with pytest.raises(ModelError, match="conditioning_scale must be a number above 0, got"):
            read_denoiser(DenoiserModel(path=str(tmp_path / "out")))


@torch.no_grad()
def test_the_purifier_is_the_recorded_prediction(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "parity" / "improved-diffusion-pt"
    io = load_file(folder / "io.safetensors")
    _, bundle = convert_denoiser(folder / "model.pt", tmp_path / "model", Conversion("ddpm", 16))
    assert bundle is not None
    model = DenoiserModel(path=str(tmp_path / "model"))
    purify = build_purifier(DDPMPurifier(kind="ddpm", model=model, clip=True), build_denoiser(bundle))
    for i, (t, sigma) in enumerate(zip(io["t"].tolist(), io["sigma"].tolist(), strict=True)):
        # The recorded x_t, undone to pixels, is a noisy image.
        x = (io["x_t"][i : i + 1] / float(io["alphas_cumprod"][t]) ** 0.5 + 1) / 2
        expected = (io["pred_xstart_clipped"][i : i + 1] + 1) / 2
        assert float((purify(x, sigma) - expected).abs().max()) <= 5e-4

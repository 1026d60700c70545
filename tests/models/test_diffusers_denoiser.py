"""Denoisers in diffusers directories: round trips and refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from raycp.config.models import DenoiserModel
from raycp.errors import ModelError, UnsafeFileError
from raycp.maths import edm_scalings
from raycp.models import build_denoiser, read_denoiser, save_denoiser
from raycp.models.scheduler import alphas_cumprod

SCHEDULERS: dict[str, dict[str, Any]] = {
    "edm": {"sigma_data": 0.4, "sigma_min": 0.01, "sigma_max": 50.0, "rho": 5.0},
    "consistency": {
        "sigma_data": 0.4,
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "rho": 5.0,
        "num_train_timesteps": 24,
    },
    "ddpm": {"num_train_timesteps": 200, "beta_schedule": "squaredcos_cap_v2"},
}


def small_unet(**changes: Any) -> UNet2DModel:
    arguments: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "dropout": 0.3,
    }
    torch.manual_seed(0)
    return UNet2DModel(**(arguments | changes))


def saved(folder: Path, parametrisation: str = "edm", **changes: Any) -> UNet2DModel:
    unet = small_unet(**changes)
    save_denoiser(folder, unet, parametrisation, **SCHEDULERS[parametrisation])
    return unet.eval()


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_an_edm_round_trip_is_bitwise(tmp_path: Path) -> None:
    unet = saved(tmp_path, "edm")
    bundle = read_denoiser(DenoiserModel(path=str(tmp_path)))
    assert bundle.parameters == sum(p.numel() for p in unet.parameters())
    # As it reaches a replica: through a pickle, and without the files.
    bundle = pickle.loads(pickle.dumps(bundle))
    shutil.rmtree(tmp_path)
    denoiser = build_denoiser(bundle)
    assert (denoiser.parametrisation, denoiser.channels, denoiser.image_size) == ("edm", 1, (8, 8))
    assert (denoiser.sigma_data, denoiser.sigma_min, denoiser.sigma_max, denoiser.rho) == (
        0.4,
        0.01,
        50.0,
        5.0,
    )
    assert not denoiser.network.training
    assert not any(p.requires_grad for p in denoiser.network.parameters())
    for name, tensor in unet.state_dict().items():
        assert torch.equal(denoiser.network.state_dict()[name], tensor)
    x, sigma = images(3, 1, 8, 8), 0.7
    c_skip, c_out, c_in, c_noise = (float(c) for c in edm_scalings(sigma, 0.4))
    expected = c_skip * x + c_out * unet(c_in * x, torch.full((3,), c_noise)).sample
    torch.testing.assert_close(denoiser(x, sigma), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_consistency_round_trip_keeps_the_boundary(tmp_path: Path) -> None:
    saved(tmp_path, "consistency")
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(tmp_path))))
    assert (denoiser.parametrisation, denoiser.num_steps) == ("consistency", 24)
    x = images(2, 1, 8, 8)
    assert torch.equal(denoiser(x, denoiser.sigma_min), x)
    assert not torch.equal(denoiser(x, 2.0), x)


@torch.no_grad()
def test_a_ddpm_round_trip_uses_the_schedule_of_diffusers(tmp_path: Path) -> None:
    unet = saved(tmp_path, "ddpm")
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(tmp_path))))
    assert denoiser.alphas_cumprod is not None
    rounded = DDPMScheduler(**SCHEDULERS["ddpm"]).alphas_cumprod.double()
    torch.testing.assert_close(denoiser.alphas_cumprod, rounded, rtol=1e-4, atol=1e-7)
    x = images(2, 1, 8, 8)
    assert torch.equal(denoiser.predict_noise(x, 17), unet(x, torch.tensor([17, 17])).sample)


@pytest.mark.parametrize(
    "changes", [{"beta_schedule": "linear"}, {"rescale_betas_zero_snr": True}, {"trained_betas": [0.1, 0.2]}]
)
def test_other_schedules_are_those_of_diffusers_to_the_last_bit(changes: dict[str, Any]) -> None:
    scheduler = DDPMScheduler(**SCHEDULERS["ddpm"] | changes)
    assert torch.equal(alphas_cumprod(dict(scheduler.config)), scheduler.alphas_cumprod.double())


@torch.no_grad()
def test_a_learned_variance_is_left_out_and_only_ddpm_has_one(tmp_path: Path) -> None:
    unet = saved(tmp_path / "ddpm", "ddpm", out_channels=2)
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(tmp_path / "ddpm"))))
    x = images(2, 1, 8, 8)
    assert torch.equal(denoiser.predict_noise(x, 17), unet(x, torch.tensor([17, 17])).sample[:, :1])
    saved(tmp_path / "edm", "edm", out_channels=2)
    with pytest.raises(ModelError, match=r"out_channels must be 1, as in_channels, got 2"):
        read_denoiser(DenoiserModel(path=str(tmp_path / "edm")))
    saved(tmp_path / "three", "ddpm", out_channels=3)
    with pytest.raises(
        ModelError, match=r"must be 1, as in_channels or 2 \(with a learned variance\), got 3"
    ):
        read_denoiser(DenoiserModel(path=str(tmp_path / "three")))


def test_the_configuration_has_the_last_word_on_numbers(tmp_path: Path) -> None:
    saved(tmp_path, "edm")
    config = DenoiserModel(path=str(tmp_path), sigma_data=0.3, rho=7.0)
    denoiser = build_denoiser(read_denoiser(config))
    assert (denoiser.sigma_data, denoiser.sigma_min, denoiser.rho) == (0.3, 0.01, 7.0)
    with pytest.raises(ModelError, match=r"sigma_min must be below sigma_max, got 60\.0 and 50\.0"):
        read_denoiser(DenoiserModel(path=str(tmp_path), sigma_min=60.0))


def test_a_bare_directory_needs_its_parametrisation_said(tmp_path: Path) -> None:
    saved(tmp_path, "consistency")
    bare = tmp_path / "unet"
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(bare), parametrisation="consistency")))
    assert (denoiser.sigma_data, denoiser.sigma_min, denoiser.sigma_max, denoiser.rho) == (
        0.5,
        0.002,
        80.0,
        7.0,
    )
    assert denoiser.num_steps is None
    with pytest.raises(
        ModelError, match=r"purifier\.model\.parametrisation must say .* edm, consistency, ddpm"
    ):
        read_denoiser(DenoiserModel(path=str(bare)))
    with pytest.raises(ModelError, match="a ddpm model needs the noise schedule it was trained with"):
        read_denoiser(DenoiserModel(path=str(bare), parametrisation="ddpm"))


def test_a_parametrisation_that_contradicts_the_scheduler_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "consistency")
    with pytest.raises(
        ModelError, match=r"parametrisation is edm, but .* CMStochasticIterativeScheduler, which is"
    ):
        read_denoiser(DenoiserModel(path=str(tmp_path), parametrisation="edm"))


def test_noise_levels_have_no_meaning_for_ddpm(tmp_path: Path) -> None:
    saved(tmp_path, "ddpm")
    with pytest.raises(ModelError, match=r"purifier\.model\.sigma_max has no meaning for a ddpm model"):
        read_denoiser(DenoiserModel(path=str(tmp_path), sigma_max=80.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_class_name": "PNDMScheduler"},
            r"describes a PNDMScheduler; known schedulers are .*DDPMScheduler",
        ),
        ({"prediction_type": "v_prediction"}, r"prediction_type 'v_prediction'; .* trained with epsilon"),
        ({"sigma_schedule": "straight"}, r"is not a EDMEulerScheduler that diffusers can build"),
    ],
)
def test_schedulers_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    saved(tmp_path, "edm")
    edit(tmp_path / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read_denoiser(DenoiserModel(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_class_name": "UNet2DConditionModel"},
            r"describes a UNet2DConditionModel; allowed are UNet2DModel and ScoreUNet",
        ),
        (
            {"time_embedding_type": "fourier"},
            r"time_embedding_type 'fourier' does not take the noise conditioning",
        ),
        ({"time_embedding_type": "learned", "num_train_timesteps": 9}, r"'learned' does not take"),
        ({"class_embed_type": "timestep"}, r"class_embed_type must be null, got 'timestep'"),
        ({"block_out_channels": [8, 16, 32]}, r"config\.json is not a UNet2DModel that diffusers can build"),
        ({"down_block_types": ["Nonsense", "DownBlock2D"]}, r"is not a UNet2DModel that diffusers can build"),
        (
            {"block_out_channels": [8, 24]},
            r"does not fit the network .* of another shape: .* in the file and",
        ),
        (
            {"down_block_types": ["KDownBlock2D", "DownBlock2D"]},
            r"tensors that no weights file holds \(down_blocks\.0\.downsamplers\.0\.kernel\)",
        ),
        ({"layers_per_block": 2}, r"does not fit the network it is meant for; \d+ missing: "),
    ],
)
def test_networks_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    saved(tmp_path, "edm")
    edit(tmp_path / "unet" / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read_denoiser(DenoiserModel(path=str(tmp_path)))


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"purifier\.model\.path: .* has neither config\.json nor unet/config\.json"
    ):
        read_denoiser(DenoiserModel(path=str(tmp_path / "nowhere")))
    saved(tmp_path, "edm")
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.safetensors is damaged"):
        read_denoiser(DenoiserModel(path=str(tmp_path)))
    weights.unlink()
    with pytest.raises(
        ModelError, match=r"unet has no weights; looked for diffusion_pytorch_model\.safetensors, "
    ):
        read_denoiser(DenoiserModel(path=str(tmp_path)))
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read as JSON"):
        read_denoiser(DenoiserModel(path=str(tmp_path)))
    (tmp_path / "unet" / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config\.json must hold a JSON object, got a list"):
        read_denoiser(DenoiserModel(path=str(tmp_path)))


def test_class_labels_are_for_conditional_networks_and_required_there(tmp_path: Path) -> None:
    saved(tmp_path / "free", "edm")
    with pytest.raises(ModelError, match=r"class_label is 2, but the network in .* is unconditional"):
        read_denoiser(DenoiserModel(path=str(tmp_path / "free"), class_label=2))
    unet = saved(tmp_path / "labelled", "edm", num_class_embeds=5)
    for label, given in ((None, "which is null"), (5, "got 5")):
        with pytest.raises(
            ModelError,
            match=rf"one of 5 classes: .*class_label must be 0 to 4, none, mean or predicted, {given}",
        ):
            read_denoiser(DenoiserModel(path=str(tmp_path / "labelled"), class_label=label))
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(tmp_path / "labelled"), class_label=4)))
    x = images(2, 1, 8, 8)
    c_skip, c_out, c_in, c_noise = (float(c) for c in edm_scalings(1.0, 0.4))
    with torch.no_grad():
        output = unet(c_in * x, torch.full((2,), c_noise), class_labels=torch.tensor([4, 4])).sample
        torch.testing.assert_close(denoiser(x, 1.0), c_skip * x + c_out * output, atol=1e-6, rtol=1e-5)


def test_attention_names_of_old_directories_are_read(tmp_path: Path) -> None:
    unet = saved(tmp_path, "edm")
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    old: dict[str, Tensor] = {}
    for name, tensor in load_file(weights).items():
        for new, before in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value.")):
            name = name.replace(new, before)
        old[name.replace(".to_out.0.", ".proj_attn.")] = tensor
    assert not set(old) <= set(unet.state_dict())
    save_file(old, weights)
    denoiser = build_denoiser(read_denoiser(DenoiserModel(path=str(tmp_path))))
    for name, tensor in unet.state_dict().items():
        assert torch.equal(denoiser.network.state_dict()[name], tensor)


def test_other_containers_give_the_same_bundle(tmp_path: Path) -> None:
    unet = saved(tmp_path, "edm")
    reference = read_denoiser(DenoiserModel(path=str(tmp_path)))
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    torch.save(unet.state_dict(), tmp_path / "unet" / "diffusion_pytorch_model.bin")
    assert read_denoiser(DenoiserModel(path=str(tmp_path))).sha256 == reference.sha256
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").unlink()
    unet.save_pretrained(tmp_path / "unet", max_shard_size="8KB")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    assert read_denoiser(DenoiserModel(path=str(tmp_path))).sha256 == reference.sha256


def test_a_bin_file_runs_no_code(tmp_path: Path) -> None:
    unet = saved(tmp_path, "edm")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(unet, tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"would call diffusers\.[\w.]*UNet2DModel"):
        read_denoiser(DenoiserModel(path=str(tmp_path)))


def test_the_hash_sees_what_the_weights_do_not_show(tmp_path: Path) -> None:
    saved(tmp_path, "edm")
    config = DenoiserModel(path=str(tmp_path))
    hashes = {read_denoiser(config).sha256, read_denoiser(DenoiserModel(path=str(tmp_path / "."))).sha256}
    assert len(hashes) == 1
    for file, changes in (
        ("unet/config.json", {"norm_eps": 1e-6}),
        ("unet/config.json", {"attention_head_dim": 4}),
        ("scheduler/scheduler_config.json", {"sigma_data": 0.45}),
    ):
        edit(tmp_path / file, **changes)
        hashes.add(read_denoiser(config).sha256)
    assert len(hashes) == 4
    edit(tmp_path / "unet/config.json", _diffusers_version="0.38.0", _name_or_path="elsewhere")
    assert read_denoiser(config).sha256 in hashes

"""Networks of the published sizes with random weights: from a file of the published layout to a purified image.

    python -m pytest tests/models/test_published_sizes.py -m slow -s

prints seconds and memory of each step, which is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from edm_files import write_edm_file
from openai_reference import OpenaiUnet
from published_layouts import adm_state, ncsnpp_state, write_flax_file
from torch import Tensor

from raycp.models.score_unet import ScoreUNet

BATCH = 4
SIGMA = 0.25
PURIFY = f"""
import sys, time
import torch
from raycp.config.models import ConsistencyPurifier, DDPMPurifier, DenoiserModel, EDMPurifier
from raycp.models import build_denoiser, read_denoiser
from raycp.purifiers import build_purifier
kind, path, size, label = sys.argv[1:]
model = DenoiserModel(path=path, class_label=int(label) if label else None)
config = dict(ddpm=DDPMPurifier, consistency=ConsistencyPurifier, edm=EDMPurifier)[kind](kind=kind, model=model)
begin = time.perf_counter()
bundle = read_denoiser(model)
purify = build_purifier(config, build_denoiser(bundle))
read = time.perf_counter() - begin
x = torch.rand({BATCH}, 3, int(size), int(size))
with torch.inference_mode():
    purify(x, {SIGMA})
    begin = time.perf_counter()
    y = purify(x, {SIGMA})
assert y.shape == x.shape and bool(y.isfinite().all())
print(bundle.parameters, read, (time.perf_counter() - begin) / len(x))
"""

OPENAI: dict[str, dict[str, Any]] = {
    "cifar10_uncond_50M_500K.pt": {
        "channels": [128, 256, 256, 256], "attends": [False, True, True, False], "heads": 4, "improved": True,
        "outside": 6,
    },
    "imagenet64_uncond_100M_1500K.pt": {
        "channels": [128, 256, 384, 512], "attends": [False, False, True, True], "heads": 4, "improved": True,
        "outside": 6,
    },
    "cd_imagenet64_lpips.pt": {
        "channels": [192, 384, 576, 768], "attends": [False, True, True, True], "heads": 6, "improved": False,
        "classes": 1000,
    },
}  # fmt: skip
SONG: dict[str, dict[str, Any]] = {
    "edm-cifar10-32x32-uncond-vp.pkl": {
        "embedding_type": "positional", "encoder_type": "standard", "channel_mult_noise": 1, "resample_filter": [1, 1],
    },
    "edm-cifar10-32x32-uncond-ve.pkl": {
        "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2,
        "resample_filter": [1, 3, 3, 1],
    },
}  # fmt: skip


def filled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Random numbers in place of weights, small enough for every layer; filters as they are."""
    torch.manual_seed(0)
    return {n: t if n.endswith("resample_filter") else 0.02 * torch.randn(t.shape) for n, t in state.items()}


def openai(path: Path) -> None:
    with torch.device("meta"):
        state = OpenaiUnet(resnets=3, **OPENAI[path.name]).state_dict()
    torch.save(filled(state), path)


def song(path: Path) -> None:
    given = SONG[path.name]
    taps = given["resample_filter"]
    fourier = given["embedding_type"] == "fourier"
    with torch.device("meta"):
        network = ScoreUNet(
            32, 3, 128, [2, 2, 2], 4, [16], fourier, fourier, given["channel_mult_noise"], taps
        )
    arguments = given | {
        "img_resolution": 32, "img_channels": 3, "label_dim": 0, "model_type": "SongUNet", "model_channels": 128,
        "channel_mult": [2, 2, 2], "num_blocks": 4, "attn_resolutions": [16],
    }  # fmt: skip
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    write_edm_file(path, arguments, filled(state))


def adm(path: Path) -> None:
    mults = [1, 2, 3, 4]
    arguments = {
        "img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet", "model_channels": 192,
        "channel_mult": mults, "num_blocks": 3, "attn_resolutions": [32, 16, 8],
    }  # fmt: skip
    write_edm_file(path, arguments, filled(adm_state(192, mults, 3, [False, True, True, True], 64, 1000)))


def flax(path: Path) -> None:
    write_flax_file(path, filled(ncsnpp_state()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name", "options", "size", "label", "parameters"),
    [
        (
            flax,
            "checkpoint_80",
            "--as consistency",
            32,
            "",
            56_395_651 - 128,
        ),  # 128 of them are no parameters
        (song, "edm-cifar10-32x32-uncond-vp.pkl", "--as edm", 32, "", 55_732_739),
        (song, "edm-cifar10-32x32-uncond-ve.pkl", "--as edm", 32, "", 56_395_523),
        (openai, "cifar10_uncond_50M_500K.pt", "--as ddpm --image-size 32", 32, "", 52_546_438),
        (openai, "imagenet64_uncond_100M_1500K.pt", "--as ddpm --image-size 64", 64, "", 121_063_942),
        (openai, "cd_imagenet64_lpips.pt", "--as consistency --image-size 64", 64, "7", 295_899_267),
        (adm, "edm-imagenet-64x64-cond-adm.pkl", "--as edm", 64, "7", 295_899_267),
    ],
)
def test_a_published_size(
    tmp_path: Path,
    write: Callable[[Path], None],
    name: str,
    options: str,
    size: int,
    label: str,
    parameters: int,
) -> None:
    file, out = tmp_path / name, tmp_path / "out"
    write(file)
    command = ["-m", "raycp.cli.main", "weights", "convert", str(file), *options.split(), "--out", str(out)]
    _, seconds, memory = child(command)
    file.unlink()
    kind = options.split()[1]
    said, _, peak = child(["-c", PURIFY, kind, str(out), str(size), label])
    found, read, each = (float(word) for word in said.split())
    assert found == parameters
    print(
        f"\n{name}: {parameters:,} parameters; converted in {seconds:.1f} s with {memory:.1f} GiB, read in {read:.1f} "
        f"s, an image purified in {each:.2f} s on one core at batch {BATCH}, with {peak:.1f} GiB"
    )


def child(arguments: list[str]) -> tuple[str, float, float]:
    """Output, seconds and peak memory in GiB of a Python process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return said, time.perf_counter() - begin, usage.ru_maxrss / 2**20

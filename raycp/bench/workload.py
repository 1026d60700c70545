"""What is measured: the user's models and images, or a CIFAR-size pair with random weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raycp.config import RunConfig, parse_config
from raycp.distributed.job import Job, prepare_job
from raycp.errors import ConfigError

_CIFAR_BATCH = 32
_ENDLESS = 10**9
"""Estimation samples per image: more than any measurement draws, so that none reaches the end of a run."""


def cifar_size_config(folder: Path) -> RunConfig:
    """Write a random-weight consistency purifier and classifier for 3x32x32 images, and the images.

    The purifier is the DDPM network for CIFAR-10 (Ho et al. 2020) with a quarter of its channels: some 10 ms per
    image on one core. The classifier is raycp's own residual network.
    """
    import diffusers

    from raycp.models import ResidualClassifier, save_classifier, save_denoiser

    network_class: Any = diffusers.UNet2DModel
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        unet = network_class(
            sample_size=32,
            block_out_channels=(32, 64, 64, 64),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
        )
        classifier = ResidualClassifier(10, widths=(16, 32, 64))
    save_denoiser(folder / "purifier", unet, "consistency", num_train_timesteps=18)
    save_classifier(folder / "classifier", classifier, image_size=(32, 32))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(16) % 10)
    raw = {
        "data": {"name": "npz", "path": str(folder / "images.npz"), "layout": "CHW"},
        "purifier": {"kind": "consistency", "model": {"path": str(folder / "purifier")}},
        "classifier": {"kind": "directory", "path": str(folder / "classifier")},
        "numerics": {"batch_size": _CIFAR_BATCH},
    }
    return parse_config(RunConfig, raw)


def null_config(folder: Path) -> RunConfig:
    """Images of one pixel, no purifier, and a classifier that does nothing: all that is left is dispatch."""
    np.savez(folder / "pixels.npz", images=np.zeros((16, 1, 1), dtype=np.uint8), labels=np.arange(16) % 10)
    raw = {
        "data": {"name": "npz", "path": str(folder / "pixels.npz")},
        "purifier": {"kind": "none"},
        "classifier": {
            "kind": "python",
            "factory": "raycp.bench.null_model:null_classifier",
            "num_classes": 10,
        },
        "numerics": {"batch_size": 1, "channels_last": False},
    }
    return parse_config(RunConfig, raw)


def prepare_endless_job(config: RunConfig, replicas: int | None) -> Job:
    """The job of a measurement: one noise level, no end, on a local cluster without its dashboard.

    Args:
        config: a run's configuration.
        replicas: how many; None takes what the configuration says, or else all that fit this machine.

    Raises:
        RaycpError: what `prepare_job` finds, or more replicas than this machine holds.
    """
    engine = config.engine
    cpus, gpus = engine.local_cpus or os.cpu_count() or 1, torch.cuda.device_count()
    most = int(cpus / engine.cpus_per_replica + 1e-9)
    if engine.gpus_per_replica > 0:
        most = min(most, int(gpus / engine.gpus_per_replica + 1e-9))
    wanted = replicas or engine.replicas or max(1, most)
    if wanted > most:
        raise ConfigError(
            f"{wanted} replicas of {engine.cpus_per_replica:g} CPU and {engine.gpus_per_replica:g} GPU (--replicas, "
            f"engine.replicas) do not fit this machine's {cpus} CPU and {gpus} GPU, which hold {most}; bench measures "
            "on the machine it is started on."
        )
    certify = config.certify.model_copy(
        update={
            "sigmas": config.certify.sigmas[:1],
            "num_estimation": _ENDLESS,
            "skip_wrong": False,
            "radii": None,
        }
    )
    local = engine.model_copy(update={"address": None, "dashboard": False, "replicas": wanted})
    return prepare_job("certify", config.model_copy(update={"certify": certify, "engine": local}))

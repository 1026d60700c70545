"""The published sets on their way to certification and training: on the grid, counted, trained on whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_files import write_cifar100_binary, write_idx, write_imagenet_npz
from pydantic import TypeAdapter

from raycp.config import parse_config
from raycp.config.data import DataConfig
from raycp.config.stages import ClassifierStage
from raycp.config.train import TrainConfig
from raycp.data import cifar100, downsampled_imagenet, load_images, mnist, require_grid
from raycp.data.stored import open_images
from raycp.errors import ConfigError, DataError
from raycp.models import ResidualClassifier
from raycp.simulate.image_count import count_images
from raycp.training.batches import Batches, LoadedImages
from raycp.training.loop import StageTraining
from raycp.training.stages import stage_loss

ROWS = 24
STAGE = {
    "stage": "classifier",
    "steps": 30,
    "batch_size": 12,
    "widths": [8],
    "learning_rate": 3e-2,
    "max_shift": 0,
    "warmup_steps": 0,
}


def edges(side: int, channels: int) -> tuple[Any, list[int]]:
    """Images [24,S,S,C] with stripes across or along, with labels 0 and 1."""
    labels = [row % 2 for row in range(ROWS)]
    images = np.random.default_rng(0).integers(0, 40, (ROWS, side, side, channels), dtype=np.uint8)
    images[0::2, ::4] += 200
    images[1::2, :, ::4] += 200
    return images, labels


def cifar100_set(folder: Path) -> dict[str, Any]:
    images, labels = edges(32, 3)
    write_cifar100_binary(folder / "train.bin", images, labels, labels)
    return {"name": "cifar100", "labels": "coarse"}


def mnist_set(folder: Path) -> dict[str, Any]:
    images, labels = edges(28, 1)
    write_idx(folder / "train-images-idx3-ubyte.gz", images[..., 0])
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.array(labels))
    return {"name": "fashion_mnist"}


def imagenet_set(folder: Path) -> dict[str, Any]:
    images, labels = edges(16, 3)
    for number in range(10):
        first, last = 2 * number, 2 * number + 2 if number < 9 else ROWS
        write_imagenet_npz(
            folder / f"train_data_batch_{number + 1}.npz",
            images[first:last],
            np.array(labels[first:last]) + 1,
        )
    return {"name": "downsampled_imagenet", "class_order": "published"}


@pytest.fixture(params=[cifar100_set, mnist_set, imagenet_set], ids=lambda write: write.__name__)
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Section `data` of a configuration for 24 training images."""
    monkeypatch.setattr(cifar100, "_ROWS", {"train": ROWS})
    monkeypatch.setattr(mnist, "_ROWS", {"train": ROWS})
    monkeypatch.setattr(downsampled_imagenet, "_ROWS", {"train": (2,) * 9 + (6,)})
    write: Callable[[Path], dict[str, Any]] = request.param
    return {**write(tmp_path), "path": str(tmp_path), "split": "train"}


def test_a_classifier_trains_on_the_whole_set(data: dict[str, Any]) -> None:
    config = parse_config(TrainConfig, {"data": data, "stages": [STAGE]})
    loaded = load_images(config.data)
    images = require_grid(loaded)
    assert images is loaded and images.images.dtype == np.uint8
    torch.manual_seed(0)
    (stage,) = config.stages
    assert isinstance(stage, ClassifierStage)
    network = ResidualClassifier(
        images.num_classes, images.shape[0], stage.widths, stage.blocks, stage.groups
    )
    batches = Batches(
        LoadedImages(images.images, images.labels), stage.batch_size, stage.max_shift, (0, 0), 0, 1
    )
    losses = list(StageTraining(stage, network, network, stage_loss(stage, network, None, {}, batches)).run())
    assert losses[0] > 2.0  # of ln 10 or more, and the two kinds are soon told apart
    assert sum(losses[-5:]) / 5 < losses[0] / 2


def test_streaming_is_refused_with_the_way_out(data: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=rf"streaming must be null for data.name {data['name']}, which is only read"
    ):
        parse_config(TrainConfig, {"data": data, "stages": [STAGE], "streaming": {}})
    with pytest.raises(DataError, match=f"data.name is {data['name']}, which is only read whole"):
        open_images(parse_config(TrainConfig, {"data": data, "stages": [STAGE]}).data)


@pytest.mark.parametrize(
    ("raw", "rows"),
    [
        ({"name": "cifar100"}, 10_000),
        ({"name": "cifar100", "split": "train"}, 50_000),
        ({"name": "mnist"}, 10_000),
        ({"name": "kmnist", "split": "train"}, 60_000),
        ({"name": "fashion_mnist", "split": "train", "select": {"skip": 20}}, 3_000),
        ({"name": "downsampled_imagenet", "select": {"skip": 100}}, 500),
        ({"name": "downsampled_imagenet", "split": "train"}, 1_281_167),
    ],
)
def test_a_plan_counts_them_without_their_files(raw: dict[str, Any], rows: int) -> None:
    config = TypeAdapter[DataConfig](DataConfig).validate_python({**raw, "path": "nowhere"})
    assert count_images(config) == rows


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"name": "cifar100", "labels": "superclass"}, "data.labels must be one of 'fine' or 'coarse'"),
        ({"name": "cifar100", "label": "fine"}, "data.label is not a known key; did you mean data.labels?"),
        ({"name": "kmnist", "splt": "test"}, "data.splt is not a known key; did you mean data.split?"),
        ({"name": "downsampled_imagenet", "split": "test"}, "data.split must be one of 'train' or 'val', got 'test'"),
        ({"name": "downsampled_imagenet", "class_order": "ilsvrc"}, "data.class_order must be one of 'wordnet' or"),
        ({"name": "imagenet64"}, "data.name must be one of 'digits', 'cifar10', 'cifar100', 'mnist',"),
    ],
)  # fmt: skip
def test_keys_that_are_wrong_are_named(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(TrainConfig, {"data": {**raw, "path": "x"}, "stages": [STAGE]})
    assert complaint in str(caught.value)

"""The pipeline of a stream: the samples of the order, for any worker, from any step, through Ray Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamed_set import GROUP, LABELS, PIXELS, ROWS, write_set

from raycp.config import parse_config
from raycp.config.data import ParquetData
from raycp.config.train import TrainConfig
from raycp.data import load_images
from raycp.data.stored import open_images
from raycp.data.stream import Share, StreamOrder
from raycp.distributed.image_stream import ImageStream, StreamPlan
from raycp.distributed.training_set import TrainingSet
from raycp.errors import DataError
from raycp.models import ResidualClassifier
from raycp.training.batches import Batches
from raycp.training.loop import StageTraining
from raycp.training.stages import stage_loss

pytestmark = pytest.mark.ray

KEY, WINDOW, BATCH, STEPS = (3, 1), 20, 8, 20  # 160 samples: two epochs and two thirds, eight windows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ParquetData:
    return ParquetData(name="parquet", path=str(write_set(tmp_path_factory.mktemp("stream") / "x.parquet")))


@pytest.fixture(scope="module")
def stored(ray_cluster: None, data: ParquetData) -> Any:
    import ray

    return ray.put(open_images(data))


def plan(stored: Any, rank: int = 0, world: int = 1, readers: int = 2) -> StreamPlan:
    return StreamPlan(stored, WINDOW, KEY, Share(BATCH, rank, world), STEPS, readers)


def expected(first: int, count: int) -> np.ndarray[Any, Any]:
    groups = np.array([GROUP] * (ROWS // GROUP) + [ROWS % GROUP])
    return StreamOrder(groups, WINDOW, KEY).rows(first, first + count)


@pytest.mark.parametrize(("world", "start", "parts"), [(1, 0, 1), (2, 0, 2), (1, 13, 4)])
def test_samples_are_those_of_the_order(stored: Any, world: int, start: int, parts: int) -> None:
    share = BATCH // world
    for rank in range(world):
        stream = ImageStream(plan(stored, rank, world))
        for step in range(start, STEPS):
            for part in range(parts):
                first, count = step * BATCH + rank * share + part * share // parts, share // parts
                images, labels = stream.take(first, count)
                rows = expected(first, count)
                np.testing.assert_array_equal(images, PIXELS[rows][:, None])
                np.testing.assert_array_equal(labels, LABELS[rows])


def test_another_step_than_the_next_begins_anew(stored: Any) -> None:
    stream = ImageStream(plan(stored, readers=1))
    for step in (2, 3, 3, 15, 0, STEPS - 1, STEPS - 1):
        images, _ = stream.take(step * BATCH, BATCH)
        np.testing.assert_array_equal(images[:, 0], PIXELS[expected(step * BATCH, BATCH)])


def test_an_image_of_another_size_is_named_with_the_way_out(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    path = write_set(tmp_path / "x.parquet", {33: np.zeros((9, 8), np.uint8)})
    data = ParquetData(name="parquet", path=str(path))
    with pytest.raises(DataError, match=r"image 33 .* is 8x9; set data.resize") as loaded:
        load_images(data)
    stream = ImageStream(plan(ray.put(open_images(data))))
    with pytest.raises(DataError) as streamed:
        for step in range(STEPS):
            stream.take(step * BATCH, BATCH)
    assert str(streamed.value) == str(loaded.value)
    # What comes before the first sample asked for is not read.
    start = int(np.flatnonzero(expected(0, STEPS * BATCH) == 33)[-1]) // BATCH + 1
    assert start < STEPS
    for step in range(start, STEPS):
        stream.take(step * BATCH, BATCH)


def test_a_resumed_stage_ends_with_the_same_weights(stored: Any, data: ParquetData) -> None:
    stage = {
        "stage": "classifier", "steps": STEPS, "batch_size": BATCH, "widths": [8], "groups": 4, "max_shift": 1,
        "flip": True, "noise_sigma": 0.1,
    }  # fmt: skip
    raw = {
        "data": data.model_dump(),
        "streaming": {"window": WINDOW},
        "stages": [stage],
        "engine": {"workers": 1},
    }
    config = parse_config(TrainConfig, raw)

    def training() -> tuple[StageTraining, ResidualClassifier]:
        torch.manual_seed(0)
        [stage] = config.stages
        images = TrainingSet(stored, config, 0, 1)
        assert (images.shape, images.num_classes) == ((1, 8, 8), 5)
        network = ResidualClassifier(5, 1, (8,), 1, 4)
        batches = Batches(images.of_stage(0, stage), BATCH, 1, (0, 0), flip=True)
        return StageTraining(stage, network, network, stage_loss(stage, network, None, {}, batches)), network

    whole, network = training()
    losses = list(whole.run())
    first, _ = training()
    steps = first.run()
    before = [next(steps) for _ in range(11)]
    second, resumed = training()
    second.load(first.state())
    assert [*before, *second.run()] == losses
    for name, value in network.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name

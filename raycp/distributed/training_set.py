"""The training set as a worker sees it: loaded once per node, or streamed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raycp.config.stages import StageConfig
from raycp.config.train import TrainConfig
from raycp.data import count_classes
from raycp.data.stored import StoredImages
from raycp.data.stream import Share
from raycp.distributed.image_stream import ImageStream, StreamPlan
from raycp.training.batches import LoadedImages, TrainingImages


class TrainingSet:
    """One worker's access to the training set.

    Args:
        reference: object reference of StoredImages (streaming), or of (images uint8 [M,C,H,W], labels [M], class
            names).
        config: of the training.
        rank, world_size: of the worker.
    """

    def __init__(self, reference: Any, config: TrainConfig, rank: int, world_size: int) -> None:
        import ray

        self._reference = reference
        self._config = config
        self._workers = rank, world_size
        found = ray.get(reference)
        if isinstance(found, StoredImages):
            self._images, labels, self.class_names = None, found.labels, found.class_names
            self.shape = found.shape
        else:
            self._images, labels, self.class_names = found
            self.shape = self._images.shape[1:]
        self._labels = labels

    @property
    def num_classes(self) -> int:
        """Classes of the data set, see `count_classes`."""
        return count_classes(self._labels, self.class_names)

    def of_stage(self, number: int, stage: StageConfig) -> TrainingImages:
        """The images of stage `number`."""
        if self._images is not None:
            return LoadedImages(self._images, self._labels)
        assert self._config.streaming is not None
        plan = StreamPlan(
            self._reference,
            self._config.streaming.window,
            (self._config.seed, number),
            Share(stage.batch_size, *self._workers),
            stage.steps,
            self._config.engine.readers,
        )
        return _StreamedImages(ImageStream(plan), self.shape, len(self._labels))


class _StreamedImages:
    def __init__(self, stream: ImageStream, shape: tuple[int, ...], num_images: int) -> None:
        self._stream = stream
        self._num_images = num_images
        self.shape = shape

    def __len__(self) -> int:
        return self._num_images

    def take(self, sample: int, index_B: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainingImages`: the samples are those of the stream, whatever was drawn."""
        images, labels = self._stream.take(sample, len(index_B))
        return torch.from_numpy(images), torch.from_numpy(labels)

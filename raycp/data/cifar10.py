"""CIFAR-10 as published (Krizhevsky 2009)."""

from __future__ import annotations

from raycp.config.data import Cifar10Data
from raycp.data.cifar import CifarLayout, read_cifar
from raycp.data.images import ImageSet

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_ROWS = 10_000


def read_cifar10(config: Cifar10Data) -> ImageSet:
    """The test batch (10,000 images) or the five training batches in order (50,000)."""
    stems = ["test_batch"] if config.split == "test" else [f"data_batch_{number}" for number in range(1, 6)]
    layout = CifarLayout(
        title="CIFAR-10",
        split=config.split,
        stems=stems,
        num_rows=_ROWS,
        binary_folder="cifar-10-batches-bin",
        python_folder="cifar-10-batches-py",
        num_label_bytes=1,
        label_byte=0,
        labels_key="labels",
        labels_name="labels",
        class_names=CLASS_NAMES,
    )
    return read_cifar(layout, config.path, config.select)

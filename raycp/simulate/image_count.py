"""How many images a configuration selects, without decoding one."""

from __future__ import annotations

from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from raycp.config.data import (
    Cifar10Data,
    Cifar100Data,
    DataConfig,
    DigitsData,
    DownsampledImagenetData,
    FolderData,
    MnistData,
    NpzData,
    ParquetData,
)
from raycp.data.location import local_path
from raycp.data.npz_member import read_member
from raycp.data.parquet_files import find_parquet_files
from raycp.data.selection import select_indices
from raycp.errors import ConfigError, DataError

_DIGITS = {"test": 360, "train": 1_437}
_CIFAR = {"test": 10_000, "train": 50_000}
_MNIST = {"test": 10_000, "train": 60_000}
_IMAGENET = {"val": 50_000, "train": 1_281_167}


def count_images(config: DataConfig) -> int:
    """Selected images: from headers and footers where the data set has no known size.

    Raises:
        DataError: the files are not there or damaged, or nothing is selected.
        ConfigError: the layout would have to be read whole.
    """
    if config.select.indices is not None:
        return len(config.select.indices)
    return len(select_indices(config.select, _total(config), f"the data set {config.name}"))


def _total(config: DataConfig) -> int:
    match config:
        case DigitsData():
            return _DIGITS[config.split]
        case Cifar10Data() | Cifar100Data():
            return _CIFAR[config.split]
        case MnistData():
            return _MNIST[config.split]
        case DownsampledImagenetData():
            return _IMAGENET[config.split]
        case NpzData():
            return read_member(local_path(config.path), config.images_key, "data.images_key").shape[0]
        case ParquetData():
            files = find_parquet_files(local_path(config.path), config.split)
            try:
                return sum(pq.read_metadata(file).num_rows for file in files)
            except (pa.ArrowException, OSError) as err:
                raise DataError(f"cannot count the images in {config.path}: {err}.") from err
        case FolderData():
            raise ConfigError(f"the images in {config.path} are not counted for a plan; give --images.")
        case _:
            assert_never(config)

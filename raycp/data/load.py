"""One entry for all layouts."""

from __future__ import annotations

from typing import assert_never

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
from raycp.data.cifar10 import read_cifar10
from raycp.data.cifar100 import read_cifar100
from raycp.data.digits import read_digits
from raycp.data.downsampled_imagenet import read_downsampled_imagenet
from raycp.data.folder import read_folder
from raycp.data.images import ImageSet
from raycp.data.mnist import read_mnist
from raycp.data.npz import read_npz
from raycp.data.parquet import read_parquet
from raycp.errors import DataError


def load_images(config: DataConfig) -> ImageSet:
    """Read the selected images; what is not selected is not decoded.

    Raises:
        DataError: the data set is missing, damaged, or not what certification needs.
        UnsafeFileError: a file would run code if it were loaded in the ordinary way; it was not.
    """
    try:
        return _read(config)
    except OSError as err:
        raise DataError(f"cannot read {err.filename or 'the data set'}: {err.strerror or err}.") from err


def _read(config: DataConfig) -> ImageSet:
    match config:
        case DigitsData():
            return read_digits(config)
        case Cifar10Data():
            return read_cifar10(config)
        case Cifar100Data():
            return read_cifar100(config)
        case MnistData():
            return read_mnist(config)
        case DownsampledImagenetData():
            return read_downsampled_imagenet(config)
        case ParquetData():
            return read_parquet(config)
        case FolderData():
            return read_folder(config)
        case NpzData():
            return read_npz(config)
        case _:
            assert_never(config)

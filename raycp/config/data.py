"""Where images come from and which of them are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from raycp.config.base import Frozen, Location


class Selection(Frozen):
    """Which images of a data set are used, as in the papers: every `skip`-th from `start`, at most `count`."""

    start: int = Field(0, ge=0)
    """First index."""
    skip: int = Field(1, ge=1)
    """Distance between two indices (20 for the CIFAR-10 protocol, 100 for ImageNet)."""
    count: int | None = Field(None, ge=1)
    """At most this many images; null takes all."""
    indices: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """An explicit list of indices, in the order of the results; excludes start, skip and count."""

    @model_validator(mode="after")
    def _one_way_only(self) -> Selection:
        if self.indices is not None:
            if (self.start, self.skip, self.count) != (0, 1, None):
                raise ValueError("indices excludes start, skip and count; give one or the other.")
            if not self.indices:
                raise ValueError("indices must name at least one image, got an empty list.")
            if len(set(self.indices)) != len(self.indices):
                raise ValueError("indices must not repeat an image.")
        return self


class _Data(Frozen):
    select: Selection = Selection()
    """Which images are used."""


class DigitsData(_Data):
    """The 1,797 handwritten digits of scikit-learn: 8x8, one channel, quantised once to round(255 k / 16)."""

    name: Literal["digits"]
    split: Literal["train", "test"] = "test"
    """test: every fifth image (360); train: the others (1,437). Indices count within the split."""


class Cifar10Data(_Data):
    """CIFAR-10 as published: the binary (`data_batch_1.bin`) or the python (`data_batch_1`) files."""

    name: Literal["cifar10"]
    path: Location
    """Folder that holds the batch files."""
    split: Literal["train", "test"] = "test"
    """test: 10,000 images; train: the five batches in order, 50,000."""


class Cifar100Data(_Data):
    """CIFAR-100 as published: the binary (`train.bin`) or the python (`train`) files."""

    name: Literal["cifar100"]
    path: Location
    """Folder that holds the files."""
    split: Literal["train", "test"] = "test"
    """test: 10,000 images; train: 50,000."""
    labels: Literal["fine", "coarse"] = "fine"
    """fine: the 100 classes; coarse: the 20 groups that they form."""


class MnistData(_Data):
    """The idx files (`train-images-idx3-ubyte`, gzip or not) of MNIST, Fashion-MNIST or KMNIST: 28x28, one channel.

    All three use the same file names and sizes, and nothing in the files tells them apart: `name` says what the
    classes are.
    """

    name: Literal["mnist", "fashion_mnist", "kmnist"]
    path: Location
    """Folder that holds the files."""
    split: Literal["train", "test"] = "test"
    """test: 10,000 images (`t10k-...`); train: 60,000."""


class DownsampledImagenetData(_Data):
    """Downsampled ImageNet (Chrabaszcz et al. 2017, arXiv 1707.08819), with labels, of 8, 16, 32 or 64 pixels.

    The `.npz` files or the older python ones (`val_data`); how long their rows are tells the size. Not the unlabelled
    sets of van den Oord et al. 2016, whose files are called `train_64x64` and `valid_64x64`.
    """

    name: Literal["downsampled_imagenet"]
    path: Location
    """Folder that holds the files of one size, itself or in the folders that the archives unpack to."""
    split: Literal["train", "val"] = "val"
    """val: 50,000 images, in an order of their own (see `raycp/data/downsampled_imagenet.py`); train: 1,281,167."""
    class_order: Literal["wordnet", "published"] = "wordnet"
    """wordnet: classes sorted by WordNet id, as classifiers of ImageNet (timm's, torchvision's) number them; published:
    the order of these files, in which class 0 is the kit fox and not the tench."""


class EncodedData(_Data):
    """Images that Pillow decodes. All must end with one size and one mode; these keys bring them there."""

    convert: Literal["rgb", "grey"] | None = None
    """Turn every image into this mode (Pillow; alpha is dropped); null: grey or RGB, and all alike."""
    resize: int | None = Field(None, ge=1)
    """Resize the shorter side to this many pixels (Pillow, bilinear), once, before any noise."""
    crop: int | None = Field(None, ge=1)
    """Then cut this many pixels square from the centre."""

    @model_validator(mode="after")
    def _crop_fits(self) -> EncodedData:
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(
                f"crop must be at most resize, the shorter side it is cut from, got crop {self.crop} "
                f"and resize {self.resize}."
            )
        return self


class ParquetData(EncodedData):
    """The Hugging Face layout: an image column (`img` or `image`; encoded bytes or struct) and a label."""

    name: Literal["parquet"]
    path: Location
    """A parquet file, or a folder whose *.parquet files are read in the order of their names."""
    split: str | None = Field(None, pattern=r"^[A-Za-z0-9._]+$")
    """Read only the files of this split (test-00000-of-00001.parquet, ...); null: all files, of one split."""
    image_column: str | None = None
    """Name of the image column; null takes `img` or `image`."""
    label_column: str = "label"
    """Name of the integer label column."""


class FolderData(EncodedData):
    """Image files in one folder per class; classes and files in the order of their names."""

    name: Literal["folder"]
    path: Location
    """Folder that holds the class folders."""


class NpzData(_Data):
    """A NumPy `.npz` with images [M,H,W,C], [M,C,H,W] or [M,H,W] and labels [M]."""

    name: Literal["npz"]
    path: Location
    """The file."""
    images_key: str = "images"
    """Array of images: uint8, or floats in [0,1]."""
    labels_key: str = "labels"
    """Array of integer labels."""
    layout: Literal["HWC", "CHW"] | None = None
    """Order of the axes of 4-D images; null: the one axis with 1, 3 or 4 entries is the channel axis."""


DataConfig = Annotated[
    DigitsData
    | Cifar10Data
    | Cifar100Data
    | MnistData
    | DownsampledImagenetData
    | ParquetData
    | FolderData
    | NpzData,
    Field(discriminator="name"),
]

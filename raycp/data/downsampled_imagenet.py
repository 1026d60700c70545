"""Downsampled ImageNet (Chrabaszcz et al. 2017, arXiv 1707.08819) as image-net.org publishes it, of 8 to 64 pixels.

`val_data.npz` and `train_data_batch_1.npz` to `_10.npz` hold `data`, uint8 [N, 3 S S] in a red, a green and a blue
plane, `labels`, 1 to 1000, and in training also `mean`, which is not needed. The older files, without `.npz`, are
pickled dictionaries of the same.

**Order of the classes.** Label k is line k of map_clsloc.txt of the ILSVRC devkit (1 is n02119789, the kit fox), not
the k-th of the sorted WordNet ids (n01440764, the tench), by which classifiers number them; no class has the same
number in both orders. So says the script that made the files (utils.py of PatrykChrabaszcz/Imagenet32_Scripts,
`get_label_dict`), and so says tensorflow-datasets, whose `imagenet_resized` reads these files and ships the same 1,000
ids in the same order. Sorted, they are the ids of timm's imagenet_synsets.txt. Unverified: the published files
themselves were not at hand, so no image was looked at beside its label.

**Order of the images.** The same script took the validation images as `os.listdir` gave them, in the order of its file
system, and shuffled the training images. Image k of `val_data` is therefore not known to be ILSVRC2012_val_{k+1}, nor
image k of a folder sorted by class. "Every 100th validation image" of this file is a selection of its own, to compare
with others of the same file; every 100th of a folder sorted by class would be one image of every second class.
"""

from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raycp.config.data import DownsampledImagenetData
from raycp.data.batch_files import BatchFiles, ReadRows, read_batches, read_pickled_rows
from raycp.data.images import ImageSet
from raycp.data.location import local_path, shown
from raycp.data.npz_member import read_member
from raycp.errors import DataError

# Nine training batches of a tenth each, the last one with the rest; the sizes were read in a notebook's output for 64
# pixels (sndnyang/imagenet64x64). The other sizes come from the same script and the same 1,281,167 images.
_ROWS = {"val": (50_000,), "train": (128_116,) * 9 + (128_123,)}
_ROW_LENGTHS = tuple(3 * side * side for side in (8, 16, 32, 64))


def read_downsampled_imagenet(config: DownsampledImagenetData) -> ImageSet:
    """The validation images (50,000) or the ten training batches in order (1,281,167): uint8 [M,3,S,S].

    Of `.npz` files only the selected rows are held; a python file is held whole while it is read, one at a time (of 64
    pixels: 614 MB for validation, 1.6 GB for a training batch). Files without a selected image are not opened. The
    names of the classes are their WordNet ids.

    Raises:
        DataError: the files are not there, damaged, of another size, or several of a name.
        UnsafeFileError: a python file would run code; it did not.
    """
    path = local_path(config.path)
    files, read_rows = _find_files(path, config.split)
    source = f"the downsampled ImageNet {config.split} split in {shown(path)}"
    batches = BatchFiles("downsampled ImageNet", files, _ROWS[config.split], read_rows, range(1, 1001))
    indices, images, classes = read_batches(batches, config.select, source)
    names = published_classes()
    if config.class_order == "wordnet":
        rank = np.argsort(np.argsort(names))
        classes, names = rank[classes].astype(np.int64), tuple(sorted(names))
    return ImageSet(indices, images, classes, names, source)


def published_classes() -> tuple[str, ...]:
    """The 1,000 WordNet ids in the order of the published labels."""
    text = resources.files("raycp.data").joinpath("downsampled_imagenet_classes.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def _find_files(path: Path, split: str) -> tuple[list[Path], ReadRows]:
    """The files of the split, with the function that reads them.

    They lie in `path` or, as the archives unpack to `Imagenet64_train_part1_npz`, in folders within it.
    """
    stems = ["val_data"] if split == "val" else [f"train_data_batch_{number}" for number in range(1, 11)]
    read_python = partial(read_pickled_rows, row_lengths=_ROW_LENGTHS, labels_key="labels")
    readers: tuple[tuple[str, ReadRows], ...] = ((".npz", _read_npz), ("", read_python))
    for suffix, read_rows in readers:
        names = [f"{stem}{suffix}" for stem in stems]
        places = [_places(path, name) for name in names]
        if not any(places):
            continue
        for name, found in zip(names, places):
            if not found:
                raise DataError(
                    f"data.path: there is no {name} in {path} or in a folder within it, but other batches are there."
                )
            if len(found) > 1:
                folders = ", ".join(str(file.parent) for file in found)
                raise DataError(
                    f"data.path: {name} lies in several folders, {folders}; name a folder that holds one of them."
                )
        return [found[0] for found in places], read_rows
    raise DataError(
        f"data.path: no downsampled ImageNet {split} files: looked for {stems[0]}.npz and {stems[0]} in {path}, and in "
        f"the folders within it."
    )


def _places(path: Path, name: str) -> list[Path]:
    if (path / name).is_file():
        return [path / name]
    return sorted(file for file in path.glob(f"*/{name}") if file.is_file())


def _read_npz(file: Path, num_rows: int, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[Any]]:
    """Rows of the arrays `data` and `labels`."""
    pixels, labels = read_member(file, "data"), read_member(file, "labels")
    shapes = [(num_rows, length) for length in _ROW_LENGTHS]
    if pixels.shape not in shapes or pixels.dtype != np.uint8:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        raise DataError(
            f"{file} should hold `data`, uint8 {allowed}, got {pixels.dtype} {list(pixels.shape)}."
        )
    if labels.shape != (num_rows,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{file} should hold `labels`, {num_rows} integers, got {labels.dtype} {list(labels.shape)}."
        )
    return pixels.rows(rows), labels.rows(rows).tolist()

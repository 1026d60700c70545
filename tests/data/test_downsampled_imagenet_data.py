"""Downsampled ImageNet: the order of its classes, npz and python files of every size, memory, and damage."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from published_files import write_imagenet_npz, write_imagenet_python

from raycp.config.data import DownsampledImagenetData, Selection
from raycp.data import downsampled_imagenet, load_images
from raycp.data.downsampled_imagenet import published_classes
from raycp.errors import DataError, UnsafeFileError

VAL = 11
TRAIN = (5,) * 9 + (7,)
PUBLISHED_ROWS = downsampled_imagenet._ROWS
WRITERS: dict[str, Callable[..., None]] = {".npz": write_imagenet_npz, "": write_imagenet_python}
BATCHES = [f"train_data_batch_{number}" for number in range(1, 11)]


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """11 images, and ten batches of 5 and 7; some tests put the published numbers back."""
    monkeypatch.setattr(downsampled_imagenet, "_ROWS", {"val": (VAL,), "train": TRAIN})


def random_batch(rows: int, seed: int = 0, side: int = 8) -> tuple[Any, list[int]]:
    """Images [N,S,S,3], and labels from 1 as published, both ends among them."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8),
        [1000, 1, *rng.integers(1, 1001, rows - 2).tolist()],
    )


def write_train(folder: Path, suffix: str) -> None:
    for number, (name, rows) in enumerate(zip(BATCHES, TRAIN)):
        WRITERS[suffix](folder / f"{name}{suffix}", *random_batch(rows, number), mean=np.full(192, 117.3))


def data(path: Path, **keys: Any) -> DownsampledImagenetData:
    return DownsampledImagenetData(name="downsampled_imagenet", path=str(path), **keys)


def test_the_published_order_is_the_devkits_and_not_the_sorted_one() -> None:
    """map_clsloc.txt: "n02119789 1 kit_fox", "n02100735 2 English_setter", ..., "n01440764 449 tench"."""
    published = published_classes()
    assert published[:3] == ("n02119789", "n02100735", "n02110185") and published.index("n01440764") == 448
    assert len(published) == len(set(published)) == 1000
    assert not any(a == b for a, b in zip(published, sorted(published)))


def test_the_sorted_classes_are_those_of_timm() -> None:
    synsets = Path(timm.__file__).parent / "data" / "_info" / "imagenet_synsets.txt"
    assert sorted(published_classes()) == synsets.read_text().split()


@pytest.mark.parametrize("suffix", WRITERS)
def test_labels_in_both_orders(tmp_path: Path, suffix: str) -> None:
    """Label 1 is the kit fox, 278 of the sorted classes; 449 is the tench, 0 of them; 1000 is n03255030."""
    images, _ = random_batch(VAL)
    labels = [1, 449, 1000, 2] * 2 + [3, 3, 3]
    WRITERS[suffix](tmp_path / f"val_data{suffix}", images, labels)
    published = load_images(data(tmp_path, class_order="published"))
    assert published.labels.tolist() == [label - 1 for label in labels]
    assert published.class_names is not None and published.class_names[0] == "n02119789"
    usual = load_images(data(tmp_path))
    assert usual.labels[:2].tolist() == [278, 0]
    assert usual.class_names is not None and list(usual.class_names) == sorted(published.class_names)
    for one, other in zip(usual.labels, published.labels):
        assert usual.class_names[one] == published.class_names[other]
    np.testing.assert_array_equal(usual.images, published.images)
    assert usual.sha256 != published.sha256 and usual.num_classes == 1000


@pytest.mark.parametrize("side", [8, 16, 32, 64])
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_size_is_told_by_its_rows(tmp_path: Path, suffix: str, side: int) -> None:
    images, labels = random_batch(VAL, side=side)
    WRITERS[suffix](tmp_path / f"val_data{suffix}", images, labels)
    loaded = load_images(data(tmp_path, select=Selection(indices=(10, 0, 3))))
    assert loaded.images.shape == (3, 3, side, side) and loaded.images.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(loaded.images[:, channel], images[[10, 0, 3], ..., channel])
    assert loaded.indices.tolist() == [10, 0, 3]
    assert "downsampled ImageNet val split" in loaded.source and str(tmp_path) in loaded.source


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_training_batches_in_order(tmp_path: Path, suffix: str) -> None:
    write_train(tmp_path, suffix)
    parts = [random_batch(rows, number) for number, rows in enumerate(TRAIN)]
    whole = load_images(data(tmp_path, split="train", class_order="published"))
    assert whole.indices.tolist() == list(range(52))
    np.testing.assert_array_equal(
        whole.images, np.concatenate([images for images, _ in parts]).transpose(0, 3, 1, 2)
    )
    assert whole.labels.tolist() == [label - 1 for _, labels in parts for label in labels]
    select = Selection(indices=(51, 4, 5, 45, 44))  # both sides of two borders, out of order
    some = load_images(data(tmp_path, split="train", class_order="published", select=select))
    np.testing.assert_array_equal(some.images, whole.images[list(select.indices or ())])
    assert some.labels.tolist() == whole.labels[list(select.indices or ())].tolist()


def test_both_forms_have_one_digest(tmp_path: Path) -> None:
    images, labels = random_batch(VAL)
    write_imagenet_npz(tmp_path / "a" / "val_data.npz", images, labels)
    write_imagenet_npz(tmp_path / "b" / "val_data.npz", images, labels, compress=True)
    write_imagenet_python(tmp_path / "c" / "val_data", images, labels)
    digests = {load_images(data(tmp_path / name, select=Selection(start=1, skip=3))).sha256 for name in "abc"}
    assert len(digests) == 1


def test_the_folders_of_the_archives(tmp_path: Path) -> None:
    """Imagenet64_train_part1_npz has batches 1 to 5, _part2_npz 6 to 10, and Imagenet64_val_npz the other split."""
    write_train(tmp_path / "flat", ".npz")
    for number, name in enumerate(BATCHES):
        folder = tmp_path / "parts" / f"Imagenet64_train_part{1 + number // 5}_npz"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "flat" / f"{name}.npz").rename(folder / f"{name}.npz")
    assert len(load_images(data(tmp_path / "parts", split="train"))) == 52
    second = tmp_path / "parts" / "Imagenet64_train_part2_npz"
    with pytest.raises(
        DataError, match=r"there is no train_data_batch_1.npz in .*, but other batches are there"
    ):
        load_images(data(second, split="train"))
    write_imagenet_npz(tmp_path / "parts" / "Imagenet64_val_npz" / "val_data.npz", *random_batch(VAL))
    assert len(load_images(data(tmp_path / "parts"))) == VAL
    write_imagenet_npz(tmp_path / "parts" / "Imagenet8_val_npz" / "val_data.npz", *random_batch(VAL))
    with pytest.raises(
        DataError, match=r"val_data.npz lies in several folders, .*64_val_npz, .*8_val_npz; name a"
    ):
        load_images(data(tmp_path / "parts"))


def test_only_files_with_selected_images_are_opened(tmp_path: Path) -> None:
    write_train(tmp_path, ".npz")
    for name in (*BATCHES[:3], *BATCHES[4:]):
        (tmp_path / f"{name}.npz").write_bytes(b"")
    loaded = load_images(data(tmp_path, split="train", select=Selection(indices=(15, 19))))
    np.testing.assert_array_equal(loaded.images, random_batch(5, 3)[0][[0, 4]].transpose(0, 3, 1, 2))
    with pytest.raises(DataError, match=r"train_data_batch_3.npz is damaged or not an .npz file"):
        load_images(data(tmp_path, split="train", select=Selection(indices=(14,))))


def test_batches_of_different_sizes(tmp_path: Path) -> None:
    write_train(tmp_path, ".npz")
    write_imagenet_npz(tmp_path / "train_data_batch_2.npz", *random_batch(5, side=16))
    with pytest.raises(
        DataError, match=r"train_data_batch_2.npz has images of 16x16 pixels, but .* have 8x8; keep"
    ):
        load_images(data(tmp_path, split="train"))


def test_the_published_numbers_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,281,167 training images; every 100th of the 50,000 validation images is 500, and few are in memory."""
    monkeypatch.setattr(downsampled_imagenet, "_ROWS", PUBLISHED_ROWS)
    assert sum(PUBLISHED_ROWS["train"]) == 1_281_167 and len(PUBLISHED_ROWS["train"]) == 10
    pixels = np.zeros((50_000, 768), np.uint8)
    pixels[49_900, 256 + 16 * 5 + 3] = 200  # green, row 5, column 3
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "val_data.npz", data=pixels, labels=np.arange(50_000) % 1000 + 1)
        tracemalloc.start()
        try:
            loaded = load_images(data(tmp_path, select=Selection(skip=100), class_order="published"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(loaded) == 500 and loaded.indices[-1] == 49_900
        assert loaded.images[499, 1, 5, 3] == 200 and loaded.images.sum() == 200
        assert loaded.labels.tolist() == [100 * k % 1000 for k in range(500)]
        assert peak < pixels.nbytes / 2  # a few times 4 MiB, of 38 MB


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("wrong", [0, 1001, -1])
def test_a_label_outside_is_named_with_its_row(tmp_path: Path, suffix: str, wrong: int) -> None:
    """0 is what a file with labels from 0 has."""
    images, labels = random_batch(VAL)
    labels[6] = wrong
    WRITERS[suffix](tmp_path / f"val_data{suffix}", images, labels)
    complaint = rf"row 6 of .*val_data{suffix} has the label {wrong}, but downsampled ImageNet has the labels 1 to 1000"
    with pytest.raises(DataError, match=complaint):
        load_images(data(tmp_path))
    load_images(data(tmp_path, select=Selection(count=6)))


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"images": np.zeros(3)}, r"val_data.npz has no array data; it has: images\.$"),
        ({"data": np.zeros((VAL, 192), np.uint8)}, r"has no array labels; it has: data\.$"),
        ({"data": np.zeros((VAL, 192), np.float32), "labels": np.ones(VAL, int)}, r"got float32 \[11, 192\]"),
        (
            {"data": np.zeros((VAL, 8, 8, 3), np.uint8), "labels": np.ones(VAL, int)},
            r"should hold `data`, uint8 \[11, 192\] or \[11, 768\] or \[11, 3072\] or \[11, 12288\], got uint8 "
            r"\[11, 8, 8, 3\]",
        ),
        ({"data": np.zeros((VAL, 300), np.uint8), "labels": np.ones(VAL, int)}, r"got uint8 \[11, 300\]"),
        ({"data": np.zeros((VAL - 1, 192), np.uint8), "labels": np.ones(VAL, int)}, r"got uint8 \[10, 192\]"),
        (
            {"data": np.zeros((VAL, 192), np.uint8), "labels": np.ones(VAL - 1, int)},
            r"should hold `labels`, 11 integers, got int64 \[10\]",
        ),
        ({"data": np.zeros((VAL, 192), np.uint8), "labels": np.ones(VAL)}, r"got float64 \[11\]"),
    ],
)
def test_an_npz_that_holds_something_else(tmp_path: Path, arrays: dict[str, Any], complaint: str) -> None:
    np.savez(tmp_path / "val_data.npz", **arrays)
    with pytest.raises(DataError, match=complaint):
        load_images(data(tmp_path))


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        (
            {"data": np.zeros((VAL, 300), np.uint8), "labels": [1] * VAL},
            r"\[11, 12288\], got uint8 \[11, 300\]",
        ),
        ({"data": np.zeros((VAL, 192), np.float64), "labels": [1] * VAL}, r"got float64 \[11, 192\]"),
        ({"data": np.zeros((VAL, 3072), np.uint8), "fine_labels": [1] * VAL}, r"`labels`, .* got NoneType"),
        ({"data": np.zeros((VAL, 192), np.uint8), "labels": [1] * 10}, r"`labels`, .* got a list of 10"),
        ({"data": np.zeros((VAL, 192), np.uint8), "labels": [1.0] * VAL}, r"row 0 of .* has the label 1\.0"),
    ],
)
def test_a_python_file_that_holds_something_else(
    tmp_path: Path, batch: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "val_data").write_bytes(pickle.dumps(batch))
    with pytest.raises(DataError, match=complaint):
        load_images(data(tmp_path))


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"val_data{suffix}"
    WRITERS[suffix](file, *random_batch(VAL))
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(DataError, match=f"{file} is damaged"):
        load_images(data(tmp_path))


def test_a_damaged_pixel_in_an_npz_is_found_by_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "val_data.npz"
    images, labels = random_batch(VAL)
    write_imagenet_npz(file, images, labels)
    content = bytearray(file.read_bytes())
    content[content.index(images[9, :, :, 0].tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=f"{file} is damaged or not an .npz file: Bad CRC-32 for file 'data.npy'"
    ):
        load_images(data(tmp_path, select=Selection(count=1)))


def test_malicious_files_run_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'it-ran'}",)

    (tmp_path / "val_data").write_bytes(pickle.dumps({"data": Payload(), "labels": []}))
    with pytest.raises(UnsafeFileError, match=r"asks for '\w+\.system'"):
        load_images(data(tmp_path))
    objects = np.empty(VAL, object)
    objects[0] = Payload()
    np.savez(tmp_path / "val_data.npz", data=np.zeros((VAL, 192), np.uint8), labels=objects)
    assert zipfile.is_zipfile(tmp_path / "val_data.npz")
    with pytest.raises(UnsafeFileError, match=r"the array labels of .* holds Python objects"):
        load_images(data(tmp_path))
    assert not (tmp_path / "it-ran").exists()


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path: Path) -> None:
    write_train(tmp_path, ".npz")
    with pytest.raises(DataError) as caught:
        load_images(data(tmp_path))
    assert str(caught.value) == (
        f"data.path: no downsampled ImageNet val files: looked for val_data.npz and val_data in {tmp_path}, and in the "
        f"folders within it."
    )


def test_a_selection_beyond_the_split(tmp_path: Path) -> None:
    write_imagenet_npz(tmp_path / "val_data.npz", *random_batch(VAL))
    with pytest.raises(
        DataError, match=r"names image 11, but the downsampled ImageNet val split .* has 11 images"
    ):
        load_images(data(tmp_path, select=Selection(indices=(11,))))

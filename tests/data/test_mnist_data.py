"""idx files: spellings, gzip, headers, and files that are damaged, of another kind, or too big."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import idx, write_idx

from raycp.config.data import MnistData, Selection
from raycp.data import load_images, mnist
from raycp.errors import DataError

ROWS = {"test": 9, "train": 14}
PREFIX = {"test": "t10k", "train": "train"}
FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw", "kmnist": "KMNIST/raw"}
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


PUBLISHED_ROWS = mnist._ROWS


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """9 and 14 images; one test puts the published numbers back."""
    monkeypatch.setattr(mnist, "_ROWS", ROWS)


def random_split(split: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(len(split))
    labels = rng.integers(0, 10, ROWS[split], dtype=np.uint8)
    labels[0] = 9
    return rng.integers(0, 256, (ROWS[split], 28, 28), dtype=np.uint8), labels


def write(folder: Path, split: str = "test", dot: str = "-", suffix: str = "") -> None:
    images, labels = random_split(split)
    write_idx(folder / f"{PREFIX[split]}-images{dot}idx3-ubyte{suffix}", images)
    write_idx(folder / f"{PREFIX[split]}-labels{dot}idx1-ubyte{suffix}", labels)


def data(path: Path, name: Any = "mnist", **keys: Any) -> MnistData:
    return MnistData(name=name, path=str(path), **keys)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("direct", [True, False], ids=["path itself", "usual subfolder"])
@pytest.mark.parametrize("name", FOLDERS)
def test_every_pixel_and_label(tmp_path: Path, name: str, direct: bool, dot: str, suffix: str) -> None:
    for split in ("test", "train"):
        write(tmp_path if direct else tmp_path / FOLDERS[name], split, dot, suffix)
        images, labels = random_split(split)
        loaded = load_images(data(tmp_path, name, split=split))
        assert loaded.images.shape == (ROWS[split], 1, 28, 28) and loaded.images.dtype == np.uint8
        np.testing.assert_array_equal(loaded.images[:, 0], images)
        assert loaded.labels.tolist() == labels.tolist()
        assert loaded.num_classes == 10 and f" {split} split in {tmp_path}" in loaded.source


def test_the_name_chooses_the_classes_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    sets = {name: load_images(data(tmp_path, name)) for name in FOLDERS}
    assert len({images.sha256 for images in sets.values()}) == 1
    assert sets["mnist"].class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert sets["fashion_mnist"].class_names == (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    assert sets["kmnist"].class_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def test_the_content_tells_what_is_compressed(tmp_path: Path) -> None:
    """A browser unpacks what it fetches and leaves the name."""
    images, labels = random_split("test")
    (tmp_path / f"{IMAGES}.gz").write_bytes(idx(images))
    (tmp_path / LABELS).write_bytes(gzip.compress(idx(labels)))
    loaded = load_images(data(tmp_path, select=Selection(indices=(8, 2))))
    np.testing.assert_array_equal(loaded.images[:, 0], images[[8, 2]])
    assert loaded.labels.tolist() == labels[[8, 2]].tolist() and loaded.indices.tolist() == [8, 2]


@pytest.mark.parametrize(("split", "rows"), [("test", 10_000), ("train", 60_000)])
def test_the_published_numbers_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, rows: int
) -> None:
    monkeypatch.setattr(mnist, "_ROWS", PUBLISHED_ROWS)
    images = np.zeros((rows, 28, 28), np.uint8)
    images[rows - 20, 5, 7] = 200
    write_idx(tmp_path / f"{PREFIX[split]}-images-idx3-ubyte", images)
    write_idx(tmp_path / f"{PREFIX[split]}-labels-idx1-ubyte", np.arange(rows) // 20 % 10)
    loaded = load_images(data(tmp_path, split=split, select=Selection(skip=20)))
    assert len(loaded) == rows // 20 and loaded.indices[-1] == rows - 20
    assert loaded.images[-1, 0, 5, 7] == 200 and loaded.images.sum() == 200
    assert loaded.labels.tolist() == [k % 10 for k in range(rows // 20)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (idx(np.zeros((9, 28), np.uint8)), r"starts with the bytes 00 00 08 02, but the images of the test split of "
         r"MNIST start with 00 00 08 03 \(idx, unsigned bytes, 3 axes\): it is something else"),
        (idx(np.zeros((9, 28, 28), np.uint8)).replace(b"\x08", b"\x0d", 1), "starts with the bytes 00 00 0d 03"),
        (b"\x06" + bytes(3072), "starts with the bytes 06 00 00 00"),
        (b"", r"starts with the bytes \(none\)"),
        (b"\0\0\x08\x03\0\0\0\x09\0\0", "has 10 bytes and ends within its header"),
        (idx(np.zeros((9, 28, 27), np.uint8)), r"holds \[9, 28, 27\], but the images .* are \[9, 28, 28\]"),
        (idx(np.zeros((8, 28, 28), np.uint8)), r"holds \[8, 28, 28\], but the images .* are \[9, 28, 28\]"),
        (idx(np.zeros((9, 28, 28), np.uint8))[:-1], "ends within row 8, but its header promises 9"),
        (idx(np.zeros((9, 28, 28), np.uint8))[: 16 + 784], "ends within row 1, but"),
        (idx(np.zeros((9, 28, 28), np.uint8)) + b"\0", "goes on after the 9 rows that its header promises"),
    ],
    ids=["axes", "dtype", "CIFAR", "empty", "header", "side", "fewer", "byte short", "rows short", "longer"],
)  # fmt: skip
def test_images_that_are_something_else(tmp_path: Path, content: bytes, complaint: str, suffix: str) -> None:
    write(tmp_path, suffix=suffix)
    file = tmp_path / f"{IMAGES}{suffix}"
    file.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=f"^{file} {complaint}"):
        load_images(data(tmp_path))


def test_labels_that_are_fewer_than_the_images_or_images_themselves(tmp_path: Path) -> None:
    write(tmp_path)
    write_idx(tmp_path / LABELS, np.zeros(8))
    with pytest.raises(
        DataError, match=rf"{LABELS} holds \[8\], but the labels of the test split of MNIST are \[9\]"
    ):
        load_images(data(tmp_path))
    write_idx(tmp_path / LABELS, np.zeros((9, 28, 28)))
    with pytest.raises(
        DataError, match=r"but the labels .* start with 00 00 08 01 \(idx, unsigned bytes, 1 axis\)"
    ):
        load_images(data(tmp_path))
    write_idx(tmp_path / LABELS, np.arange(9) + 2)
    with pytest.raises(
        DataError, match=r"image 8 of the MNIST test split in .* has the label 10; allowed are 0 to 9"
    ):
        load_images(data(tmp_path))
    load_images(data(tmp_path, select=Selection(count=8)))


@pytest.mark.parametrize("keep", [1, 12, 300, -9, -4])
def test_a_truncated_gzip_file_is_named(tmp_path: Path, keep: int) -> None:
    write(tmp_path, suffix=".gz")
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=f"^{file} (is damaged|starts with the bytes 1f)"):
        load_images(data(tmp_path))


@pytest.mark.parametrize("place", [10, 3000, -6])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, place: int) -> None:
    """The head of the stream, a pixel, and the checksum at the end."""
    write(tmp_path, suffix=".gz")
    file = tmp_path / f"{IMAGES}.gz"
    content = bytearray(file.read_bytes())
    content[place] ^= 255
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"^{file} is damaged: .*Fetch it anew"):
        load_images(data(tmp_path))


@pytest.mark.parametrize("promised", [9, 2**32 - 1])
def test_a_file_that_unpacks_to_more_than_it_should_is_not_unpacked(tmp_path: Path, promised: int) -> None:
    """240 MB of zeros in 240 kB, behind the images of a good file or as images that its header promises."""
    write(tmp_path)
    (tmp_path / IMAGES).unlink()
    head = b"\0\0\x08\x03" + struct.pack(">3I", promised, 28, 28)
    bomb = gzip.compress(head + bytes(9 * 784)) + 60 * gzip.compress(bytes(4 << 20))
    (tmp_path / f"{IMAGES}.gz").write_bytes(bomb)
    complaint = "goes on after" if promised == 9 else r"holds \[4294967295, 28, 28\]"
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=complaint):
            load_images(data(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_one_file_without_the_other_is_named(tmp_path: Path) -> None:
    write(tmp_path, suffix=".gz")
    (tmp_path / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError) as caught:
        load_images(data(tmp_path))
    assert str(caught.value) == (
        f"there is no {tmp_path / LABELS} (nor .gz), but {tmp_path / IMAGES}.gz lies beside it."
    )


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path, "train")
    with pytest.raises(DataError) as caught:
        load_images(data(tmp_path, "fashion_mnist"))
    assert str(caught.value) == (
        f"data.path: no Fashion-MNIST test files: looked for t10k-images-idx3-ubyte and t10k-images.idx3-ubyte, with "
        f"or without .gz, in {tmp_path} and in its subfolder FashionMNIST/raw."
    )


def test_a_selection_beyond_the_split(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(
        DataError, match=r"select\.start = 9 selects nothing: the MNIST test split in .* has 9"
    ):
        load_images(data(tmp_path, select=Selection(start=9)))

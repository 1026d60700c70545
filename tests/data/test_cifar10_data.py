"""CIFAR-10: binary and python files, planes R, G, B, rows before columns, and what damage says."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raycp.config.data import Cifar10Data, Selection
from raycp.data import cifar10, load_images
from raycp.errors import DataError, UnsafeFileError

ROWS = 30
BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


@pytest.fixture
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 30 rows; the published number is held by the tests that do without this."""
    monkeypatch.setattr(cifar10, "_ROWS", ROWS)


def random_batches() -> dict[str, tuple[Any, list[int]]]:
    """Images [30,32,32,3] and labels of each batch."""
    rng = np.random.default_rng(1)
    return {
        name: (rng.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, ROWS).tolist())
        for name in BATCHES
    }


def planes(image: Any) -> bytes:
    """The 3,072 bytes of one image [32,32,3], spelled out: all reds, all greens, all blues, row by row."""
    return bytes(
        int(image[row, column, channel]) for channel in range(3) for row in range(32) for column in range(32)
    )


def write_binary(folder: Path, batches: dict[str, tuple[Any, list[int]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        content = b"".join(bytes([label]) + planes(image) for image, label in zip(images, labels))
        (folder / f"{name}.bin").write_bytes(content)


def python2_pickle(images: Any, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it: byte strings (opcode U or T) and numpy's old module name."""

    def string(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    raw = b"".join(planes(image) for image in images)
    data = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + string(b"b") + b"tR"
        b"(K\x01"
        + integer(len(images))
        + integer(3072)
        + b"\x86cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R"
        b"(K\x03" + string(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\x00tb"
        b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    )
    entries = (
        string(b"batch_label")
        + string(b"testing batch 1 of 1")
        + (string(b"labels") + b"](" + b"".join(map(integer, labels)) + b"e")
        + (string(b"data") + data)
        + (string(b"filenames") + b"](" + string(b"domestic_cat_s_000907.png") * len(labels) + b"e")
    )
    return b"\x80\x02}(" + entries + b"u."


def write_python(folder: Path, batches: dict[str, tuple[Any, list[int]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in batches.items():
        (folder / name).write_bytes(python2_pickle(images, labels))


WRITERS = {"cifar-10-batches-bin": write_binary, "cifar-10-batches-py": write_python}


def test_the_handmade_pickle_is_the_published_dictionary() -> None:
    images, labels = random_batches()["test_batch"]
    batch = pickle.loads(python2_pickle(images, labels), encoding="bytes")
    assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
    np.testing.assert_array_equal(batch[b"data"].reshape(ROWS, 3, 32, 32).transpose(0, 2, 3, 1), images)


@pytest.mark.parametrize("folder", WRITERS)
@pytest.mark.parametrize("direct", [True, False], ids=["path itself", "usual subfolder"])
@pytest.mark.usefixtures("short_batches")
def test_every_pixel_and_label_of_both_splits(tmp_path: Path, folder: str, direct: bool) -> None:
    batches = random_batches()
    WRITERS[folder](tmp_path if direct else tmp_path / folder, batches)
    test = load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))
    assert test.images.shape == (ROWS, 3, 32, 32) and test.images.dtype == np.uint8
    for index in range(ROWS):
        image = batches["test_batch"][0][index]
        for channel in range(3):
            np.testing.assert_array_equal(test.images[index, channel], image[:, :, channel])
    assert test.labels.tolist() == batches["test_batch"][1]

    train = load_images(Cifar10Data(name="cifar10", path=str(tmp_path), split="train"))
    assert train.indices.tolist() == list(range(5 * ROWS))
    np.testing.assert_array_equal(
        train.images, np.concatenate([batches[name][0] for name in BATCHES[:5]]).transpose(0, 3, 1, 2)
    )
    assert train.labels.tolist() == [label for name in BATCHES[:5] for label in batches[name][1]]
    assert train.class_names is not None and train.class_names[3] == "cat" and len(train.class_names) == 10
    assert "train" in train.source and str(tmp_path) in train.source


@pytest.mark.usefixtures("short_batches")
def test_both_versions_have_one_digest(tmp_path: Path) -> None:
    batches = random_batches()
    digests = set()
    for folder, write in WRITERS.items():
        write(tmp_path / folder, batches)
        select = Selection(start=1, skip=7)
        digests.add(
            load_images(Cifar10Data(name="cifar10", path=str(tmp_path / folder), select=select)).sha256
        )
    assert len(digests) == 1


@pytest.mark.parametrize("folder", WRITERS)
@pytest.mark.usefixtures("short_batches")
def test_a_selection_across_batches_out_of_order(tmp_path: Path, folder: str) -> None:
    WRITERS[folder](tmp_path, random_batches())
    whole = load_images(Cifar10Data(name="cifar10", path=str(tmp_path), split="train"))
    indices = (5 * ROWS - 1, 0, ROWS, ROWS - 1, 3 * ROWS + 4)
    some = load_images(
        Cifar10Data(name="cifar10", path=str(tmp_path), split="train", select=Selection(indices=indices))
    )
    assert some.indices.tolist() == list(indices)
    np.testing.assert_array_equal(some.images, whole.images[list(indices)])
    np.testing.assert_array_equal(some.labels, whole.labels[list(indices)])


def test_the_published_file_size_and_number_of_rows(tmp_path: Path) -> None:
    rows = np.zeros((10_000, 3073), np.uint8)
    rows[:, 0] = np.arange(10_000) % 10
    rows[9980, 1 + 1024 + 32 * 5 + 7] = 200  # green, row 5, column 7
    rows.tofile(tmp_path / "test_batch.bin")
    images = load_images(Cifar10Data(name="cifar10", path=str(tmp_path), select=Selection(skip=20)))
    assert len(images) == 500 and images.indices[-1] == 9980
    assert images.images[499, 1, 5, 7] == 200 and images.images.sum() == 200
    assert images.labels.tolist() == [index % 10 for index in range(0, 10_000, 20)]


def test_a_truncated_binary_file_is_named_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "test_batch.bin"
    file.write_bytes(bytes(2 * 3073 + 100))
    with pytest.raises(DataError) as caught:
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))
    assert str(caught.value) == (
        f"{file} has 6246 bytes, but a CIFAR-10 batch has 30730000, 10000 rows of 3073: it ends within row 2."
    )
    with file.open("wb") as stream:
        stream.truncate(30_740_000)
    with pytest.raises(DataError, match=r"has 30740000 bytes.*it is something else"):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))


@pytest.mark.usefixtures("short_batches")
def test_a_truncated_python_file_is_named(tmp_path: Path) -> None:
    write_python(tmp_path, random_batches())
    file = tmp_path / "test_batch"
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(DataError, match=f"{file} is damaged"):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))


@pytest.mark.parametrize("folder", WRITERS)
@pytest.mark.usefixtures("short_batches")
def test_a_label_above_nine_is_named_with_its_row(tmp_path: Path, folder: str) -> None:
    batches = random_batches()
    batches["test_batch"][1][17] = 10
    WRITERS[folder](tmp_path, batches)
    with pytest.raises(
        DataError, match=r"row 17 of .*test_batch.* has the label 10, but CIFAR-10 has the labels 0 to 9"
    ):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))
    load_images(Cifar10Data(name="cifar10", path=str(tmp_path), select=Selection(count=17)))


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        ({"data": np.zeros((ROWS, 3072), np.uint8), "fine_labels": [0] * ROWS}, r"`labels`.*got NoneType"),
        ({"data": np.zeros((ROWS, 3072), np.uint8), "labels": [0] * 29}, r"`labels`.*got a list of 29"),
        (
            {"data": np.zeros((ROWS, 3072), np.uint8), "labels": [True] * ROWS},
            "row 0 of .* has the label True",
        ),
        (
            {"data": np.zeros((ROWS, 3072), np.uint8), "labels": [2**70] * ROWS},
            "row 0 of .* has the label 1180",
        ),
        ({"data": np.zeros((29, 3072), np.uint8), "labels": [0] * ROWS}, r"`data`.*got uint8 \[29, 3072\]"),
        ({"data": np.zeros((ROWS, 3072), np.int64), "labels": [0] * ROWS}, r"`data`.*got int64"),
        ({"labels": [0] * ROWS}, r"`data`, uint8 \[30, 3072\], got NoneType"),
    ],
)
@pytest.mark.usefixtures("short_batches")
def test_a_python_file_that_holds_something_else(
    tmp_path: Path, batch: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(DataError, match=complaint):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))


def test_a_malicious_batch_runs_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'it-ran'}",)

    file = tmp_path / "test_batch"
    file.write_bytes(pickle.dumps({b"data": Payload(), b"labels": []}))
    with pytest.raises(
        UnsafeFileError, match=rf"{file} is a pickle that asks for '{os.system.__module__}\.system'"
    ):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))
    assert not (tmp_path / "it-ran").exists()


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    for number in (1, 2, 4, 5):
        (tmp_path / f"data_batch_{number}.bin").touch()
    with pytest.raises(
        DataError, match=f"there is no {tmp_path / 'data_batch_3.bin'}, but other CIFAR-10 batches"
    ):
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path), split="train"))


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_images(Cifar10Data(name="cifar10", path=str(tmp_path)))
    assert str(caught.value) == (
        f"data.path: no CIFAR-10 test files: looked for test_batch.bin and test_batch in {tmp_path}, and in its "
        f"subfolders cifar-10-batches-bin and cifar-10-batches-py."
    )

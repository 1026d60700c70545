"""CIFAR-100: binary and python files, fine and coarse labels, and what other files say."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import write_cifar100_binary, write_cifar100_python

from raycp.config.data import Cifar100Data, Selection
from raycp.data import cifar100, load_images
from raycp.errors import DataError, UnsafeFileError

ROWS = {"test": 12, "train": 20}
WRITERS = {"cifar-100-binary": write_cifar100_binary, "cifar-100-python": write_cifar100_python}
SUFFIX = {"cifar-100-binary": ".bin", "cifar-100-python": ""}


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 and 20 images; the published numbers are held by the tests that do without this."""
    monkeypatch.setattr(cifar100, "_ROWS", ROWS)


def random_split(split: str) -> tuple[Any, list[int], list[int]]:
    """Images [N,32,32,3], fine labels, coarse labels."""
    rng = np.random.default_rng(len(split))
    rows = ROWS[split]
    return (
        rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8),
        [99, *rng.integers(0, 100, rows - 1).tolist()],
        [19, *rng.integers(0, 20, rows - 1).tolist()],
    )


def write(folder: Path, version: str) -> None:
    for split in ROWS:
        WRITERS[version](folder / f"{split}{SUFFIX[version]}", *random_split(split))


def data(path: Path, **keys: Any) -> Cifar100Data:
    return Cifar100Data(name="cifar100", path=str(path), **keys)


def test_the_class_names_are_those_of_the_published_lists() -> None:
    assert len(cifar100.FINE_NAMES) == 100 and len(cifar100.COARSE_NAMES) == 20
    for names in (cifar100.FINE_NAMES, cifar100.COARSE_NAMES):
        assert list(names) == sorted(set(names))
    # Labels and names of single images, as the page of the Hugging Face copy (uoft-cs/cifar100) shows them.
    fine = {0: "apple", 11: "boy", 19: "cattle", 23: "cloud", 39: "keyboard", 59: "pine_tree", 71: "sea",
            86: "telephone", 90: "train", 96: "willow_tree", 97: "wolf"}  # fmt: skip
    coarse = {1: "fish", 5: "household_electrical_devices", 9: "large_man-made_outdoor_things", 15: "reptiles",
              13: "non-insect_invertebrates", 16: "small_mammals", 19: "vehicles_2"}  # fmt: skip
    assert {label: cifar100.FINE_NAMES[label] for label in fine} == fine
    assert {label: cifar100.COARSE_NAMES[label] for label in coarse} == coarse


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("direct", [True, False], ids=["path itself", "usual subfolder"])
@pytest.mark.usefixtures("few_rows")
def test_every_pixel_and_label_of_both_splits(tmp_path: Path, version: str, direct: bool) -> None:
    write(tmp_path if direct else tmp_path / version, version)
    for split in ("test", "train"):
        images, fine, coarse = random_split(split)
        loaded = load_images(data(tmp_path, split=split))
        assert loaded.images.dtype == np.uint8 and loaded.images.shape == (ROWS[split], 3, 32, 32)
        for channel in range(3):
            np.testing.assert_array_equal(loaded.images[:, channel], images[..., channel])
        assert loaded.labels.tolist() == fine and loaded.class_names == cifar100.FINE_NAMES
        assert loaded.num_classes == 100
        grouped = load_images(data(tmp_path, split=split, labels="coarse"))
        np.testing.assert_array_equal(grouped.images, loaded.images)
        assert grouped.labels.tolist() == coarse and grouped.class_names == cifar100.COARSE_NAMES
        assert split in loaded.source and "CIFAR-100" in loaded.source and str(tmp_path) in loaded.source


@pytest.mark.parametrize("labels", ["fine", "coarse"])
@pytest.mark.usefixtures("few_rows")
def test_both_versions_have_one_digest(tmp_path: Path, labels: str) -> None:
    digests = set()
    for version in WRITERS:
        write(tmp_path / version, version)
        select = Selection(indices=(19, 0, 7))
        digests.add(load_images(data(tmp_path / version, split="train", labels=labels, select=select)).sha256)
    assert len(digests) == 1


@pytest.mark.parametrize(("split", "rows"), [("test", 10_000), ("train", 50_000)])
def test_the_published_file_sizes(tmp_path: Path, split: str, rows: int) -> None:
    file = tmp_path / f"{split}.bin"
    with file.open("wb") as stream:  # sparse: only the last row is written
        stream.seek((rows - 1) * 3074)
        stream.write(bytes([7, 93]) + bytes(range(256)) * 12)
    loaded = load_images(data(tmp_path, split=split, select=Selection(start=99, skip=100)))
    assert len(loaded) == rows // 100 and loaded.indices[-1] == rows - 1
    assert loaded.labels.tolist() == [0] * (rows // 100 - 1) + [93]
    assert loaded.images[-1].tobytes() == bytes(range(256)) * 12


def test_files_of_another_size(tmp_path: Path) -> None:
    file = tmp_path / "test.bin"
    file.write_bytes(bytes(3 * 3074 + 5))
    with pytest.raises(DataError) as caught:
        load_images(data(tmp_path))
    assert str(caught.value) == (
        f"{file} has 9227 bytes, but a CIFAR-100 batch has 30740000, 10000 rows of 3074: it ends within row 3."
    )
    with file.open("wb") as stream:  # the training file under the name of the test file
        stream.truncate(153_700_000)
    with pytest.raises(DataError, match=r"has 153700000 bytes.*it is something else"):
        load_images(data(tmp_path))


@pytest.mark.parametrize(("labels", "wrong"), [("fine", 100), ("coarse", 20)])
@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.usefixtures("few_rows")
def test_a_label_beyond_the_classes_is_named(tmp_path: Path, version: str, labels: str, wrong: int) -> None:
    images, fine, coarse = random_split("test")
    (fine if labels == "fine" else coarse)[5] = wrong
    WRITERS[version](tmp_path / f"test{SUFFIX[version]}", images, fine, coarse)
    with pytest.raises(
        DataError,
        match=rf"row 5 of .*test.* has the label {wrong}, but CIFAR-100 has the {labels} labels 0 to {wrong - 1}:",
    ):
        load_images(data(tmp_path, labels=labels))
    load_images(data(tmp_path, labels="coarse" if labels == "fine" else "fine"))
    load_images(data(tmp_path, labels=labels, select=Selection(count=5)))


@pytest.mark.usefixtures("few_rows")
def test_a_python_file_of_cifar10_or_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "test"
    content = pickle.dumps({b"data": np.zeros((12, 3072), np.uint8), b"labels": [0] * 12})
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"should hold `fine_labels`, a list of 12 integers, got NoneType"):
        load_images(data(tmp_path))
    file.write_bytes(content[:5_000])
    with pytest.raises(DataError, match=f"{file} is damaged or not the pickle it should be"):
        load_images(data(tmp_path))
    file.write_bytes(bytes([0, 0, 8, 3, 0, 0, 39, 16]) * 100)  # an idx file
    with pytest.raises(DataError, match=f"{file} is damaged or not the pickle it should be"):
        load_images(data(tmp_path))


def test_a_malicious_file_runs_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'it-ran'}",)

    (tmp_path / "test").write_bytes(pickle.dumps({b"data": Payload(), b"fine_labels": []}))
    with pytest.raises(UnsafeFileError, match=r"asks for '\w+\.system'"):
        load_images(data(tmp_path))
    assert not (tmp_path / "it-ran").exists()


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()  # a folder is not the file of that name
    with pytest.raises(DataError) as caught:
        load_images(data(tmp_path))
    assert str(caught.value) == (
        f"data.path: no CIFAR-100 test files: looked for test.bin and test in {tmp_path}, and in its subfolders "
        f"cifar-100-binary and cifar-100-python."
    )


@pytest.mark.usefixtures("few_rows")
def test_a_selection_beyond_the_split(tmp_path: Path) -> None:
    write(tmp_path, "cifar-100-binary")
    with pytest.raises(DataError, match=r"names image 12, but the CIFAR-100 test split in .* has 12 images"):
        load_images(data(tmp_path, select=Selection(indices=(3, 12))))

"""The Hugging Face parquet layout: rows, files, splits, class names, and damage."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raycp.config.data import ParquetData, Selection
from raycp.data import load_images
from raycp.errors import DataError

NAMES = ["airplane", "automobile", "bird"]
METADATA = {
    "info": {"features": {"img": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}}
}


def encode(pixels: Any, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def random_pixels(count: int, seed: int = 0, shape: tuple[int, ...] = (5, 4, 3)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(
    path: Path,
    content: list[bytes | None],
    labels: Any,
    *,
    column: str = "img",
    is_struct: bool = True,
    metadata: Any = METADATA,
    group: int = 3,
) -> None:
    images: Any = pa.array(content, pa.binary())
    if is_struct:
        paths = pa.array([f"{row}.png" for row in range(len(content))])
        images = pa.StructArray.from_arrays([images, paths], ["bytes", "path"])
    labels = labels if isinstance(labels, pa.Array) else pa.array(labels)
    table = pa.table({"id": pa.array(range(len(content))), column: images, "label": labels})
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        table = table.replace_schema_metadata({"huggingface": text})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group, write_page_checksum=True)


def parquet(path: Path, **keys: Any) -> ParquetData:
    return ParquetData(name="parquet", path=str(path), **keys)


@pytest.mark.parametrize("is_struct", [True, False], ids=["struct", "bytes"])
@pytest.mark.parametrize("column", ["img", "image"])
def test_every_pixel_and_label(tmp_path: Path, column: str, is_struct: bool) -> None:
    pixels, labels = random_pixels(8), [0, 1, 2, 2, 1, 0, 0, 2]
    write(tmp_path / "x.parquet", [encode(p) for p in pixels], labels, column=column, is_struct=is_struct)
    images = load_images(parquet(tmp_path / "x.parquet"))
    assert images.images.shape == (8, 3, 5, 4) and images.images.dtype == np.uint8
    for row in range(8):
        for channel in range(3):
            np.testing.assert_array_equal(images.images[row, channel], pixels[row, :, :, channel])
    assert images.labels.tolist() == labels
    assert images.indices.tolist() == list(range(8))
    assert images.class_names == tuple(NAMES)
    assert images.source == f"the parquet file {tmp_path / 'x.parquet'}"


@pytest.fixture(scope="module")
def three_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """24 images in three files of 10, 1 and 13 rows with row groups of 3; folder, pixels, labels."""
    folder = tmp_path_factory.mktemp("three-files")
    pixels, labels = random_pixels(24, seed=5), np.random.default_rng(6).integers(0, 3, 24)
    for number, (start, stop) in enumerate([(0, 10), (10, 11), (11, 24)]):
        file = folder / f"test-{number:05d}-of-00003.parquet"
        write(file, [encode(p) for p in pixels[start:stop]], labels[start:stop])
    return folder, pixels, labels


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(24)), length=st.integers(1, 24))
def test_any_selection_across_groups_and_files(
    three_files: tuple[Path, Any, Any], order: list[int], length: int
) -> None:
    folder, pixels, labels = three_files
    chosen = order[:length]
    images = load_images(parquet(folder, select=Selection(indices=tuple(chosen))))
    assert images.indices.tolist() == chosen
    np.testing.assert_array_equal(images.images, pixels[chosen].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(images.labels, labels[chosen])


def test_batches_that_end_inside_a_row_group(tmp_path: Path) -> None:
    rows = 2500  # read 1,024 at a time, in groups of 900
    content = [encode(np.full((1, 1), row % 251, np.uint8)) for row in range(rows)]
    write(tmp_path / "x.parquet", content, [row % 3 for row in range(rows)], group=900)
    for select in (
        Selection(),
        Selection(start=1, skip=7),
        Selection(indices=(2499, 1023, 1024, 899, 900, 1800)),
    ):
        images = load_images(parquet(tmp_path / "x.parquet", select=select))
        np.testing.assert_array_equal(images.images[:, 0, 0, 0], images.indices % 251)
        np.testing.assert_array_equal(images.labels, images.indices % 3)
    assert len(load_images(parquet(tmp_path / "x.parquet"))) == rows


def test_only_the_selected_rows_are_decoded(tmp_path: Path) -> None:
    content: list[bytes | None] = [encode(p) for p in random_pixels(9)]
    content[0], content[4] = b"damaged", None
    write(tmp_path / "x.parquet", content, pa.array([0, 1, 2, 0, None, -1, 0, 1, 2]))
    images = load_images(parquet(tmp_path / "x.parquet", select=Selection(indices=(8, 1, 3))))
    assert images.labels.tolist() == [2, 1, 0]


def test_other_columns_are_taken_by_name(tmp_path: Path) -> None:
    pixels = random_pixels(2)
    content = [encode(p) for p in pixels]
    table = pa.table({"img": content, "image": content[::-1], "fine": [3, 4], "label": [0, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(
        DataError, match=r"has both img and image; set data\.image_column to one of its columns: img, "
    ):
        load_images(parquet(tmp_path / "x.parquet"))
    images = load_images(parquet(tmp_path / "x.parquet", image_column="image", label_column="fine"))
    np.testing.assert_array_equal(images.images, pixels[::-1].transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [3, 4] and images.class_names is None


def test_missing_columns_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "x.parquet", [encode(random_pixels(1)[0])], [0], column="picture")
    with pytest.raises(
        DataError, match=r"no column img or image; set data\.image_column .* id, picture, label"
    ):
        load_images(parquet(tmp_path / "x.parquet"))
    with pytest.raises(
        DataError, match=r"no column y; set data\.label_column to one of its columns: id, picture, label"
    ):
        load_images(parquet(tmp_path / "x.parquet", image_column="picture", label_column="y"))
    with pytest.raises(
        DataError, match=r"the column id of .* is int64; an image column is bytes or struct<bytes, path>"
    ):
        load_images(parquet(tmp_path / "x.parquet", image_column="id"))
    with pytest.raises(DataError, match=r"the column picture of .* is struct.*; labels must be integers"):
        load_images(parquet(tmp_path / "x.parquet", image_column="picture", label_column="picture"))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (pa.array([0, 1, 2, 0, None, 1]), r"image 4 \(row 4 of .*x\.parquet\) has no label"),
        (
            pa.array([0, 1, 2, -1, -1, -1]),
            "image 3 of the parquet file .* has the label -1; .* without labels",
        ),
        (
            pa.array([0, 1, 2, 3, 0, 0]),
            "image 3 of the parquet file .* has the label 3; allowed are 0 to 2, the 3 classes",
        ),
        (pa.array([0, 1, 2, 2**63, 0, 0], pa.uint64()), "has a label that is not an int64"),
        (pa.array([0.0] * 6), "is double; labels must be integers"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, labels: pa.Array, complaint: str) -> None:
    write(tmp_path / "x.parquet", [encode(p) for p in random_pixels(6)], labels)
    with pytest.raises(DataError, match=complaint):
        load_images(parquet(tmp_path / "x.parquet"))


def test_bad_images_are_named_by_index_row_and_file(tmp_path: Path) -> None:
    good = [encode(p) for p in random_pixels(4)]
    write(tmp_path / "a.parquet", list(good), [0] * 4)
    write(tmp_path / "b.parquet", [*good[:2], good[2][:40], good[3]], [0] * 4)
    where = rf"image 6 \(row 2 of {tmp_path / 'b.parquet'}\)"
    with pytest.raises(DataError, match=f"{where} cannot be read as an image"):
        load_images(parquet(tmp_path))
    write(tmp_path / "b.parquet", [*good[:2], None, good[3]], [0] * 4)
    with pytest.raises(DataError, match=f"{where} has no bytes; the image must lie in the file itself"):
        load_images(parquet(tmp_path))
    write(tmp_path / "b.parquet", [*good[:2], encode(random_pixels(1, shape=(5, 4))[0]), good[3]], [0] * 4)
    with pytest.raises(DataError, match=rf"image 0 .* is RGB, but {where} is grey; set data\.convert"):
        load_images(parquet(tmp_path))
    write(tmp_path / "b.parquet", [*good[:2], encode(random_pixels(1, shape=(4, 5, 3))[0]), good[3]], [0] * 4)
    with pytest.raises(
        DataError, match=rf"image 0 .* is 4x5 .* but {where} is 5x4; set data\.resize .* data\.crop"
    ):
        load_images(parquet(tmp_path))
    assert load_images(parquet(tmp_path, resize=4, crop=4)).images.shape == (8, 3, 4, 4)


def test_a_split_is_chosen_from_a_folder_of_several(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("test", 2)):
        for number in range(2):
            content = [encode(p) for p in random_pixels(2, seed=seed * 10 + number)]
            write(tmp_path / f"{split}-{number:05d}-of-00002.parquet", content, [0, 1])
    with pytest.raises(DataError, match=r"holds several splits: test, train; set data\.split to one of them"):
        load_images(parquet(tmp_path))
    train = load_images(parquet(tmp_path, split="train"))
    expected = np.concatenate([random_pixels(2, seed=10), random_pixels(2, seed=11)])
    np.testing.assert_array_equal(train.images, expected.transpose(0, 3, 1, 2))
    assert train.source == f"the train split of the parquet files in {tmp_path}"
    with pytest.raises(DataError, match=r"data\.split is val, but .* has test, train"):
        load_images(parquet(tmp_path, split="val"))
    with pytest.raises(DataError, match=r"data\.split is train, but .*test-00000-of-00002.parquet has test"):
        load_images(parquet(tmp_path / "test-00000-of-00002.parquet", split="train"))
    one = load_images(parquet(tmp_path / "test-00001-of-00002.parquet"))
    np.testing.assert_array_equal(one.images, random_pixels(2, seed=21).transpose(0, 3, 1, 2))


def test_unsharded_splits_are_told_apart_too(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", [encode(random_pixels(1)[0])], [0])
    with pytest.raises(DataError, match="holds several splits: test, train"):
        load_images(parquet(tmp_path))
    assert len(load_images(parquet(tmp_path, split="test"))) == 1


def test_a_missing_or_foreign_shard_is_named(tmp_path: Path) -> None:
    content = [encode(random_pixels(1)[0])]
    for number in (0, 2):
        write(tmp_path / f"test-{number:05d}-of-00003.parquet", content, [0])
    with pytest.raises(
        DataError, match=r"the shard test-00001-of-00003\.parquet is missing; the numbers of the images"
    ):
        load_images(parquet(tmp_path))
    write(tmp_path / "test-00001-of-00003.parquet", content, [0])
    assert len(load_images(parquet(tmp_path))) == 3
    write(tmp_path / "test-00001-of-00003-0123abcd.parquet", content, [0])
    with pytest.raises(DataError, match=r"test-00001-of-00003\.parquet is there more than once"):
        load_images(parquet(tmp_path))
    write(tmp_path / "test-00001-of-00003-0123abcd.parquet", content, [0])
    (tmp_path / "test-00001-of-00003-0123abcd.parquet").rename(tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match="mixes shards of 00001 and 00003 files"):
        load_images(parquet(tmp_path))


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (None, None),
        ({"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}}, None),
        ({"info": {}}, None),
        ([], None),
        (METADATA, tuple(NAMES)),
    ],
)
def test_class_names_are_taken_where_they_are(tmp_path: Path, metadata: Any, names: Any) -> None:
    write(tmp_path / "x.parquet", [encode(random_pixels(1)[0])], [2], metadata=metadata)
    assert load_images(parquet(tmp_path / "x.parquet")).class_names == names


def test_class_names_that_cannot_be_read_or_differ_are_refused(tmp_path: Path) -> None:
    content = [encode(random_pixels(1)[0])]
    write(tmp_path / "a.parquet", content, [0], metadata="{not json")
    with pytest.raises(DataError, match=r"metadata of .*a\.parquet is not JSON"):
        load_images(parquet(tmp_path))
    write(tmp_path / "a.parquet", content, [0], metadata={"info": {"features": {"label": {"names": "ab"}}}})
    with pytest.raises(DataError, match="names the classes by 'ab', not a list"):
        load_images(parquet(tmp_path))
    write(tmp_path / "a.parquet", content, [0])
    write(
        tmp_path / "b.parquet",
        content,
        [0],
        metadata={"info": {"features": {"label": {"names": NAMES[::-1]}}}},
    )
    with pytest.raises(DataError, match=r"a\.parquet and .*b\.parquet name different classes"):
        load_images(parquet(tmp_path))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    write(file, [encode(p) for p in random_pixels(6)], [0] * 6)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{file} is damaged or not a parquet file"):
        load_images(parquet(file))
    column = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(1)
    damaged = bytearray(content)
    damaged[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{file} is damaged: .*CRC"):
        load_images(parquet(file))
    # The first row group is whole, and the second is not looked at.
    assert len(load_images(parquet(file, select=Selection(count=3)))) == 3


def test_an_empty_folder_an_empty_file_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"data\.path: there is no \*\.parquet file in {tmp_path}"):
        load_images(parquet(tmp_path))
    with pytest.raises(DataError, match=f"cannot read {tmp_path / 'y.parquet'}: No such file"):
        load_images(parquet(tmp_path / "y.parquet"))
    write(tmp_path / "x.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match="has no images"):
        load_images(parquet(tmp_path))


def test_real_cifar10_images(shared_data: Path) -> None:
    """Against rows read and decoded one at a time, without this package."""
    folder = shared_data / "cifar10-jpeg"
    images = load_images(parquet(folder, split="test", select=Selection(start=3, skip=20)))
    assert len(images) == 250 and images.images.shape == (250, 3, 32, 32)
    assert images.class_names is not None and images.class_names[6] == "frog"
    table = pq.read_table(folder / "test-00000-of-00001.parquet")
    for position in range(0, 250, 10):
        row = table.slice(int(images.indices[position]), 1).to_pylist()[0]
        pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])))
        np.testing.assert_array_equal(images.images[position].transpose(1, 2, 0), pixels)
        assert images.labels[position] == row["label"]


def test_the_whole_real_training_split(shared_data: Path) -> None:
    images = load_images(parquet(shared_data / "cifar10-jpeg", split="train"))
    assert images.images.shape == (50_000, 3, 32, 32)
    assert np.bincount(images.labels).tolist() == [5000] * 10

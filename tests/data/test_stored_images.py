"""Images that stay in their files: the same as those that are loaded, in any order, a few at a time."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raycp.config.data import DigitsData, FolderData, ParquetData, Selection
from raycp.data import load_images
from raycp.data.stored import StoredImages, open_images
from raycp.errors import DataError

ROWS = 23


def encoded(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path: Path, pixels: list[Any], labels: Any, group: int = 4) -> None:
    content = pa.array([encoded(one) for one in pixels])
    pq.write_table(pa.table({"img": content, "label": labels}), path, row_group_size=group)


@pytest.fixture(scope="module", params=["parquet", "folder"])
def data(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ParquetData | FolderData:
    """Two files of 13 and 10 rows in groups of four, or two class folders of the same images."""
    folder = tmp_path_factory.mktemp("stored")
    pixels = list(np.random.default_rng(0).integers(0, 256, (ROWS, 5, 4, 3), dtype=np.uint8))
    if request.param == "parquet":
        for name, part in (("a", slice(0, 13)), ("b", slice(13, ROWS))):
            write_parquet(folder / f"{name}.parquet", pixels[part], [k % 3 for k in range(ROWS)][part])
        return ParquetData(name="parquet", path=str(folder))
    for number, one in enumerate(pixels):
        (folder / f"class{number % 2}").mkdir(exist_ok=True)
        (folder / f"class{number % 2}" / f"{number:02d}é.png").write_bytes(encoded(one))
    return FolderData(name="folder", path=str(folder))


def everything(stored: StoredImages, rows: list[int], chunk: int) -> Any:
    parts = list(stored.decoded(np.array(rows), chunk))
    assert all(len(part) == chunk for part in parts[:-1]) and len(parts[-1]) <= chunk
    return np.concatenate(parts)


@pytest.mark.parametrize(
    "select", [Selection(), Selection(start=1, skip=3), Selection(indices=(20, 3, 17, 4, 5))]
)
def test_images_and_labels_are_those_that_are_loaded(data: Any, select: Selection) -> None:
    data = data.model_copy(update={"select": select})
    loaded, stored = load_images(data), open_images(data)
    order = np.argsort(loaded.indices)
    assert stored.indices.tolist() == loaded.indices[order].tolist()
    assert stored.labels.tolist() == loaded.labels[order].tolist()
    assert (stored.class_names, stored.source) == (loaded.class_names, loaded.source)
    assert stored.shape == loaded.images.shape[1:]
    assert len(stored) == len(loaded) == stored.group_rows.sum()
    rows = np.random.default_rng(1).permutation(len(stored))
    again = pickle.loads(pickle.dumps(stored))  # as a worker gets it
    for chunk in (2, 100):
        found = everything(again, rows.tolist(), chunk)
        np.testing.assert_array_equal(found, loaded.images[order][rows])


def test_groups_are_row_groups_or_single_files(data: Any) -> None:
    groups = {"parquet": [4, 4, 4, 1, 4, 4, 2], "folder": [1] * ROWS}[data.name]
    assert open_images(data).group_rows.tolist() == groups
    some = data.model_copy(update={"select": Selection(indices=(22, 4, 6, 0))})
    expected = {"parquet": [1, 2, 1], "folder": [1] * 4}[data.name]
    assert open_images(some).group_rows.tolist() == expected


def test_the_hash_is_of_content_and_not_of_places(data: Any, tmp_path: Path) -> None:
    first = open_images(data).sha256
    copy = data.model_copy(update={"path": str(tmp_path / "copy")})
    shutil.copytree(data.path, copy.path)
    assert open_images(copy).sha256 == first
    fewer = data.model_copy(update={"select": Selection(count=22)})
    assert open_images(fewer).sha256 != first
    file = sorted(Path(copy.path).rglob("*.p*[gt]"))[-1]
    content = bytearray(file.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1  # within the pixels of an image
    file.write_bytes(content)
    assert open_images(copy).sha256 != first


def test_an_image_unlike_the_first_is_named_with_the_way_out(tmp_path: Path) -> None:
    pixels = [np.zeros((5, 4, 3), np.uint8)] * 9
    pixels[7] = np.zeros((6, 4, 3), np.uint8)
    write_parquet(tmp_path / "x.parquet", pixels, [0] * 9)
    data = ParquetData(name="parquet", path=str(tmp_path))
    with pytest.raises(DataError) as loaded:
        load_images(data)
    stored = open_images(data)
    for rows in ([7], [1, 7], [8, 7, 2]):
        with pytest.raises(DataError) as streamed:
            list(stored.decoded(np.array(rows), 2))
        assert str(streamed.value) == str(loaded.value)
    assert everything(stored, [8, 1], 2).shape == (2, 3, 5, 4)
    grey = [np.zeros((5, 4), np.uint8), *pixels[:1]]
    write_parquet(tmp_path / "x.parquet", grey, [0] * 2)
    with pytest.raises(DataError, match=r"image 0 .* is grey, but image 1 .* is RGB; set data.convert"):
        list(open_images(data).decoded(np.array([1]), 2))


@pytest.mark.parametrize(
    "labels",
    [pa.array([0, None]), pa.array([0.0, np.nan]), pa.array([0, -1])],
    ids=["null", "nan", "negative"],
)
def test_labels_are_checked_as_when_loading(tmp_path: Path, labels: Any) -> None:
    write_parquet(tmp_path / "x.parquet", [np.zeros((2, 2), np.uint8)] * 2, labels)
    data = ParquetData(name="parquet", path=str(tmp_path))
    with pytest.raises(DataError, match="label") as loaded:
        load_images(data)
    with pytest.raises(DataError) as opened:
        open_images(data)
    assert str(opened.value) == str(loaded.value)


def test_a_set_that_is_only_read_whole_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.name is digits, which is only read whole; parquet and folder"):
        open_images(DigitsData(name="digits"))

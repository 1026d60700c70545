"""NumPy archives: layouts, the 1/255 grid, values that are refused, and nothing that is unpickled."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.config.data import NpzData, Selection
from raycp.data import load_images, npz_member
from raycp.errors import DataError, RaycpError, UnsafeFileError

RNG = np.random.default_rng(2)
# Seven images of 6x5 pixels and 3 channels, as [M,H,W,C]; no two axes are alike.
HWC = RNG.integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
CHW = np.stack([np.stack([image[:, :, channel] for channel in range(3)]) for image in HWC])
LABELS = np.array([4, 0, 1, 2, 9, 1, 0])


def write(
    tmp_path: Path, images: Any = HWC, labels: Any = LABELS, compress: bool = False, **more: Any
) -> Path:
    path = tmp_path / "x.npz"
    (np.savez_compressed if compress else np.savez)(path, images=images, labels=labels, **more)
    return path


def npz(path: Path, **keys: Any) -> NpzData:
    return NpzData(name="npz", path=str(path), **keys)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "stored",
    [HWC, CHW, np.asfortranarray(HWC), np.asfortranarray(CHW)],
    ids=["HWC", "CHW", "HWC Fortran", "CHW Fortran"],
)
@pytest.mark.parametrize(
    "select", [Selection(), Selection(indices=(6, 0, 3)), Selection(start=1, skip=2, count=2)]
)
def test_every_layout_gives_the_same_images(
    tmp_path: Path, stored: Any, compress: bool, select: Selection
) -> None:
    images = load_images(npz(write(tmp_path, stored, compress=compress), select=select))
    assert images.images.dtype == np.uint8 and images.images.flags.c_contiguous
    np.testing.assert_array_equal(images.images, CHW[images.indices])
    np.testing.assert_array_equal(images.labels, LABELS[images.indices])
    expected = (
        list(select.indices)
        if select.indices
        else list(range(7))[select.start :: select.skip][: select.count]
    )
    assert images.indices.tolist() == expected
    assert images.class_names is None and images.source == f"the arrays in {tmp_path / 'x.npz'}"


def test_source_is_named_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that runs of two checkouts are of one data set, and a report shows no more of a machine than it must."""
    (tmp_path / "data").mkdir()
    config = npz(write(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert load_images(config).source == "the arrays in data/x.npz"
    monkeypatch.chdir(tmp_path / "data")
    assert load_images(npz(Path("x.npz"))).source == "the arrays in x.npz"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_images(config).source == f"the arrays in {tmp_path / 'data' / 'x.npz'}"


def test_three_axes_are_one_channel(tmp_path: Path) -> None:
    images = load_images(npz(write(tmp_path, HWC[..., 0])))
    assert images.images.shape == (7, 1, 6, 5)
    np.testing.assert_array_equal(images.images[:, 0], HWC[..., 0])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_one_three_or_four_entries_make_the_channel_axis(tmp_path: Path, channels: int) -> None:
    stored = RNG.integers(0, 256, (7, 6, 5, channels), dtype=np.uint8)
    expected = np.moveaxis(stored, 3, 1)
    for layout in (stored, expected):
        np.testing.assert_array_equal(load_images(npz(write(tmp_path, layout))).images, expected)


def test_an_ambiguous_layout_is_asked_for(tmp_path: Path) -> None:
    stored = RNG.integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
    with pytest.raises(
        DataError, match=r"\[7, 3, 5, 4\], in which either of axes 1 and 3 could be .* set data\.layout"
    ):
        load_images(npz(write(tmp_path, stored)))
    np.testing.assert_array_equal(load_images(npz(write(tmp_path, stored), layout="CHW")).images, stored)
    hwc = load_images(npz(write(tmp_path, stored), layout="HWC")).images
    assert hwc.shape == (7, 4, 3, 5) and hwc[6, 3, 2, 1] == stored[6, 2, 1, 3]
    with pytest.raises(DataError, match=r"neither of axes 1 and 3 could be"):
        load_images(npz(write(tmp_path, stored[:, :2, :, :2])))
    with pytest.raises(DataError, match=r"has the shape \[7, 15\]; images must be \[M,H,W\]"):
        load_images(npz(write(tmp_path, stored[:, :, :, 0].reshape(7, 15))))


@pytest.mark.parametrize(
    "as_float",
    [
        lambda x: x.astype(np.float32) / np.float32(255),
        lambda x: x / 255,
        lambda x: (x.astype(np.float32) / np.float32(255)).astype(np.float64),
        lambda x: (x / 255).astype(">f4"),
    ],
    ids=["float32", "float64", "float32 in float64", "big-endian"],
)
def test_floats_on_the_grid_become_uint8(tmp_path: Path, as_float: Any) -> None:
    assert load_images(npz(write(tmp_path, as_float(HWC)))).sha256 == load_images(npz(write(tmp_path))).sha256


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_value_off_the_grid_keeps_floats(tmp_path: Path, dtype: Any) -> None:
    values = (HWC / 255).astype(dtype)
    values[4, 2, 3, 1] = 0.25
    images = load_images(npz(write(tmp_path, values)))
    assert images.images.dtype == np.float32
    np.testing.assert_array_equal(images.images, values.astype(np.float32).transpose(0, 3, 1, 2))
    # Without that image all the others are levels.
    assert load_images(npz(tmp_path / "x.npz", select=Selection(count=4))).images.dtype == np.uint8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-9, 1.0000001, 2.0, 255.0])
def test_values_outside_are_named_with_their_image(tmp_path: Path, value: float) -> None:
    values = (HWC / 255).astype(np.float32)
    values[2, 5, 4, 2] = values[6, 0, 0, 0] = value
    with pytest.raises(DataError) as caught:
        load_images(npz(write(tmp_path, values), select=Selection(skip=2)))
    assert str(caught.value) == (
        f"image 2 of the arrays in {tmp_path / 'x.npz'} has the value {np.float32(value)}; float images must be in "
        f"[0,1] (divide by 255, or save uint8)."
    )
    load_images(npz(tmp_path / "x.npz", select=Selection(indices=(5,))))


@pytest.mark.parametrize(
    "dtype", [np.int64, np.int8, np.bool_, np.float16, np.complex64, "S3", "datetime64[s]"]
)
def test_other_types_are_refused(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(
        DataError, match=r"the array images of .* is .*; images must be uint8, or float32 or float64"
    ):
        load_images(npz(write(tmp_path, np.zeros((7, 6, 5), np.int64).astype(dtype))))


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "u1", ">u2", "i1"])
def test_labels_of_any_integer_type(tmp_path: Path, dtype: str) -> None:
    images = load_images(npz(write(tmp_path, labels=LABELS.astype(dtype))))
    assert images.labels.dtype == np.int64 and images.labels.dtype.isnative
    assert images.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (LABELS.astype(float), "the array labels of .* is float64; labels must be integers"),
        (LABELS[:6], r"has the shape \[6\], but there are 7 images; labels must be \[7\]"),
        (LABELS[:, None], r"has the shape \[7, 1\], but there are 7 images"),
        (np.array([0, 1, 2, -1, 0, 0, 0]), "image 3 of the arrays in .* has the label -1"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, labels: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load_images(npz(write(tmp_path, labels=labels)))


def test_other_keys_and_missing_ones(tmp_path: Path) -> None:
    path = write(tmp_path, x=HWC[::-1], y=LABELS[::-1])
    images = load_images(npz(path, images_key="x", labels_key="y"))
    np.testing.assert_array_equal(images.images, CHW[::-1])
    np.testing.assert_array_equal(images.labels, LABELS[::-1])
    with pytest.raises(DataError) as caught:
        load_images(npz(path, images_key="pictures"))
    assert str(caught.value) == (
        f"data.images_key is pictures, but {path} has no such array; it has: images, labels, x, y."
    )
    with pytest.raises(DataError, match=r"data\.labels_key is z, but"):
        load_images(npz(path, labels_key="z"))


@pytest.mark.parametrize("key", ["images", "labels"])
def test_object_arrays_are_refused_and_run_nothing(tmp_path: Path, key: str) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'it-ran'}",)

    array = np.empty((7, 6, 5), object) if key == "images" else np.empty(7, object)
    array[:] = Payload()
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, **{"images": HWC, "labels": LABELS, key: array})
    with pytest.raises(UnsafeFileError, match=rf"the array {key} of {path} holds Python objects \(object\)"):
        load_images(npz(path))
    assert not (tmp_path / "it-ran").exists()
    with np.load(path, allow_pickle=True) as archive:
        archive[key]
    assert (tmp_path / "it-ran").exists(), "the payload was a dud"


def test_objects_hidden_in_a_structure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFileError, match="holds Python objects"):
        load_images(npz(write(tmp_path, labels=np.zeros(7, [("a", "i8"), ("b", "O")]), allow_pickle=True)))


def member(shape: str, dtype: str, content: bytes) -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (member("(7, 6, 5)", "|u1", bytes(209)), r"\[7, 6, 5\] of uint8 needs 338 bytes, but 337 are there"),
        (member("(7, 6, 5)", "|u1", bytes(211)), r"needs 338 bytes, but 339 are there"),
        (member("(7, 100000000, 100000000)", "|u1", b""), "is damaged: the array images"),
        (member("(7, -6, -5)", "|u1", bytes(210)), "is damaged or|could be|shape"),
        (member("(7, 0, 5)", "|u1", b""), r"is empty: its shape is \[7, 0, 5\]"),
        (member("()", "|u1", b"\0"), r"is empty: its shape is \[\]"),
        (member("(7, 6, 5)", "|q9", bytes(210)), "is damaged or not an .npz file"),
        (member("__import__('os').getpid()", "|u1", b""), "is damaged or not an .npz file"),
        (b"", "is damaged or not an .npz file"),
        (b"\x93NUMPY\x03\x00", "format version"),
    ],
)
def test_headers_that_lie_are_damage(tmp_path: Path, images: bytes, complaint: str) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", member("(7,)", "|u1", bytes(7)))
    with pytest.raises(DataError, match=complaint):
        load_images(npz(path))


@pytest.mark.parametrize("compress", [False, True])
def test_a_flipped_bit_in_an_image_that_is_not_selected_is_found(tmp_path: Path, compress: bool) -> None:
    path = write(tmp_path, compress=compress)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("images.npy")
    content[info.header_offset + info.compress_size - 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} is damaged or not an .npz file"):
        load_images(npz(path, select=Selection(count=1)))


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.save(path.open("wb"), HWC)
    with pytest.raises(DataError, match=f"{path} is damaged or not an .npz file: File is not a zip file"):
        load_images(npz(path))
    with pytest.raises(DataError, match=f"cannot read {tmp_path / 'y.npz'}: No such file"):
        load_images(npz(tmp_path / "y.npz"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", member("(7, 6, 5)", "|u1", bytes(210)))
    with pytest.raises(DataError, match=r"compressed in a way that np\.savez does not use"):
        load_images(npz(path))


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(7)), length=st.integers(1, 7), chunk=st.integers(1, 600))
def test_rows_do_not_depend_on_the_chunks_they_are_read_in(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], length: int, chunk: int
) -> None:
    path = write(tmp_path_factory.getbasetemp(), HWC / 254)
    chosen = np.array(order[:length])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz_member, "_CHUNK_BYTES", chunk)
        rows = npz_member.read_member(path, "images", "data.images_key").rows(chosen)
    np.testing.assert_array_equal(rows, (HWC / 254)[chosen])


@settings(max_examples=200, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0),
)
def test_a_damaged_archive_is_read_rightly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int | None
) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, images=HWC, labels=LABELS)
    content = bytearray(stream.getvalue())
    for place, change in flips:
        content[place % len(content)] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[: len(content) if cut is None else cut % len(content)])
    try:
        images = load_images(npz(path))
    except RaycpError as err:
        assert str(path) in str(err)
    else:
        np.testing.assert_array_equal(images.images, CHW)
        np.testing.assert_array_equal(images.labels, LABELS)

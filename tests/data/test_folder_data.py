"""Class folders: the same indices, labels and pixels as torchvision's ImageFolder, and what refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from raycp.config import parse_config
from raycp.config.data import FolderData, Selection
from raycp.data import decode, load_images
from raycp.errors import ConfigError, DataError


def save(path: Path, height: int = 6, width: int = 5, mode: str = "RGB", seed: int = 0) -> Any:
    """Write random pixels; returns them."""
    shape = {
        "L": (height, width),
        "RGB": (height, width, 3),
        "RGBA": (height, width, 4),
        "CMYK": (height, width, 4),
    }
    pixels = np.random.default_rng(seed).integers(0, 256, shape[mode], dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path)
    return pixels


def folder_data(path: Path, **keys: Any) -> FolderData:
    return FolderData(name="folder", path=str(path), **keys)


def test_classes_and_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["wolf/2.png", "cat/b.png", "cat/a.PNG", "wolf/10.png", "Zebra/x.bmp", "cat/c.ppm"]
    pixels = {name: save(tmp_path / name, seed=seed) for seed, name in enumerate(names)}
    (tmp_path / "README.md").write_text("not an image, not in a class folder")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / ".DS_Store").touch()
    images = load_images(folder_data(tmp_path))
    order = ["Zebra/x.bmp", "cat/a.PNG", "cat/b.png", "cat/c.ppm", "wolf/10.png", "wolf/2.png"]
    assert images.class_names == ("Zebra", "cat", "wolf")
    assert images.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert images.indices.tolist() == list(range(6))
    assert images.images.shape == (6, 3, 6, 5)
    for index, name in enumerate(order):
        for channel in range(3):
            np.testing.assert_array_equal(images.images[index, channel], pixels[name][:, :, channel])


def test_an_empty_class_keeps_its_number(tmp_path: Path) -> None:
    save(tmp_path / "c" / "0.png")
    (tmp_path / "b").mkdir()
    images = load_images(folder_data(tmp_path))
    assert images.class_names == ("b", "c") and images.labels.tolist() == [1]


def test_only_the_selected_files_are_opened(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", seed=number)
    whole = load_images(folder_data(tmp_path))
    for number in (0, 2, 4, 5):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"damaged")
    some = load_images(folder_data(tmp_path, select=Selection(indices=(3, 1))))
    assert some.indices.tolist() == [3, 1]
    np.testing.assert_array_equal(some.images, whole.images[[3, 1]])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(4, 40), st.integers(4, 40)), min_size=1, max_size=3),
    resize=st.none() | st.integers(4, 24),
    crop=st.none() | st.integers(1, 24),
)
def test_pixels_are_those_of_torchvision(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[int, int]],
    resize: int | None,
    crop: int | None,
) -> None:
    shorter = min(min(size) for size in sizes) if resize is None else resize
    if crop is not None and crop > shorter:
        crop = shorter
    if crop is None:
        sizes = sizes[:1]
    folder = tmp_path_factory.mktemp("folder")
    for number, (height, width) in enumerate(sizes):
        save(folder / f"class{number % 2}" / f"{number}.png", height, width, seed=number)
    steps: list[Any] = [Resize(resize)] if resize is not None else []
    steps += [CenterCrop(crop)] if crop is not None else []
    expected = ImageFolder(folder, Compose([*steps, PILToTensor()]))
    images = load_images(folder_data(folder, resize=resize, crop=crop))
    assert images.class_names == tuple(expected.classes)
    for index, (pixels, label) in enumerate(expected):
        np.testing.assert_array_equal(images.images[index], pixels.numpy())
        assert images.labels[index] == label


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_conversion_to_rgb_is_that_of_image_folder(tmp_path: Path, mode: str) -> None:
    save(tmp_path / "a" / ("0.jpg" if mode == "CMYK" else "0.png"), mode=mode)
    save(tmp_path / "a" / "1.png")
    expected = ImageFolder(tmp_path, PILToTensor())
    images = load_images(folder_data(tmp_path, convert="rgb"))
    for index, (pixels, _) in enumerate(expected):
        np.testing.assert_array_equal(images.images[index], pixels.numpy())


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a" / "0.png", mode="L")
    images = load_images(folder_data(tmp_path))
    assert images.images.shape == (1, 1, 6, 5)
    np.testing.assert_array_equal(images.images[0, 0], pixels)
    save(tmp_path / "a" / "1.png")
    assert load_images(folder_data(tmp_path, convert="grey")).images.shape == (2, 1, 6, 5)


def test_a_mix_of_grey_and_rgb_names_both_and_the_key(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", mode="L")
    save(tmp_path / "b" / "1.png")
    with pytest.raises(DataError) as caught:
        load_images(folder_data(tmp_path))
    assert str(caught.value) == (
        f"image 0 ({tmp_path / 'a' / '0.png'}) is grey, but image 1 ({tmp_path / 'b' / '1.png'}) is RGB; set "
        f"data.convert to rgb or grey to make all images alike."
    )


def test_images_of_two_sizes_name_both_and_the_keys(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", 6, 5)
    save(tmp_path / "a" / "1.png", 5, 6)
    with pytest.raises(DataError) as caught:
        load_images(folder_data(tmp_path))
    assert str(caught.value) == (
        f"image 0 ({tmp_path / 'a' / '0.png'}) is 5x6 (width x height), but image 1 ({tmp_path / 'a' / '1.png'}) is "
        f"6x5; set data.resize (shorter side) and data.crop (square from the centre) to bring all images to one size."
    )


def test_alpha_palette_and_deep_images_are_refused_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "a" / "0.png"
    save(file, mode="RGBA")
    with pytest.raises(
        DataError, match=r"0\.png\) has the Pillow mode RGBA.*set data\.convert to rgb or grey"
    ):
        load_images(folder_data(tmp_path))
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(file)
    for convert in (None, "rgb", "grey"):
        with pytest.raises(DataError, match=r"has the Pillow mode I;16; images must have 8 bits per channel"):
            load_images(folder_data(tmp_path, convert=convert))


def test_a_crop_larger_than_the_image_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png", 20, 7)
    with pytest.raises(
        DataError, match=r"0\.png\) is 7x20 .* too small for data\.crop = 8; set data\.resize to at least 8"
    ):
        load_images(folder_data(tmp_path, crop=8))
    with pytest.raises(ConfigError, match=r"crop must be at most resize.*crop 9 and resize 8"):
        parse_config(FolderData, {"name": "folder", "path": "x", "resize": 8, "crop": 9})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".ppm"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "a" / f"0{suffix}"
    save(file, 40, 40)
    load_images(folder_data(tmp_path))
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(DataError, match=rf"image 0 \({file}\) cannot be read as an image"):
        load_images(folder_data(tmp_path))


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a" / "0.png", 40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DataError, match=r"0\.png\) cannot be read as an image .*1600 pixels"):
        load_images(folder_data(tmp_path))


def test_postscript_is_not_even_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS files to Ghostscript, a program; a file name ending in .png would not stop it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with Image.open(tmp_path / "a" / "0.png") as recognised:
        assert recognised.format == "EPS"
    with pytest.raises(DataError, match="cannot identify image file"):
        load_images(folder_data(tmp_path))


def test_large_images_are_decoded_by_threads_to_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = [save(tmp_path / "a" / f"{number:02d}.png", seed=number) for number in range(20)]
    serial = load_images(folder_data(tmp_path))
    monkeypatch.setattr(decode, "_PIXELS_WORTH_A_THREAD", 1)
    monkeypatch.setattr(decode, "_CHUNK", 7)
    threaded = load_images(folder_data(tmp_path))
    assert threaded.sha256 == serial.sha256
    np.testing.assert_array_equal(threaded.images, np.stack(pixels).transpose(0, 3, 1, 2))
    for number in (11, 15):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"image 11 \("):
        load_images(folder_data(tmp_path))


def test_anything_else_in_a_class_folder_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png")
    stray = tmp_path / "a" / "boxes.txt"
    stray.touch()
    with pytest.raises(
        DataError, match=f"{stray} is not an image file; a class folder holds only image files"
    ):
        load_images(folder_data(tmp_path))
    stray.unlink()
    (tmp_path / "a" / "images").mkdir()
    with pytest.raises(DataError, match=f"{tmp_path / 'a' / 'images'} is a folder inside a class folder"):
        load_images(folder_data(tmp_path))


def test_a_path_at_the_wrong_level_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "0.png")
    with pytest.raises(
        DataError, match=r"cat should hold one folder per class, but holds the image 0\.png itself"
    ):
        load_images(folder_data(tmp_path / "cat"))
    with pytest.raises(
        DataError, match=r"cannot list .*0\.png: Not a directory; it should hold class folders"
    ):
        load_images(folder_data(tmp_path / "cat" / "0.png"))
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="hold no image files"):
        load_images(folder_data(tmp_path / "empty"))
    with pytest.raises(DataError, match="should hold one folder per class, but holds no folder"):
        load_images(folder_data(tmp_path / "empty" / "a"))

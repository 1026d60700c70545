"""Encoded images (PNG, JPEG, ...) -> one uint8 array, by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raycp.config.data import EncodedData
from raycp.errors import DataError

# A closed list: some of Pillow's other readers start programs (EPS runs Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")

# 8 bits per channel; a conversion from 16 bits or floats would clip without a word.
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MODES = {"rgb": "RGB", "grey": "L"}

# What damaged files make Pillow raise.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# Below this many pixels the threads wait for Python's lock longer than they decode (measured: 64x64 about even).
_PIXELS_WORTH_A_THREAD = 96 * 96
# Images that wait decoded at a time; bounds memory.
_CHUNK = 256


@dataclass(frozen=True)
class EncodedImage:
    """One image as it is stored.

    Attributes:
        position: its row in the result.
        name: what messages call it.
        content: the encoded bytes, or the file that holds them.
    """

    position: int
    name: str
    content: bytes | Path


@dataclass(frozen=True)
class Model:
    """The image that all others must be like.

    Attributes:
        name: what messages call it.
        shape: (C, H, W) once decoded.
    """

    name: str
    shape: tuple[int, ...]


def decode_images(
    encoded: Iterable[EncodedImage],
    num_images: int,
    config: EncodedData,
    model: Model | None = None,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Decode, convert, resize and crop; the same for every number of threads.

    Resizing and cropping are those of torchvision on Pillow images (`Resize(size)`, `CenterCrop`): the longer
    side is truncated to int(resize * long / short), the cut starts at round((side - crop) / 2). An orientation
    in EXIF data is not applied, as in torchvision's `ImageFolder`.

    Args:
        encoded: `num_images` images, at least one, with positions 0..num_images-1 in any order.
        num_images: M.
        config: the keys `convert`, `resize` and `crop`.
        model: of the set that these are a part of; None: the first of them.
        threads: at most this many; None: as many as the machine suggests.

    Returns:
        uint8 [M,C,H,W], C = 1 (grey) or 3 (RGB).

    Raises:
        DataError: an image is damaged or has a mode that needs `data.convert`, or two images differ in mode
            or size; names the images and the keys that fix it.
    """
    waiting = iter(encoded)
    first = next(waiting)
    stored_pixels, first_pixels = _decode(first, config)
    model = model or Model(first.name, first_pixels.shape)
    if first_pixels.shape != model.shape:
        raise _difference(model, first.name, first_pixels.shape)
    images = np.empty((num_images, *model.shape), np.uint8)
    images[first.position] = first_pixels
    with ThreadPoolExecutor(threads) as pool:
        decode_all = pool.map if stored_pixels >= _PIXELS_WORTH_A_THREAD else map
        while chunk := list(islice(waiting, _CHUNK)):
            for image, (_, pixels) in zip(chunk, decode_all(partial(_decode, config=config), chunk)):
                if pixels.shape != model.shape:
                    raise _difference(model, image.name, pixels.shape)
                images[image.position] = pixels
    return images


def _decode(encoded: EncodedImage, config: EncodedData) -> tuple[int, NDArray[np.uint8]]:
    """Number of pixels as stored, and uint8 [C,H,W]."""
    content = io.BytesIO(encoded.content) if isinstance(encoded.content, bytes) else encoded.content
    try:
        with Image.open(content, formats=FORMATS) as stored:
            stored_pixels = stored.width * stored.height
            _check_mode(stored, encoded.name, config)
            stored.load()
            image: Image.Image = stored
            if config.convert is not None:
                image = image.convert(_MODES[config.convert])
            if config.resize is not None:
                image = _resized(image, config.resize)
            if config.crop is not None:
                image = _cropped(image, config.crop, encoded.name)
            pixels = np.asarray(image)
    except _DAMAGE as err:
        raise DataError(f"{encoded.name} cannot be read as an image ({', '.join(FORMATS)}): {err}.") from err
    return stored_pixels, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _check_mode(image: Image.Image, name: str, config: EncodedData) -> None:
    if image.mode not in _CONVERTIBLE:
        raise DataError(f"{name} has the Pillow mode {image.mode}; images must have 8 bits per channel.")
    if config.convert is None and image.mode not in _MODES.values():
        raise DataError(
            f"{name} has the Pillow mode {image.mode}, neither grey (L) nor RGB; set data.convert to rgb or grey."
        )


def _resized(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if width <= height:
        shape = size, int(size * height / width)
    else:
        shape = int(size * width / height), size
    return image.resize(shape, Image.Resampling.BILINEAR)


def _cropped(image: Image.Image, size: int, name: str) -> Image.Image:
    width, height = image.size
    if min(width, height) < size:
        raise DataError(
            f"{name} is {width}x{height} (width x height), too small for data.crop = {size}; set data.resize to "
            f"at least {size}."
        )
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _difference(model: Model, name: str, shape: tuple[int, ...]) -> DataError:
    if model.shape[0] != shape[0]:
        mode = {1: "grey", 3: "RGB"}
        return DataError(
            f"{model.name} is {mode[model.shape[0]]}, but {name} is {mode[shape[0]]}; set data.convert to rgb or "
            f"grey to make all images alike."
        )
    (_, height_0, width_0), (_, height_1, width_1) = model.shape, shape
    return DataError(
        f"{model.name} is {width_0}x{height_0} (width x height), but {name} is {width_1}x{height_1}; set "
        f"data.resize (shorter side) and data.crop (square from the centre) to bring all images to one size."
    )

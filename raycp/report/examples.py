"""Example samples of a run: clean, noisy and purified image with the base classifier's verdict, as triplets."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from raycp.errors import StorageError
from raycp.report.results import RunLike

COLUMNS = ("clean", "noisy", "purified")

# Noise does not compress: these two keep a page with images of 224 pixels at a few MB.
_MAX_BYTES = 2_800_000
_MAX_SIDE = 256

_NEEDED = ("sigma", "image_index", "label", "predicted", *COLUMNS)


@dataclass(frozen=True, eq=False)
class Triplet:
    """One noisy sample of one image, before and after purification."""

    sigma: float
    image_index: int
    label: str
    """Name of the true class, its number where classes have no names."""
    predicted: str
    """Class that the base classifier gives the purified sample."""
    right: bool
    images: tuple[npt.NDArray[np.uint8], ...]
    """Clean, noisy and purified image, each [H,W] or [H,W,3]; noisy and purified clipped to [0,255] for display."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The triplets to show, and in words what is not shown."""

    triplets: tuple[Triplet, ...]
    note: str

    def by_sigma(self) -> dict[float, list[Triplet]]:
        """The triplets of each noise level, in increasing order of sigma."""
        sigmas = sorted({triplet.sigma for triplet in self.triplets})
        return {sigma: [t for t in self.triplets if t.sigma == sigma] for sigma in sigmas}


def read_examples(run: RunLike, class_names: Sequence[str] | None, max_side: int = _MAX_SIDE) -> Examples:
    """The example samples of a run; without any, the note says why.

    Images wider or higher than `max_side` pixels are subsampled, and of large images only the first few of each sigma
    are taken, so that a report stays small.

    Raises:
        StorageError: an array is missing or does not fit the others.
    """
    arrays = run.examples
    if arrays is None:
        return Examples((), "This run has no examples.npz: no sample images were kept.")
    _check(run.path, arrays)
    channels = arrays["clean"].shape[1]
    if channels not in (1, 3):
        return Examples((), f"The images have {channels} channels; only 1 or 3 can be shown.")
    stride = -(-max(arrays["clean"].shape[2:]) // max_side)
    triplets = [_triplet(arrays, row, class_names, stride) for row in range(len(arrays["sigma"]))]
    shown = _within_budget(triplets)
    notes = []
    if len(shown) < len(triplets):
        notes.append(f"{len(shown)} of {len(triplets)} kept samples are shown, to keep the report small.")
    if stride > 1:
        notes.append(f"They are shown at 1/{stride} of their width and height, leaving pixels out.")
    return Examples(tuple(shown), " ".join(notes) if triplets else "examples.npz holds no samples.")


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """One image [H,W] or [H,W,3] as a PNG, pixel for pixel."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _check(path: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise StorageError(f"{path}: examples.npz lacks the arrays {', '.join(missing)}.")
    rows = len(arrays["sigma"])
    for name in _NEEDED:
        if len(arrays[name]) != rows:
            raise StorageError(f"{path}: examples.npz has {rows} sigma but {len(arrays[name])} {name}.")
    for name in COLUMNS:
        array = arrays[name]
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape != arrays["clean"].shape:
            raise StorageError(
                f"{path}: {name} in examples.npz must be uint8 [E,C,H,W] like clean, got {array.dtype} {array.shape}."
            )


def _triplet(
    arrays: Mapping[str, npt.NDArray[Any]], row: int, class_names: Sequence[str] | None, stride: int
) -> Triplet:
    label, predicted = int(arrays["label"][row]), int(arrays["predicted"][row])
    return Triplet(
        sigma=float(arrays["sigma"][row]),
        image_index=int(arrays["image_index"][row]),
        label=_class_name(label, class_names),
        predicted=_class_name(predicted, class_names),
        right=label == predicted,
        images=tuple(_pixels(arrays[name][row], stride) for name in COLUMNS),
    )


def _class_name(label: int, class_names: Sequence[str] | None) -> str:
    return class_names[label] if class_names and 0 <= label < len(class_names) else str(label)


def _pixels(image_CHW: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """[C,H,W] to what Pillow draws. Subsampled, not averaged: averaging would hide the noise."""
    image_HWC = np.moveaxis(image_CHW, 0, -1)[::stride, ::stride]
    return np.ascontiguousarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)


def _within_budget(triplets: Sequence[Triplet]) -> list[Triplet]:
    """The first few of each sigma, as many as fit the budget, at least one."""
    if not triplets:
        return []
    sigmas = {triplet.sigma for triplet in triplets}
    size = sum(image.nbytes for image in triplets[0].images)
    per_sigma = max(1, _MAX_BYTES // (size * len(sigmas)))
    return [
        triplet
        for sigma in sorted(sigmas)
        for triplet in [t for t in triplets if t.sigma == sigma][:per_sigma]
    ]

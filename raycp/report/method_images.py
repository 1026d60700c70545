"""The images of a comparison over all its methods: a row for each image and sigma, and the samples that were kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.report.conditions import NOT_RECORDED, conditions
from raycp.report.examples import Triplet, read_examples
from raycp.report.image_rows import image_rows
from raycp.report.results import RunLike, read_sigmas

MARKS = {"right": "r", "wrong": "w", "abstained": "a", "skipped": "s", "undecided": "u"}
"""Outcome -> its letter in `method_image_data`; a dot where the method does not have the image."""
_ROWS_PER_SIGMA = 16
_MAX_SIDE = 128
_MAX_BYTES = 4_500_000
"""Of all pixels that the page shows."""


@dataclass(frozen=True)
class SameImages:
    """The methods whose images can be told to be the same by their index, and why others are not among them."""

    runs: tuple[RunLike, ...]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def same_images(runs: Sequence[RunLike]) -> SameImages:
    """Choose the methods of the data set that most have, and the imported logs that have the same labels."""
    setups = {run.name: conditions(run) for run in runs}
    said = Counter(setup.data for setup in setups.values() if not setup.imported)
    data = said.most_common(1)[0][0] if said else NOT_RECORDED
    chosen: list[str] = []
    known: dict[int, int] = {}
    notes = []
    for run in sorted(runs, key=lambda run: bool(setups[run.name].imported)):
        setup, own = setups[run.name], _labels(run)
        if own is None:
            notes.append(f"{run.name} does not say which images its lines are of.")
        elif not setup.imported and setup.data != data:
            notes.append(f"{run.name} is of other data: {setup.data}.")
        elif any(known.get(image, label) != label for image, label in own.items()):
            notes.append(f"{run.name} is of other data: its labels differ.")
        else:
            known |= own
            chosen.append(run.name)
    names = [setups[name].class_names for name in chosen]
    return SameImages(
        runs=tuple(run for run in runs if run.name in chosen),
        class_names=next((found for found in names if found), None),
        notes=tuple(notes),
    )


def _labels(run: RunLike) -> dict[int, int] | None:
    """Label by image; None where it is not known which images these are, or at which sigma."""
    sigmas = read_sigmas(run)
    if any(not results.indexed or math.isnan(results.sigma) for results in sigmas):
        return None
    return {
        int(image): int(label)
        for results in sigmas
        for image, label in zip(results.image_index_M, results.label_M, strict=True)
    }


def method_image_data(same: SameImages, radii: Sequence[float]) -> dict[str, Any]:
    """What the page's script knows of the images: columns rather than rows, so that it stays small.

    Returns:
        `methods`, `classes` and `radii` by name or value; `sigmas`, for each of which `images` [M] and `labels` [M]
        (numbers of `classes`) and, per method, None or a dict of columns [M]: `outcome` (one letter of `MARKS` each),
        `certified` (a number of `classes`, -1 for none), `radius` (thousandths, rounded down), `level` (how many of
        `radii` the certificate of a right image reaches), and `votes`, `of`, `samples` (None where nothing is known).
    """
    classes: dict[str, int] = {}
    by_sigma: dict[float, dict[int, int]] = {}
    found: dict[tuple[float, str], dict[int, tuple[Any, ...]]] = {}
    for run in same.runs:
        exact_radius = {
            (results.sigma, int(image)): float(radius)
            for results in read_sigmas(run)
            for image, radius in zip(results.image_index_M, results.radius_M, strict=True)
        }
        for row in image_rows(run.name, run, same.class_names):
            sigma, image = row["sigma"], row["image"]
            by_sigma.setdefault(sigma, {})[image] = classes.setdefault(row["label"], len(classes))
            right = row["outcome"] == "right"
            found.setdefault((sigma, run.name), {})[image] = (
                MARKS[row["outcome"]],
                classes.setdefault(row["certified"], len(classes)) if row["certified"] else -1,
                int(row["radius"].replace(".", "")) if row["radius"] else 0,
                sum(eps <= exact_radius[sigma, image] for eps in radii) if right else 0,
                row["votes"],
                row["of"],
                row["samples"],
            )
    names = [run.name for run in same.runs]
    sigmas = []
    for sigma in sorted(by_sigma):
        images = sorted(by_sigma[sigma])
        columns = [_columns(found.get((sigma, name)), images) for name in names]
        labels = [by_sigma[sigma][image] for image in images]
        sigmas.append({"sigma": sigma, "images": images, "labels": labels, "methods": columns})
    return {"methods": names, "classes": list(classes), "radii": list(radii), "sigmas": sigmas}


def _columns(cells: Mapping[int, tuple[Any, ...]] | None, images: Sequence[int]) -> dict[str, Any] | None:
    if cells is None:
        return None
    absent = (".", -1, 0, 0, 0, 0, 0)
    outcome, *others = zip(*(cells.get(image, absent) for image in images), strict=True)
    names = ("certified", "radius", "level", "votes", "of", "samples")
    columns = {
        name: None if None in column else list(column) for name, column in zip(names, others, strict=True)
    }
    return {"outcome": "".join(outcome), **columns}


@dataclass(frozen=True, eq=False)
class SampleRow:
    """One image at one sigma: what each method made of the same noisy image."""

    sigma: float
    image_index: int
    label: str
    clean: npt.NDArray[np.uint8]
    noisy: npt.NDArray[np.uint8]
    samples: tuple[Triplet | None, ...]
    """Per method; None where it kept no sample of this image."""

    def other_noise(self, sample: Triplet) -> bool:
        """Whether a method saw another noisy image than the one that is shown."""
        return not np.array_equal(sample.images[1], self.noisy)

    @property
    def kept(self) -> int:
        """Methods that have a sample."""
        return sum(sample is not None for sample in self.samples)


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """The samples to show: those of images that most methods kept, then the others; and in words what is left out."""

    rows: tuple[SampleRow, ...]
    notes: tuple[str, ...]

    def by_sigma(self, common: bool) -> dict[float, list[SampleRow]]:
        """The rows of images that at least half as many methods kept as any other; or the rest of them."""
        most = max((row.kept for row in self.rows), default=0)
        chosen = [row for row in self.rows if (2 * row.kept >= most) == common]
        sigmas = sorted({row.sigma for row in chosen})
        return {sigma: [row for row in chosen if row.sigma == sigma] for sigma in sigmas}

    @staticmethod
    def columns(rows: Sequence[SampleRow]) -> list[int]:
        """The methods, by number, that kept a sample of one of these images."""
        kept = [row.samples for row in rows]
        return [number for number, of_method in enumerate(zip(*kept, strict=True)) if any(of_method)]


def sample_grid(same: SameImages) -> SampleGrid:
    """Set the kept samples of all methods side by side, as many as fit the page.

    Raises:
        StorageError: the samples of a method are damaged.
    """
    notes: list[str] = []
    kept: dict[tuple[float, int], dict[str, Triplet]] = {}
    for run in same.runs:
        examples = read_examples(run, same.class_names, _MAX_SIDE)
        if examples.note:
            notes.append(f"{run.name}: {examples.note}")
        for triplet in examples.triplets:
            kept.setdefault((triplet.sigma, triplet.image_index), {})[run.name] = triplet
    rows = [_sample_row(place, of_run, same.runs) for place, of_run in kept.items()]
    rows.sort(key=lambda row: (-row.kept, row.image_index, row.sigma))
    shown = _within_budget(rows)
    if len(shown) < len(rows):
        notes.append(f"{len(shown)} of {len(rows)} rows of samples are shown, to keep the page small.")
    return SampleGrid(tuple(sorted(shown, key=lambda row: (row.sigma, row.image_index))), tuple(notes))


def _sample_row(
    place: tuple[float, int], of_run: Mapping[str, Triplet], runs: Sequence[RunLike]
) -> SampleRow:
    first = next(iter(of_run.values()))
    clean, noisy, _ = first.images
    return SampleRow(*place, first.label, clean, noisy, tuple(of_run.get(run.name) for run in runs))


def _within_budget(rows: Sequence[SampleRow]) -> list[SampleRow]:
    """As many as fit, at least the first of each sigma."""
    shown: list[SampleRow] = []
    number: Counter[float] = Counter()
    size = 0
    for row in rows:
        bytes_of_row = row.clean.nbytes * (2 + row.kept)
        if number[row.sigma] and (size + bytes_of_row > _MAX_BYTES or number[row.sigma] >= _ROWS_PER_SIGMA):
            continue
        shown.append(row)
        number[row.sigma] += 1
        size += bytes_of_row
    return shown

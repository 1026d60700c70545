"""Runs of different images in one table: what a reader must be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raycp.report.conditions import NOT_RECORDED, conditions
from raycp.report.results import RunLike, labels_of
from raycp.report.summary import indices_in_words

DIFFERENT_IMAGES = "rows are of different images: {}. Their figures are no match for each other."
"""To be filled with the images of each row, or group of rows."""

_MOST_CHARACTERS = 60

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of one run, as far as it recorded them."""

    run: str
    indexed: bool
    image_index_M: Ints
    labelled_L: Ints
    """Index of the L images that have a certificate, increasing."""
    label_L: Ints
    sha256: str | None
    """Of indices, pixels and labels; None where there are no pixels, or they were not recorded."""
    source: str | None
    """The data set, in words; None where it was not recorded."""
    imported: bool


def mixed_images(runs: Sequence[RunLike]) -> list[str]:
    """Notes for a table of runs that are not all of the same images of one data set; none if they are.

    Two runs are of the same if they recorded one SHA-256 of their images. Where one of them did not, as an imported
    log, they have to have the same indices, no other label at any of them, and, of two runs of raycp, one data set.
    """
    groups: list[list[_Images]] = []
    for images in (_images(label, run) for label, run in zip(labels_of(runs), runs, strict=True)):
        group = next((group for group in groups if all(_same(images, other) for other in group)), None)
        if group is None:
            groups.append([images])
        else:
            group.append(images)
    if len(groups) < 2:
        return []
    sources = {images.source for group in groups for images in group if images.source}
    parts = [_group_in_words(group, with_source=len(sources) > 1) for group in groups]
    firsts = [group[0] for group in groups]
    pairs = ((one, other) for at, one in enumerate(firsts) for other in firsts[at + 1 :])
    return [
        DIFFERENT_IMAGES.format("; ".join(parts)),
        *(text for one, other in pairs if (text := _contradiction(one, other))),
    ]


def images_in_words(index_M: npt.ArrayLike) -> str:
    """How many images, and which, as far as that is short: `500 images [0, 20, …, 9980 (every 20th)]`."""
    index_M = np.unique(np.asarray(index_M, dtype=np.int64))
    which = indices_in_words(index_M)
    if len(which) > _MOST_CHARACTERS:
        which = f"{index_M[0]} to {index_M[-1]}, not evenly spaced"
    return f"{len(index_M):,} image{'s' * (len(index_M) != 1)} [{which}]"


def _images(label: str, run: RunLike) -> _Images:
    setup, table = conditions(run), run.certificates
    labelled_L, first = np.unique(table["image_index"].to_numpy(), return_index=True)
    label_L = table["label"].to_numpy()[first]
    index = (
        labelled_L if setup.image_index is None else np.unique(np.array(setup.image_index, dtype=np.int64))
    )
    return _Images(
        run=label,
        indexed=bool(run.config.get("indexed", True)),
        image_index_M=index,
        labelled_L=labelled_L,
        label_L=label_L,
        sha256=(run.config.get("data") or {}).get("sha256"),
        source=None if setup.data == NOT_RECORDED else setup.data,
        imported=bool(setup.imported),
    )


def _same(one: _Images, other: _Images) -> bool:
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    if not (one.indexed and other.indexed) or not np.array_equal(one.image_index_M, other.image_index_M):
        return False
    in_words = one.imported or other.imported or not (one.source and other.source)
    return (in_words or one.source == other.source) and not _contradiction(one, other)


def _contradiction(one: _Images, other: _Images) -> str:
    """That two runs give one image different classes, in a sentence; empty if they do not."""
    if not (one.indexed and other.indexed):
        return ""
    common, at_one, at_other = np.intersect1d(one.labelled_L, other.labelled_L, return_indices=True)
    differ = common[one.label_L[at_one] != other.label_L[at_other]]
    if not len(differ):
        return ""
    return (
        f"{one.run} and {other.run} are of different data sets, or of one in another order: their labels differ at "
        f"{len(differ):,} of {len(common):,} images, for example image {differ[0]}."
    )


def _group_in_words(group: Sequence[_Images], with_source: bool) -> str:
    first = group[0]
    names = ", ".join(images.run for images in group)
    which = (
        images_in_words(first.image_index_M)
        if first.indexed
        else f"{len(first.image_index_M):,} images, not said which"
    )
    source = f" of {first.source}" if with_source and first.source else ""
    return f"{names}: {which}{source}"

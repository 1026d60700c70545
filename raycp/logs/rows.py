"""Published logs as rows of a comparison: of the images of its methods, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raycp.config import resolved
from raycp.config.claims import Claim
from raycp.config.suite import LogFiles, Suite
from raycp.data import load_images
from raycp.errors import ConfigError, DataError
from raycp.logs.imported import Claims, imported_run
from raycp.logs.lines import Ints
from raycp.logs.published_log import PublishedLog, read_log
from raycp.report.mixed_images import images_in_words
from raycp.runs import RunResults


@dataclass(frozen=True, eq=False)
class MethodImages:
    """The images of the methods of a suite that share a data set.

    Attributes:
        source: the data set, in words.
        image_index_M: of all of these methods together, increasing.
        label_M: their classes.
        of_method: the images of each, by its name.
    """

    source: str
    image_index_M: Ints
    label_M: Ints
    of_method: Mapping[str, Ints]


def read_rows(suite: Suite, logs: Mapping[str, LogFiles]) -> list[RunResults]:
    """Read published logs and hold them against the images that the methods of a suite are of.

    Of a log that has all images of the methods these are taken, and no others. One that lacks some, or does not say
    its images, is refused unless the suite says `mixed_images`; one whose labels contradict those of the data is
    refused always.

    Args:
        suite: its methods, their data and the claims.
        logs: those of its logs that are to be read.

    Raises:
        ConfigError: a log of other images, or a claim about one that cannot be paired image by image.
        DataError: a log that cannot be read, is of other data, or whose radii exceed what is claimed; or the data of
            the methods cannot be read.
    """
    if not logs:
        return []
    sets = method_images(suite)
    rows = []
    for name, entry in logs.items():
        sigmas = sorted(entry.files)
        read = [
            read_log(Path(entry.files[sigma]).expanduser(), entry.columns, entry.skip_damaged)
            for sigma in sigmas
        ]
        fitting = _of_the_methods(name, read, sets, suite.mixed_images)
        claims = Claims(entry.num_selection, entry.num_estimation, entry.alpha, entry.data)
        rows.append(imported_run(fitting, sigmas, claims, name, f"logs.{name}", suite.radii))
    for number, claim in enumerate(suite.claims):
        _check_claim(f"claims.{number}", claim, {row.name: row for row in rows}, sets)
    return rows


def method_images(suite: Suite) -> list[MethodImages]:
    """Read the data of the methods, each data set and selection once; in the order of the file.

    Raises:
        DataError: see `load_images`.
    """
    read = {}
    for config in suite.methods.values():
        key = json.dumps(resolved(config.data))
        if key not in read:
            images = load_images(config.data)
            read[key] = (images.source, images.indices, images.labels)
    sets: dict[str, dict[str, tuple[str, Ints, Ints]]] = {}
    for name, config in suite.methods.items():
        whole = {key: value for key, value in resolved(config.data).items() if key != "select"}
        found = read[json.dumps(resolved(config.data))]
        sets.setdefault(json.dumps(whole), {})[name] = found
    return [_together(methods) for methods in sets.values()]


def _together(methods: Mapping[str, tuple[str, Ints, Ints]]) -> MethodImages:
    parts = list(methods.values())
    index_M, first = np.unique(np.concatenate([index for _, index, _ in parts]), return_index=True)
    label_M = np.concatenate([label for _, _, label in parts])[first]
    return MethodImages(
        parts[0][0], index_M, label_M, {name: index for name, (_, index, _) in methods.items()}
    )


def _of_the_methods(
    name: str, logs: Sequence[PublishedLog], sets: Sequence[MethodImages], mixed: bool
) -> list[PublishedLog]:
    possible = [images for images in sets if not any(_contradiction(log, images) for log in logs)]
    if not possible:
        said = next(text for log in logs if (text := _contradiction(log, sets[0])))
        raise DataError(
            f"logs.{name}: {said}. The log is of another data set, or of its images in another order: it cannot stand "
            "in one table with them, not even with mixed_images: true."
        )
    for images in possible:
        if all(log.indexed and np.isin(images.image_index_M, log.image_index_M).all() for log in logs):
            return [log.only(images.image_index_M) for log in logs]
    if not mixed:
        raise ConfigError(_of_other_images(name, logs, possible[0]))
    return list(logs)


def _contradiction(log: PublishedLog, images: MethodImages) -> str:
    """In how many labels a log and the data differ, in words; empty if in none, or if the log has no idx."""
    if not log.indexed:
        return ""
    common, at_log, at_data = np.intersect1d(log.image_index_M, images.image_index_M, return_indices=True)
    theirs, ours = log.label_M[at_log], images.label_M[at_data]
    differ = np.flatnonzero(theirs != ours)
    if not len(differ):
        return ""
    first = differ[0]
    return (
        f"the labels in {log.path} contradict those of {images.source} at {len(differ):,} of {len(common):,} images, "
        f"for example image {common[first]}, class {theirs[first]} in the log and {ours[first]} in the data"
    )


def _of_other_images(name: str, logs: Sequence[PublishedLog], images: MethodImages) -> str:
    """Both sides, and the key that allows it."""
    ours = f"the methods are of {images_in_words(images.image_index_M)} of {images.source}"
    allowed = "mixed_images: true in the suite allows it, and says so below the table."
    for log in logs:
        if not log.indexed:
            return (
                f"logs.{name}: {log.path} has no idx, so that it is not known which {len(log):,} images it is of; "
                f"{ours}. {allowed}"
            )
    log = next(log for log in logs if not np.isin(images.image_index_M, log.image_index_M).all())
    lacking = int((~np.isin(images.image_index_M, log.image_index_M)).sum())
    return (
        f"logs.{name}: {log.path} is of {images_in_words(log.image_index_M)}; {ours}. The log lacks {lacking:,} of "
        f"them, and the rows of a table are of the same images. Take images that the log has "
        f"(data.select), or: {allowed}"
    )


def _check_claim(
    where: str, claim: Claim, rows: Mapping[str, RunResults], sets: Sequence[MethodImages]
) -> None:
    """A claim about a log that is there is checked image by image, or refused."""
    pair = (claim.better, claim.worse)
    if not any(name in rows for name in pair):
        return
    for name in pair:
        row = rows.get(name)
        if row is not None and not row.config["indexed"]:
            raise ConfigError(
                f"{where}: the log of {name} has no idx: which image a line is of is not known, so that nothing can be "
                "compared with it image by image. Leave the claim out."
            )
        if row is not None and not row.complete:
            raise ConfigError(
                f"{where}: the logs of {name} are not of the same images at each sigma, so that nothing can be "
                "compared with them image by image. Leave the claim out, or the log that lacks images."
            )
    index_of = {name: np.array(row.config["data"]["image_index"]) for name, row in rows.items()}
    index_of |= {name: index for images in sets for name, index in images.of_method.items()}
    if not all(name in index_of for name in pair):  # a log whose files are not here
        return
    one, other = (index_of[name] for name in pair)
    common = len(np.intersect1d(one, other))
    if common < min(len(one), len(other)):
        raise ConfigError(
            f"{where}: {pair[0]} is of {images_in_words(one)}, {pair[1]} of {images_in_words(other)}, {common:,} in "
            "both: a claim wants the same images, or a part of the other's. Leave the claim out."
        )

"""What a report reads of a run: its certificates as arrays, one group per sigma, checked on the way in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raycp.errors import ConfigError, StorageError
from raycp.report.numerals import exact
from raycp.statistics import ABSTAIN

SKIPPED = "skipped_wrong"
"""The `stop_reason` of an image whose selected class is not its label and that was not estimated."""
UNDECIDED = "undecided"
"""The `stop_reason` of an image whose sampling was stopped from outside."""

_NEEDED = (
    "sigma",
    "image_index",
    "label",
    "predicted",
    "radius",
    "correct",
    "stop_reason",
    "samples",
    "seconds",
)


class RunLike(Protocol):
    """A run directory that has been read; `raycp.runs.RunResults` is one."""

    @property
    def name(self) -> str:
        """Name of the run."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of RUN/config.json."""

    @property
    def certificates(self) -> pa.Table:
        """One row per decided (sigma, image)."""

    @property
    def examples(self) -> Mapping[str, npt.NDArray[Any]] | None:
        """The arrays of RUN/examples.npz."""

    @property
    def complete(self) -> bool:
        """Whether every image is decided at every sigma."""

    @property
    def num_images(self) -> int:
        """Images of the run, decided or not."""


@dataclass(frozen=True, eq=False)
class SigmaResults:
    """The certificates of one run at one noise level; M images with a row, in the order of their index."""

    sigma: float
    """Noise standard deviation, pixel units; NaN where an imported log does not say."""
    num_images: int
    """Images that the run is to decide at this sigma."""
    image_index_M: npt.NDArray[np.int64]
    label_M: npt.NDArray[np.int64]
    radius_M: npt.NDArray[np.float64]
    """Pixel units; 0 where abstained or skipped. Of an imported log as printed: it may be rounded up."""
    correct_M: npt.NDArray[np.bool_]
    abstained_M: npt.NDArray[np.bool_]
    undecided_M: npt.NDArray[np.bool_]
    """Sampling was stopped from outside: what the row certifies holds, there may be more."""
    skipped_M: npt.NDArray[np.bool_]
    """Not estimated because the selected class was wrong: neither certified nor abstained."""
    samples: int | None
    """Samples drawn; None where the run did not record them."""
    seconds: float | None
    """Device seconds; None where the run did not record them."""
    numerics: Mapping[str, int]
    """Numerics class -> number of certificates computed under it."""
    half_unit_M: npt.NDArray[np.float64] | None = None
    """What rounding may have changed the radius by, either way, when an imported log was printed; None: nothing."""
    indexed: bool = True
    """Whether `image_index_M` says which images these are; an imported log without idx counts its lines."""

    @property
    def decided(self) -> int:
        """Number of images that are decided."""
        return int((~self.undecided_M).sum())

    @property
    def known(self) -> bool:
        """Whether there is anything to say: an image that is decided or certified so far."""
        return bool((~self.undecided_M | ~self.abstained_M).any())


def read_sigmas(run: RunLike) -> tuple[SigmaResults, ...]:
    """The certificates of a run, one entry per sigma in increasing order.

    A sigma that the configuration names but no image is decided at yet has an entry with M = 0.

    Raises:
        StorageError: it is a run of `raycp predict`, a column is missing, an image is decided twice, there are more
            rows than images, a radius is negative or not finite, or `correct` is not what label and predicted say.
    """
    if run.config.get("kind") == "predict":
        raise StorageError(
            f"{run.path} is a run of `raycp predict`: it has no radii. Take a run of `raycp certify`."
        )
    table = run.certificates
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise StorageError(f"{run.path}: the certificates lack the columns {', '.join(missing)}.")
    configured = (run.config.get("config") or {}).get("certify", {}).get("sigmas", ())
    sigmas = {float(s) for s in configured} | set(pc.unique(table["sigma"]).to_pylist())
    found = [
        _read_sigma(run, table.filter(pc.equal(table["sigma"], sigma)), sigma)
        for sigma in sorted(sigma for sigma in sigmas if not math.isnan(sigma))
    ]
    unknown = table.filter(pc.is_nan(table["sigma"]))
    return (*found, _read_sigma(run, unknown, math.nan)) if len(unknown) else tuple(found)


def _read_sigma(run: RunLike, table: pa.Table, sigma: float) -> SigmaResults:
    where = f"{run.path}, sigma {exact(sigma)}"
    table = table.sort_by("image_index")
    image_index = table["image_index"].to_numpy()
    label, predicted = table["label"].to_numpy(), table["predicted"].to_numpy()
    radius, correct = table["radius"].to_numpy(), table["correct"].to_numpy()
    repeated = image_index[1:][image_index[1:] == image_index[:-1]]
    if repeated.size:
        raise StorageError(f"{where}: image {repeated[0]} has more than one certificate.")
    if len(image_index) > run.num_images:
        raise StorageError(f"{where}: {len(image_index)} certificates for {run.num_images} images.")
    if not np.all(np.isfinite(radius) & (radius >= 0)):
        bad = image_index[~(np.isfinite(radius) & (radius >= 0))][0]
        raise StorageError(f"{where}: the radius of image {bad} is negative or not finite.")
    disagree = image_index[correct != ((predicted == label) & (predicted != ABSTAIN))]
    if disagree.size:
        raise StorageError(
            f"{where}: `correct` of image {disagree[0]} is not what its label and predicted class say "
            f"({disagree.size} such rows); the table was not written by raycp or is damaged."
        )
    stop_reason = table["stop_reason"].to_numpy(zero_copy_only=False)
    skipped = stop_reason == SKIPPED
    return SigmaResults(
        sigma=sigma,
        num_images=run.num_images,
        image_index_M=image_index,
        label_M=label.astype(np.int64),
        radius_M=radius.astype(np.float64),
        correct_M=correct.astype(np.bool_),
        abstained_M=(predicted == ABSTAIN) & ~skipped,
        undecided_M=stop_reason == UNDECIDED,
        skipped_M=skipped,
        samples=pc.sum(table["samples"]).as_py(),
        seconds=pc.sum(table["seconds"]).as_py(),
        numerics=_numerics(table),
        half_unit_M=table["half_unit"].to_numpy() if "half_unit" in table.column_names else None,
        indexed=bool(run.config.get("indexed", True)),
    )


def _numerics(table: pa.Table) -> dict[str, int]:
    if "numerics" not in table.column_names:
        return {}
    counts = pc.value_counts(table["numerics"]).to_pylist()
    return {str(entry["values"]): int(entry["counts"]) for entry in counts if entry["values"] is not None}


def require_something(runs: Sequence[RunLike]) -> None:
    """Refuse runs of which nothing can be said: a table of them would hold dashes alone.

    Raises:
        StorageError: no image of any of them is decided.
    """
    if not any(results.known for run in runs for results in read_sigmas(run)):
        paths = ", ".join(run.path for run in runs)
        raise StorageError(
            f"{paths}: no image is decided yet, so there is nothing to show. `raycp status` says how far a run is; "
            "give its `raycp certify` command again to go on."
        )


def labels_of(runs: Sequence[RunLike]) -> tuple[str, ...]:
    """What to call each run in a table of several: its name where names differ, else its path.

    Raises:
        ConfigError: a run is given twice.
    """
    paths, names = [run.path for run in runs], [run.name for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise ConfigError(f"{path} is given twice; give each run once.")
    return tuple(name if names.count(name) == 1 else path for path, name in zip(paths, names, strict=True))

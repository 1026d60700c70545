"""The images that rules are replayed on: what their p_A is taken to be, and whether the selected class is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from raycp.errors import ConfigError, DataError
from raycp.logs.published_log import PublishedLog
from raycp.report.numerals import exact
from raycp.report.results import SKIPPED, read_sigmas
from raycp.runs import RunResults
from raycp.statistics import ABSTAIN, certified_radius, clopper_pearson_lower, largest_certifiable_radius

Floats = npt.NDArray[np.float64]

_PRINTED = 1.005
"""Radii are printed to 3 significant digits: by at most this factor too large."""


@dataclass(frozen=True, eq=False)
class ReplayedImages:
    """M images at one noise level.

    Attributes:
        name: of the log or run they come from.
        sigma: noise level, pixel units.
        image_index_M: index in the data set.
        p_A_M: taken for the probability of the selected class, in [0, 1].
        right_M: the selected class is the label.
        wrong_M: the selected class is another one; where neither holds it is not known.
        notes: what was assumed, one sentence each.
    """

    name: str
    sigma: float
    image_index_M: npt.NDArray[np.int64]
    p_A_M: Floats
    right_M: npt.NDArray[np.bool_]
    wrong_M: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.p_A_M)

    def spread(self, most: int) -> ReplayedImages:
        """At most so many of them, evenly spread over their order."""
        if most >= len(self):
            return self
        chosen = np.arange(most) * len(self) // most
        arrays = {
            name: getattr(self, name)[chosen] for name in ("image_index_M", "p_A_M", "right_M", "wrong_M")
        }
        return replace(self, **arrays, notes=(*self.notes, f"replayed on {most:,} of {len(self):,} images."))


@dataclass(frozen=True)
class LogConditions:
    """What a log does not say of itself.

    Attributes:
        num_estimation: N of the run that wrote it.
        alpha: its failure probability per certificate.
        abstained_p: p_A of the images it abstained on, whose radius says nothing.
    """

    num_estimation: int = 100_000
    alpha: float = 0.001
    abstained_p: float = 0.45


def images_of_log(log: PublishedLog, sigma: float, written_with: LogConditions) -> ReplayedImages:
    """The images of a published log: p_A is n_A / N, with n_A inverted from the radius.

    Raises:
        DataError: a radius that this sigma, N and alpha cannot certify.
    """
    n, alpha = written_with.num_estimation, written_with.alpha
    abstained_M = log.predicted_M == ABSTAIN
    reach = largest_certifiable_radius(sigma, n, alpha)
    radii = np.where(abstained_M, 0.0, log.radius_M)
    if len(log.radius_M) and radii.max() > reach * _PRINTED:
        worst = int(radii.argmax())
        most = f"at most {reach:.3g}" if reach >= 0 else "nothing"
        raise DataError(
            f"{log.path}: image {log.image_index_M[worst]} has radius {exact(radii[worst])}, but at sigma "
            f"{exact(sigma)} with N = {n:,} and alpha = {exact(alpha)} {most} can be certified. Give the sigma, N and "
            "alpha of the log (--sigma, --log-num-estimation, --log-alpha)."
        )
    distinct, place_M = np.unique(radii, return_inverse=True)
    votes = np.array([votes_behind(radius, sigma, n, alpha) for radius in distinct.tolist()])
    notes = [
        f"p_A is reconstructed: n_A / N, with n_A inverted from the printed radius by Clopper-Pearson at N = {n:,}, "
        f"alpha = {exact(alpha)}; an image without a single miss counts as p_A = 1."
    ]
    if abstained_M.any():
        notes.append(
            f"the {int(abstained_M.sum()):,} abstained images are assumed to have p_A = "
            f"{exact(written_with.abstained_p)}: the log does not tell, and the figures depend on it (--abstained-p). "
            "Their selected class is not known either: they never count as correct, nor as wrong for skip_wrong."
        )
    return ReplayedImages(
        name=log.path.name,
        sigma=sigma,
        image_index_M=log.image_index_M,
        p_A_M=np.where(abstained_M, written_with.abstained_p, votes[place_M] / n),
        right_M=(log.predicted_M == log.label_M) & ~abstained_M,
        wrong_M=(log.predicted_M != log.label_M) & ~abstained_M,
        notes=tuple(notes),
    )


def votes_behind(radius: float, sigma: float, n: int, alpha: float) -> int:
    """The n_A of n votes whose certified radius comes nearest to a printed one (pixel units)."""
    low, high = 0, n
    radius_of: Callable[[int], float] = lambda k: certified_radius(sigma, clopper_pearson_lower(k, n, alpha))  # noqa: E731
    while low < high:  # the least k that certifies the radius, n if none does
        middle = (low + high) // 2
        if radius_of(middle) >= radius:
            high = middle
        else:
            low = middle + 1
    if low > 0 and radius - radius_of(low - 1) < radius_of(low) - radius:
        return low - 1
    return low


def images_of_run(run: RunResults, sigma: float, skip_wrong: bool) -> ReplayedImages:
    """The images of a run at one of its noise levels: p_A is n_A / n of their certificates.

    Args:
        run: of `raycp certify`.
        sigma: one of its noise levels, pixel units.
        skip_wrong: whether the replays leave out images whose selected class is wrong.

    Raises:
        ConfigError: the run has another set of sigmas, or left out images that the replays need.
        StorageError: a run of `raycp predict`, or a damaged one.
        DataError: no image was estimated at this sigma.
    """
    known = [results.sigma for results in read_sigmas(run)]
    if sigma not in known:
        raise ConfigError(
            f"sigma {exact(sigma)} is not in {run.path}; it has {', '.join(map(exact, known))}."
        )
    table = run.certificates.filter(pc.equal(run.certificates["sigma"], sigma)).sort_by("image_index")
    index, label, selected, n_A, n = (
        table[name].to_numpy() for name in ("image_index", "label", "selected", "n_A", "n")
    )
    skipped = table["stop_reason"].to_numpy(zero_copy_only=False) == SKIPPED
    if skipped.any() and not skip_wrong:
        raise ConfigError(
            f"{run.path} drew no estimation samples for {int(skipped.sum())} of its images at sigma {exact(sigma)} "
            "(skip_wrong), so their p_A is not known. Replay with certify.skip_wrong=true (--skip-wrong)."
        )
    usable = (n > 0) | skipped
    if not usable.any():
        raise DataError(f"{run.path} has no estimated image at sigma {exact(sigma)} yet.")
    sizes = [f"{size:,}" for size in dict.fromkeys((n[n > 0].min(initial=n.max()), n.max()))]
    notes = [
        "p_A is estimated: n_A / n of each certificate of the run (n = "
        f"{' to '.join(sizes)}); the smaller n, the rougher."
    ]
    if len(np.unique(n[n > 0])) > 1:
        notes.append(
            "the run stopped early by its own votes, so its n_A / n lean outwards, and replays on them look cheap."
        )
    left_out = run.num_images - int(usable.sum())
    if left_out:
        notes.append(f"{left_out:,} of {run.num_images:,} images are left out: nothing is known of them yet.")
    return ReplayedImages(
        name=run.name,
        sigma=sigma,
        image_index_M=index[usable],
        p_A_M=np.where(n > 0, n_A / np.maximum(n, 1), 0.0)[usable],
        right_M=(selected == label)[usable],
        wrong_M=(selected != label)[usable],
        notes=tuple(notes),
    )


def is_run(source: str) -> bool:
    """Whether LOG|RUN names a run directory rather than a log.

    Raises:
        DataError: it names nothing.
    """
    if "://" in source or Path(source).is_dir():
        return True
    if not Path(source).exists():
        raise DataError(f"there is neither a log nor a run directory at {source}.")
    return False

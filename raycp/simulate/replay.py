"""Replays: draw votes from the images' p_A, and let the rules themselves decide.

All rules of one replay see the same samples, so that they differ by what they do and not by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raycp.certify.sequential import SequentialRule
from raycp.config import CertifyProtocol
from raycp.simulate.images import ReplayedImages
from raycp.simulate.rules import replayed_rule
from raycp.statistics import ABSTAIN, certify

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FIXED = "fixed"
_SELECTED = 0
"""The class that votes are for; whether it is the label is known to the images, not to the rules."""


@dataclass(frozen=True, eq=False)
class Replayed:
    """What one rule did in R replays of M images.

    Attributes:
        samples_RM: samples, selection included.
        radius_RM: certified radius, pixel units; `-inf` where nothing is certified.
    """

    samples_RM: Ints
    radius_RM: Floats


def replay(
    images: ReplayedImages,
    protocols: Mapping[str, CertifyProtocol],
    slack: Mapping[float, float],
    replays: int,
    seed: int,
    on_replay: Callable[[], None] = lambda: None,
) -> dict[str, Replayed]:
    """Replay each protocol on the same images and samples.

    Args:
        images: with their p_A and sigma.
        protocols: by name, of any rule; all with the same N, N0 and skip_wrong.
        slack: per sigma of the protocols, total variation distance of the noise from the Gaussian.
        replays: R, at least 1.
        seed: the votes are a function of it, the replay's number, the images and all looks together.
        on_replay: called after each replay.
    """
    deciders = {name: _decider(protocol, images.sigma, slack) for name, protocol in protocols.items()}
    looks = np.array(sorted({look for _, own in deciders.values() for look in own}), dtype=np.int64)
    shape = (replays, len(images))
    result = {name: Replayed(np.zeros(shape, np.int64), np.full(shape, -np.inf)) for name in protocols}
    for r in range(replays):
        votes_MJ = drawn_votes(images.p_A_M, looks, np.random.default_rng([seed, r]))
        for name, (decider, own) in deciders.items():
            protocol, outcome = protocols[name], result[name]
            drawn_M = ~images.wrong_M if protocol.skip_wrong else np.ones(len(images), dtype=np.bool_)
            own_MJ = votes_MJ[:, np.isin(looks, own)]
            outcome.samples_RM[r] = protocol.num_selection
            for m in np.flatnonzero(drawn_M):
                n, outcome.radius_RM[r, m] = decider(own_MJ[m])
                outcome.samples_RM[r, m] += n
        on_replay()
    return result


def drawn_votes(p_A_M: Floats, looks_J: Ints, rng: np.random.Generator) -> Ints:
    """Votes for the selected class after each look: sums of binomial draws, int64 [M, J]."""
    steps_J = np.diff(looks_J, prepend=0)
    votes_MJ: Ints = rng.binomial(steps_J, p_A_M[:, None]).cumsum(axis=1)
    return votes_MJ


_Decider = Callable[[Ints], tuple[int, float]]
"""Votes at the looks [J] -> estimation samples, and radius (`-inf` when abstaining)."""


def _decider(
    protocol: CertifyProtocol, sigma: float, slack: Mapping[float, float]
) -> tuple[_Decider, Sequence[int]]:
    if protocol.rule == FIXED:
        fixed = FixedReplay(protocol, sigma, slack[sigma])
        return fixed, [protocol.num_estimation]
    rule, looks = replayed_rule(protocol, slack)
    return SequentialReplay(rule, sigma), looks


class FixedReplay:
    """CERTIFY on all N samples, remembered by n_A."""

    def __init__(self, protocol: CertifyProtocol, sigma: float, slack: float) -> None:
        self._protocol, self._sigma, self._slack = protocol, sigma, slack
        self._radius: dict[int, float] = {}

    def __call__(self, votes_J: Ints) -> tuple[int, float]:
        """N, and the radius of the votes at the last look."""
        n, n_A = self._protocol.num_estimation, int(votes_J[-1])
        radius = self._radius.get(n_A)
        if radius is None:
            counts = np.array([n_A, n - n_A])
            selection = np.array([1, 0])
            found = certify(
                selection, counts, self._sigma, self._protocol.alpha, self._protocol.bound, self._slack
            )
            radius = self._radius[n_A] = -np.inf if found.predicted == ABSTAIN else found.radius
        return n, radius


class SequentialReplay:
    """A rule's own `stop` and `row`, remembered while the same votes come again (p_A near 0 or 1)."""

    _MOST = 20_000

    def __init__(self, rule: SequentialRule, sigma: float) -> None:
        self._rule, self._sigma = rule, sigma
        self._known: dict[bytes, tuple[int, float]] = {}

    def __call__(self, votes_J: Ints) -> tuple[int, float]:
        """Estimation samples at the look that decides, and the radius certified by it."""
        key = votes_J.tobytes()
        found = self._known.get(key)
        if found is None:
            stopped = self._rule.stop(self._sigma, votes_J)
            assert stopped is not None, "every rule ends at its last look"
            at, reason = stopped
            row = self._rule.row(_SELECTED, self._sigma, _SELECTED, votes_J[: at + 1], reason)
            found = row.n, -np.inf if row.predicted == ABSTAIN else row.radius
            if len(self._known) >= self._MOST:
                self._known.clear()
            self._known[key] = found
        return found

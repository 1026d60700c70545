"""Sampling rules of a composition: a selector and the smoothed classifier counted on the same samples, and a core.

Counts are over 2K outcomes (see `raycp.sampling.composition`). The class of the smoothed classifier is selected from
the sums over choices, the choice of the selector from the sums over classes, both by the selection samples; the
estimation samples bound the probability of each, at alpha/2. What the core says is its one answer of phase CORE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from raycp.certify.rules import (
    COMPLETE,
    SKIPPED,
    UNDECIDED,
    UNKNOWN,
    CertificateRow,
    PredictionRow,
    Row,
    cut_nowhere,
    largest_at_most,
)
from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import (
    ABSTAIN,
    CompositeCertificate,
    certify_composition,
    predict_composition,
    select_class,
)
from raycp.statistics.composition import CERTIFIED, CORE

CHOICES = {CORE: "core", CERTIFIED: "certified", UNKNOWN: "unknown"}
"""The choices of the selector, in words."""
AGREEMENT, NONE = "agreement", "none"
"""What decides beside a choice: that core and smoothed classifier say the same class; nothing."""


@dataclass(frozen=True, slots=True)
class CompositeRow(CertificateRow):
    """What is known of a composition at one image: n_A, p_A_lower and p_B_upper are of the smoothed classifier."""

    case: str = NONE
    """`certified` or `core`, as the selector is certified to choose; `agreement`; `none`."""
    core_class: int = UNKNOWN
    certified_class: int = UNKNOWN
    """The selected class of the smoothed classifier; `selected` is that of the composition."""
    choice: str = CHOICES[UNKNOWN]
    """The selected choice of the selector."""
    n_S: int = 0
    """Estimation samples of that choice."""
    p_S_lower: float = 0.0


@dataclass(frozen=True, slots=True)
class CompositePredictionRow(PredictionRow):
    """The composition's answer; n_A and n_B are of the smoothed classifier."""

    core_class: int = UNKNOWN
    n_certified: int = 0
    """Samples on which the selector chooses the certified classifier."""


@dataclass(frozen=True)
class Selection:
    """What the selection samples and the core say of an image."""

    counts_2K: npt.NDArray[np.int64]
    core_class: int

    @property
    def choice(self) -> int:
        """CORE or CERTIFIED."""
        return select_class(self.counts_2K.sum(1))

    @property
    def certified_class(self) -> int:
        """Of the smoothed classifier."""
        return select_class(self.counts_2K.sum(0))

    @property
    def composed(self) -> int:
        """The class of the composition, unless it abstains: no other one can be certified from here."""
        return self.core_class if self.choice == CORE else self.certified_class


class CompositionRule:
    """CERTIFY of a composition with N0 selection and N estimation samples, and the core's answer, for every image.

    Args:
        protocol: N0, N, alpha, skip_wrong; fixed rule, one-sided bound.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
        radii: of the run's table, pixel units.
    """

    def __init__(
        self, protocol: CertifyProtocol, slack: Mapping[float, float], radii: Sequence[float] = ()
    ) -> None:
        assert (protocol.rule, protocol.bound) == ("fixed", "one_sided")
        self._protocol = protocol
        self._slack = slack
        self._radii = radii
        self.cuts: Mapping[Phase, tuple[int, ...]] = cut_nowhere()

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """Core and selection first where a wrong class ends the image; otherwise all at once."""
        protocol = self._protocol
        first = {Phase.CORE: 1, Phase.SELECTION: protocol.num_selection}
        if protocol.skip_wrong:
            selection = self._selection(tallies)
            if selection is None or selection.composed != label:
                return first
        return first | {Phase.ESTIMATION: protocol.num_estimation}

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CompositeRow | None:
        """The certificate, once all is there (or the selection, where a wrong class ends the image)."""
        protocol = self._protocol
        selection = self._selection(tallies)
        if selection is None:
            return None
        if protocol.skip_wrong and selection.composed != label:
            return self._empty(selection, SKIPPED)
        estimation = tallies[Phase.ESTIMATION]
        if not estimation.covers(protocol.num_estimation):
            return None
        result = certify_composition(
            selection.counts_2K,
            by_choice(estimation),
            selection.core_class,
            sigma,
            protocol.alpha,
            slack=self._slack[sigma],
        )
        abstained = result.predicted == ABSTAIN
        return CompositeRow(
            selected=selection.composed,
            predicted=result.predicted,
            radius=result.radius,
            p_A_lower=result.certified.p_A_lower,
            p_B_upper=result.certified.p_B_upper,
            n_A=result.certified.n_A,
            n=result.certified.n,
            n0=protocol.num_selection,
            correct=result.predicted == label,
            stop_reason=COMPLETE,
            grid_radius=None if abstained else largest_at_most(self._radii, result.radius),
            case=case_of(result),
            core_class=selection.core_class,
            certified_class=result.certified.selected,
            choice=CHOICES[result.selector.selected],
            n_S=result.selector.n_A,
            p_S_lower=result.selector.p_A_lower,
        )

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CompositeRow:
        """Nothing but what is selected: a bound on fewer samples than were planned would have looked at them."""
        return self._empty(self._selection(tallies), UNDECIDED)

    def used(self, row: Row) -> int:
        """N0, the estimation samples if there were any, and one for the core."""
        assert isinstance(row, CompositeRow)
        return row.n0 + row.n + (row.core_class != UNKNOWN)

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """All that is not there yet."""
        return self.largest_demand() - sum(tally.num_samples for tally in tallies.values())

    def least_demand(self) -> int:
        """See `largest_demand`."""
        return self.largest_demand()

    def largest_demand(self) -> int:
        """N0 + N, and one for the core."""
        return self._protocol.num_selection + self._protocol.num_estimation + 1

    def _selection(self, tallies: Mapping[Phase, Tally]) -> Selection | None:
        """None while something is missing."""
        core, selection = tallies[Phase.CORE], tallies[Phase.SELECTION]
        if not core.covers(1) or not selection.covers(self._protocol.num_selection):
            return None
        return Selection(by_choice(selection), core_class_of(core))

    def _empty(self, selection: Selection | None, stop_reason: str) -> CompositeRow:
        """The row of an image without estimation."""
        row = CompositeRow(
            selected=UNKNOWN, predicted=ABSTAIN, radius=0.0, p_A_lower=0.0, p_B_upper=1.0, n_A=0, n=0, n0=0,
            correct=False, stop_reason=stop_reason,
        )  # fmt: skip
        if selection is None:
            return row
        return replace(
            row,
            selected=selection.composed,
            n0=self._protocol.num_selection,
            core_class=selection.core_class,
            certified_class=selection.certified_class,
            choice=CHOICES[selection.choice],
        )


class CompositionPredictRule:
    """PREDICT of a composition with a fixed number of samples."""

    def __init__(self, protocol: PredictProtocol) -> None:
        self._protocol = protocol
        self.cuts: Mapping[Phase, tuple[int, ...]] = cut_nowhere()

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """All samples, and the core's answer."""
        return {Phase.CORE: 1, Phase.PREDICTION: self._protocol.num_samples}

    def decide(
        self, label: int, sigma: float, tallies: Mapping[Phase, Tally]
    ) -> CompositePredictionRow | None:
        """The prediction, once all samples are there."""
        core, tally = tallies[Phase.CORE], tallies[Phase.PREDICTION]
        if not core.covers(1) or not tally.covers(self._protocol.num_samples):
            return None
        counts_2K, core_class = by_choice(tally), core_class_of(core)
        predicted = predict_composition(counts_2K, core_class, self._protocol.alpha)
        n_B, n_A = sorted(counts_2K.sum(0).tolist())[-2:]
        return CompositePredictionRow(
            predicted=predicted,
            n_A=n_A,
            n_B=n_B,
            n=tally.num_samples,
            correct=predicted == label,
            stop_reason=COMPLETE,
            core_class=core_class,
            n_certified=int(counts_2K[CERTIFIED].sum()),
        )

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CompositePredictionRow:
        """Nothing: abstention."""
        return CompositePredictionRow(ABSTAIN, n_A=0, n_B=0, n=0, correct=False, stop_reason=UNDECIDED)

    def used(self, row: Row) -> int:
        """All samples, and one for the core."""
        assert isinstance(row, CompositePredictionRow)
        return row.n + (row.core_class != UNKNOWN)

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """All that is not there yet."""
        return self.largest_demand() - sum(tally.num_samples for tally in tallies.values())

    def least_demand(self) -> int:
        """See `largest_demand`."""
        return self.largest_demand()

    def largest_demand(self) -> int:
        """Samples per image, and one for the core."""
        return self._protocol.num_samples + 1


def by_choice(tally: Tally) -> npt.NDArray[np.int64]:
    """Counts [2, K] of a tally over 2K outcomes."""
    return tally.counts_K.reshape(2, -1)


def core_class_of(tally: Tally) -> int:
    """What the core said."""
    return select_class(by_choice(tally).sum(0))


def case_of(result: CompositeCertificate) -> str:
    """What a certificate with a core of which nothing but its answer is known follows from; see `compose`."""
    if result.predicted == ABSTAIN:
        return NONE
    choice = result.selector.predicted
    return AGREEMENT if choice == ABSTAIN else CHOICES[choice]

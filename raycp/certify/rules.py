"""Sampling rules: which samples an image needs, and what follows from their counts. Pure functions of the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certify, predict, select_class

COMPLETE = "complete"
"""Every sample was drawn that the rule may ask for."""
SKIPPED = "skipped_wrong"
"""The selected class is not the label, and `skip_wrong` asked for no estimation then."""
DECIDED = "decided"
"""Every radius of the table is certified or given up."""
TOLERANCE = "tolerance"
"""Going on would gain no more radius than the tolerance."""
UNDECIDED = "undecided"
"""Stopped from outside. What the row certifies holds; there may be more to certify."""
UNKNOWN = -1
"""The selected class of an image whose selection is not complete."""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """What is known of one image at one noise level when sampling stops."""

    selected: int
    predicted: int
    radius: float
    p_A_lower: float
    p_B_upper: float
    n_A: int
    n: int
    n0: int
    correct: bool
    stop_reason: str
    grid_radius: float | None = None
    """The largest radius of the run's table that is certified; None when abstaining."""


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """The smoothed classifier's answer for one image at one noise level."""

    predicted: int
    n_A: int
    n_B: int
    n: int
    correct: bool
    stop_reason: str


Row = CertificateRow | PredictionRow


class Rule(Protocol):
    """Decides what to draw next from what was drawn, and only from complete prefixes of samples.

    Attributes:
        cuts: per phase, the sample numbers at which counts are looked at; no block reaches across one.
    """

    cuts: Mapping[Phase, tuple[int, ...]]

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """How many samples of each phase are needed as far as is known; grows, never shrinks."""
        ...

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> Row | None:
        """The image's row once its counts decide it, None while samples are missing."""
        ...

    def used(self, row: Row) -> int:
        """Samples, of all phases, that a row was made from."""
        ...

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """Samples that an undecided image still needs, as well as can be said."""
        ...

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> Row:
        """What holds of an image that is left undecided."""
        ...

    def least_demand(self) -> int:
        """Fewest samples after which an image may be decided."""
        ...

    def largest_demand(self) -> int:
        """Most samples that one image can need."""
        ...


def cut_nowhere() -> dict[Phase, tuple[int, ...]]:
    """The cuts of a rule that looks only at whole phases."""
    return dict.fromkeys(Phase, ())


def skipped_row(selected: int, n0: int) -> CertificateRow:
    """An image whose selected class is not its label, under `skip_wrong`."""
    return CertificateRow(
        selected=selected, predicted=ABSTAIN, radius=0.0, p_A_lower=0.0, p_B_upper=1.0, n_A=0, n=0, n0=n0,
        correct=False, stop_reason=SKIPPED,
    )  # fmt: skip


def largest_at_most(radii: Sequence[float], radius: float) -> float | None:
    """The largest of `radii` that is not above `radius`."""
    return max((r for r in radii if r <= radius), default=None)


class FixedRule:
    """CERTIFY with N0 selection and N estimation samples for every image.

    Args:
        protocol: N0, N, alpha, bound, skip_wrong.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
        radii: of the run's table, pixel units.
    """

    def __init__(
        self, protocol: CertifyProtocol, slack: Mapping[float, float], radii: Sequence[float] = ()
    ) -> None:
        self._protocol = protocol
        self._slack = slack
        self._radii = radii
        self.cuts: Mapping[Phase, tuple[int, ...]] = cut_nowhere()

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """Selection first where a wrong class ends the image; otherwise both phases at once."""
        protocol = self._protocol
        selection = {Phase.SELECTION: protocol.num_selection}
        if protocol.skip_wrong:
            tally = tallies[Phase.SELECTION]
            if not tally.covers(protocol.num_selection) or select_class(tally.counts_K) != label:
                return selection
        return selection | {Phase.ESTIMATION: protocol.num_estimation}

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CertificateRow | None:
        """The certificate, once both phases are complete (or the first, where a wrong class ends the image)."""
        protocol = self._protocol
        selection, estimation = tallies[Phase.SELECTION], tallies[Phase.ESTIMATION]
        if not selection.covers(protocol.num_selection):
            return None
        selected = select_class(selection.counts_K)
        if protocol.skip_wrong and selected != label:
            return skipped_row(selected, protocol.num_selection)
        if not estimation.covers(protocol.num_estimation):
            return None
        result = certify(
            selection.counts_K, estimation.counts_K, sigma, protocol.alpha, protocol.bound, self._slack[sigma]
        )
        abstained = result.predicted == ABSTAIN
        return CertificateRow(
            selected=result.selected,
            predicted=result.predicted,
            radius=result.radius,
            p_A_lower=result.p_A_lower,
            p_B_upper=result.p_B_upper,
            n_A=result.n_A,
            n=result.n,
            n0=protocol.num_selection,
            correct=result.predicted == label,
            stop_reason=COMPLETE,
            grid_radius=None if abstained else largest_at_most(self._radii, result.radius),
        )

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> CertificateRow:
        """Nothing: a fixed-N bound on fewer samples than were planned would have looked at them."""
        return nothing_known(self._protocol, tallies)

    def used(self, row: Row) -> int:
        """N0 and the estimation samples, if there were any."""
        assert isinstance(row, CertificateRow)
        return row.n0 + row.n

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """All that is not there yet."""
        return self.largest_demand() - sum(tally.num_samples for tally in tallies.values())

    def least_demand(self) -> int:
        """N0 + N."""
        return self.largest_demand()

    def largest_demand(self) -> int:
        """N0 + N."""
        return self._protocol.num_selection + self._protocol.num_estimation


def nothing_known(protocol: CertifyProtocol, tallies: Mapping[Phase, Tally]) -> CertificateRow:
    """The row of an undecided image of which nothing is certified."""
    selection = tallies[Phase.SELECTION]
    selected = select_class(selection.counts_K) if selection.covers(protocol.num_selection) else UNKNOWN
    return CertificateRow(
        selected=selected, predicted=ABSTAIN, radius=0.0, p_A_lower=0.0, p_B_upper=1.0, n_A=0, n=0,
        n0=0 if selected == UNKNOWN else protocol.num_selection, correct=False, stop_reason=UNDECIDED,
    )  # fmt: skip


class PredictRule:
    """PREDICT with a fixed number of samples."""

    def __init__(self, protocol: PredictProtocol) -> None:
        self._protocol = protocol
        self.cuts: Mapping[Phase, tuple[int, ...]] = cut_nowhere()

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """All samples."""
        return {Phase.PREDICTION: self._protocol.num_samples}

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> PredictionRow | None:
        """The prediction, once all samples are there."""
        tally = tallies[Phase.PREDICTION]
        if not tally.covers(self._protocol.num_samples):
            return None
        n_B, n_A = sorted(tally.counts_K.tolist())[-2:]
        predicted = predict(tally.counts_K, self._protocol.alpha)
        return PredictionRow(
            predicted=predicted,
            n_A=n_A,
            n_B=n_B,
            n=tally.num_samples,
            correct=predicted == label,
            stop_reason=COMPLETE,
        )

    def interim(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> PredictionRow:
        """Nothing: abstention."""
        return PredictionRow(predicted=ABSTAIN, n_A=0, n_B=0, n=0, correct=False, stop_reason=UNDECIDED)

    def used(self, row: Row) -> int:
        """All samples."""
        return row.n

    def remaining(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> int:
        """All that is not there yet."""
        return self.largest_demand() - tallies[Phase.PREDICTION].num_samples

    def least_demand(self) -> int:
        """Samples per image."""
        return self.largest_demand()

    def largest_demand(self) -> int:
        """Samples per image."""
        return self._protocol.num_samples

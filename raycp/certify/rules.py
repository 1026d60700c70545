"""Sampling rules: which samples an image needs, and what follows from their counts. Pure functions of the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from raycp.certify.tally import Tally
from raycp.config import CertifyProtocol, PredictProtocol
from raycp.sampling.blocks import Phase
from raycp.statistics import ABSTAIN, certify, predict, select_class


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
    """Decides what to draw next from what was drawn, and only from complete prefixes of samples."""

    def wanted(self, label: int, tallies: Mapping[Phase, Tally]) -> Mapping[Phase, int]:
        """How many samples of each phase are needed as far as is known; grows, never shrinks."""
        ...

    def decide(self, label: int, sigma: float, tallies: Mapping[Phase, Tally]) -> Row | None:
        """The image's row once its counts decide it, None while samples are missing."""
        ...

    def largest_demand(self) -> int:
        """Most samples that one image can need, for planning."""
        ...


class FixedRule:
    """CERTIFY with N0 selection and N estimation samples for every image.

    Args:
        protocol: N0, N, alpha, bound, skip_wrong.
        slack: per noise level, the total variation distance of the drawn noise from the Gaussian.
    """

    def __init__(self, protocol: CertifyProtocol, slack: Mapping[float, float]) -> None:
        self._protocol = protocol
        self._slack = slack

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
            return CertificateRow(
                selected=selected, predicted=ABSTAIN, radius=0.0, p_A_lower=0.0, p_B_upper=1.0, n_A=0, n=0,
                n0=protocol.num_selection, correct=False, stop_reason="skipped_wrong",
            )  # fmt: skip
        if not estimation.covers(protocol.num_estimation):
            return None
        result = certify(
            selection.counts_K, estimation.counts_K, sigma, protocol.alpha, protocol.bound, self._slack[sigma]
        )
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
            stop_reason="complete",
        )

    def largest_demand(self) -> int:
        """N0 + N."""
        return self._protocol.num_selection + self._protocol.num_estimation


class PredictRule:
    """PREDICT with a fixed number of samples."""

    def __init__(self, protocol: PredictProtocol) -> None:
        self._protocol = protocol

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
            stop_reason="complete",
        )

    def largest_demand(self) -> int:
        """Samples per image."""
        return self._protocol.num_samples

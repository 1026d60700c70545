"""A computed output beside the recorded one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from raycp.parity.fixture import Case
from raycp.parity.tolerance import read_tolerance


@dataclass(frozen=True)
class Comparison:
    """One recorded output.

    Attributes:
        fixture: name of the case.
        output: name of the recorded tensor.
        error: the largest absolute difference; None where there is none, or no number.
        tolerance: of fixture.json, as text; empty where it has none.
        verdict: ok where every element is within the tolerance.
        reason: why there is no error.
    """

    fixture: str
    output: str
    error: float | None
    tolerance: str
    verdict: Literal["ok", "FAILED", "not compared"]
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """Plain values by name."""
        return dict(vars(self))


def compare(case: Case, name: str, computed: Tensor) -> Comparison:
    """Hold a computed output against the recorded one, element by element, in float64."""
    expected = case.recorded[name]
    if not expected.numel():
        return not_compared(case, name, "the recorded tensor is empty")
    try:
        tolerance = read_tolerance(name, case.tolerances)
        limits = tolerance.limits(expected, case.recorded)
    except ValueError as err:
        return not_compared(case, name, str(err))
    if computed.shape != expected.shape:
        reason = f"it is {list(computed.shape)} here and {list(expected.shape)} in the record"
        return Comparison(case.name, name, None, str(tolerance), "FAILED", reason)
    difference = (computed.double() - expected.double()).abs()
    if not bool(difference.isfinite().all()):
        return Comparison(
            case.name, name, None, str(tolerance), "FAILED", "the difference is NaN or infinite"
        )
    verdict: Literal["ok", "FAILED"] = "ok" if bool((difference <= limits).all()) else "FAILED"
    return Comparison(case.name, name, float(difference.max()), str(tolerance), verdict)


def not_compared(case: Case, name: str, reason: str) -> Comparison:
    """The row of an output that could not be computed or judged."""
    try:
        tolerance = str(read_tolerance(name, case.tolerances))
    except ValueError:
        tolerance = str(case.tolerances.get(name, ""))
    return Comparison(case.name, name, None, tolerance, "not compared", reason)

"""Tolerances as fixtures write them: a number, or a phrase with one in it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

_PHRASE = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<kind> relative| / sqrt\(abar_t\), elementwise)?(?: \(.*\))?"
)
_SAME = re.compile(r"as (?P<name>\w+)(?:, then clamped)?")
_KINDS: dict[str | None, Literal["absolute", "relative", "abar"]] = {
    None: "absolute",
    " relative": "relative",
    " / sqrt(abar_t), elementwise": "abar",
}
_SUFFIX = {"absolute": "", "relative": " relative", "abar": "/sqrt(abar_t)"}


@dataclass(frozen=True)
class Tolerance:
    """How far an output may be from the recorded one.

    Attributes:
        number: the largest absolute difference, in a unit.
        kind: of the unit: 1; the recorded value; or `1/sqrt(abar_t)` of the batch element, by which `x_0` is more
            uncertain than the noise that it is computed from.
    """

    number: float
    kind: Literal["absolute", "relative", "abar"] = "absolute"

    def __str__(self) -> str:
        return f"{self.number:g}{_SUFFIX[self.kind]}"

    def limits(self, expected: Tensor, recorded: Mapping[str, Tensor]) -> Tensor:
        """The largest absolute difference of each element, float64.

        Args:
            expected: the recorded output.
            recorded: all recorded tensors, for abar: `alphas_cumprod` and the steps `t` [B].

        Raises:
            ValueError: they are not recorded, or do not fit.
        """
        if self.kind == "relative":
            return self.number * expected.double().abs()
        if self.kind == "absolute":
            return torch.full_like(expected, self.number, dtype=torch.float64)
        abar_T, steps_B = recorded.get("alphas_cumprod"), recorded.get("t")
        if (
            abar_T is None
            or steps_B is None
            or len(steps_B) != len(expected)
            or int(steps_B.max()) >= len(abar_T)
        ):
            raise ValueError("its tolerance needs alphas_cumprod and t, which are not recorded for it")
        limits_B = self.number / abar_T.double()[steps_B].sqrt()
        return limits_B.view(-1, *[1] * (expected.dim() - 1)).expand(expected.shape)


def read_tolerance(name: str, tolerances: Mapping[str, Any]) -> Tolerance:
    """The tolerance of an output.

    Raises:
        ValueError: there is none, or it is not understood; the message says so.
    """
    if name not in tolerances:
        raise ValueError("fixture.json gives no tolerance for it")
    value = tolerances[name]
    if isinstance(value, str) and (same := _SAME.fullmatch(value)) and same["name"] != name:
        value = tolerances.get(same["name"])
    kind = None
    if isinstance(value, str) and (phrase := _PHRASE.fullmatch(value)):
        value, kind = float(phrase["number"]), phrase["kind"]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return Tolerance(float(value), _KINDS[kind])
    raise ValueError(f"the tolerance {tolerances[name]!r} in fixture.json is not understood")

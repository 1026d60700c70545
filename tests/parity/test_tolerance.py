"""Tolerances as the fixtures write them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raycp.parity.tolerance import Tolerance, read_tolerance


@pytest.mark.parametrize(
    ("value", "expected", "text"),
    [
        (0, Tolerance(0.0), "0"),
        (1e-12, Tolerance(1e-12), "1e-12"),
        ("1e-5", Tolerance(1e-5), "1e-05"),
        ("1e-6 relative", Tolerance(1e-6, "relative"), "1e-06 relative"),
        (
            "1e-4 / sqrt(abar_t), elementwise (the division amplifies: sqrt(abar) is 0.006 at t = 999)",
            Tolerance(1e-4, "abar"),
            "0.0001/sqrt(abar_t)",
        ),
        ("as other, then clamped", Tolerance(0.25), "0.25"),
    ],
)
def test_what_is_understood(value: Any, expected: Tolerance, text: str) -> None:
    found = read_tolerance("output", {"output": value, "other": 0.25})
    assert found == expected and str(found) == text


@pytest.mark.parametrize(
    "value",
    [-1e-3, float("nan"), float("inf"), True, None, [1e-4], "small", "1e-6 or so", "1e-6 relative to x", "as missing",
     "as output", "as knot", "-1e-3", "1e999", "1.2.3", ""],
)  # fmt: skip
def test_what_is_not_understood(value: Any) -> None:
    tolerances = {"output": value, "knot": "as output"}
    with pytest.raises(ValueError, match=r"the tolerance .* in fixture\.json is not understood"):
        read_tolerance("output", tolerances)
    with pytest.raises(ValueError, match=r"fixture\.json gives no tolerance for it"):
        read_tolerance("another", tolerances)


def test_limits() -> None:
    expected = torch.tensor([[1.0, -2.0], [0.0, 4.0]])
    assert Tolerance(0.5).limits(expected, {}).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert Tolerance(0.5, "relative").limits(expected, {}).tolist() == [[0.5, 1.0], [0.0, 2.0]]
    recorded = {"alphas_cumprod": torch.tensor([1.0, 0.25, 0.01]), "t": torch.tensor([1, 2])}
    limits = Tolerance(0.5, "abar").limits(expected, recorded)
    torch.testing.assert_close(limits, torch.tensor([[1.0, 1.0], [5.0, 5.0]], dtype=torch.float64))
    for changes in ({"t": torch.tensor([1, 3])}, {"t": torch.tensor([1])}):
        with pytest.raises(ValueError, match="needs alphas_cumprod and t"):
            Tolerance(0.5, "abar").limits(expected, recorded | changes)

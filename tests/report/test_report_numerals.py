"""Numbers as text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.report.numerals import duration, exact, percent


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (57, 100, "57.0"),  # 100 * 0.57 is below 57 in float64
        (29, 100, "29.0"),
        (2, 3, "66.6"),
        (9999, 10_000, "99.9"),
        (1, 2000, "0.0"),
        (5, 5, "100.0"),
        (0, 7, "0.0"),
    ],
)
def test_percent_is_rounded_down(count: int, total: int, text: str) -> None:
    assert percent(count, total) == text


@given(st.integers(1, 10**6).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_percent_is_the_largest_tenth_below(share: tuple[int, int]) -> None:
    count, total = share
    printed = Fraction(percent(count, total))
    assert printed <= Fraction(100 * count, total) < printed + Fraction(1, 10)


@given(st.floats(0, 1e6))
def test_exact_reads_back(value: float) -> None:
    assert float(exact(value)) == value


def test_exact_is_short() -> None:
    assert [exact(value) for value in (0.0, 0.25, 1.0, 0.1)] == ["0", "0.25", "1", "0.1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.9, "1 h 00 min"),
        (90_061.0, "25 h 01 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text

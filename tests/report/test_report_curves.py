"""The certified-accuracy curve is the empirical function, and its picture draws that function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raycp.report.curve_plot import curve_figure, draw_curves
from raycp.report.curves import certified_curve, certified_curves, curve_records
from raycp.report.results import SigmaResults
from raycp.report.theme import DARK, LIGHT


def _results(radius: list[float], correct: list[bool]) -> SigmaResults:
    count = len(radius)
    return SigmaResults(
        sigma=0.5,
        num_images=count,
        image_index_M=np.arange(count),
        label_M=np.zeros(count, dtype=np.int64),
        radius_M=np.array(radius),
        correct_M=np.array(correct, dtype=bool),
        abstained_M=np.zeros(count, dtype=bool),
        undecided_M=np.zeros(count, dtype=bool),
        skipped_M=np.zeros(count, dtype=bool),
        samples=None,
        seconds=None,
        numerics={},
    )


images = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.93159, 3.0]), st.booleans()), min_size=1)


@given(images)
def test_curve_is_the_empirical_function(rows: list[tuple[float, bool]]) -> None:
    radius, correct = [r for r, _ in rows], [c for _, c in rows]
    curve = certified_curve("run", _results(radius, correct))
    for at in {0.0, 7.0, *radius}:
        for eps in (at, float(np.nextafter(at, 9.0)), max(0.0, float(np.nextafter(at, 0.0)))):
            expected = sum(c and r >= eps for r, c in rows) / len(rows)
            assert curve.at(eps) == pytest.approx(expected, abs=1e-12)


def test_hand_computed_steps(hand_run) -> None:
    (curve,) = certified_curves([hand_run])
    assert curve.radius_K.tolist() == [0.25, float(np.nextafter(0.5, 0)), 0.93159]
    assert curve.accuracy_K.tolist() == [0.6, 0.4, 0.2]
    steps = curve_records([curve])
    assert [step["certified_images"] for step in steps] == [3, 2, 1]
    assert steps[2] == {
        "run": "tiny",
        "sigma": 0.5,
        "radius": 0.93159,
        "certified_images": 1,
        "images": 5,
        "decided": 5,
        "certified_accuracy": 0.2,
    }


def test_undecided_sigmas_have_no_curve(make_run: Callable) -> None:
    run = make_run([(0.5, 0, 0, 0, 0.6)], sigmas=[0.5, 1.0], num_images=1)
    assert [curve.sigma for curve in certified_curves([run])] == [0.5]


def test_the_picture_draws_the_steps(hand_run) -> None:
    curves = certified_curves([hand_run])
    axes = curve_figure([hand_run], curves).axes[0]
    line = axes.lines[0]
    # "pre" holds y[i] on (x[i-1], x[i]]
    assert line.get_drawstyle() == "steps-pre"
    x, y = line.get_data()
    assert x.tolist() == [0.0, *curves[0].radius_K, 0.93159]
    assert y.tolist() == pytest.approx([60.0, 60.0, 40.0, 20.0, 0.0])
    assert axes.get_title(loc="left") == "Certified accuracy, N = 10,000, α = 0.001, 5 images"
    assert axes.get_xlabel() == "L2 radius ε (pixel units, images in [0,1])"
    assert axes.get_ylabel() == "certified accuracy (% of images)"


def test_partial_runs_are_titled_so(make_run: Callable) -> None:
    run = make_run([(0.5, 0, 0, 0, 0.6)], num_images=3)
    axes = curve_figure([run], certified_curves([run])).axes[0]
    assert "PARTIAL" in axes.get_title(loc="left")
    assert "σ = 0.5\n1 of 3 decided" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_runs_differ_in_line_style_and_sigmas_in_colour(make_run: Callable) -> None:
    rows = [(0.25, 0, 0, 0, 0.3), (0.5, 0, 0, 0, 0.6)]
    runs = [make_run(rows, name) for name in ("_first", "$x$", "third")]
    figure = curve_figure(runs, certified_curves(runs))
    lines = figure.axes[0].lines[:6]
    assert [line.get_color() for line in lines] == [*LIGHT.sigmas[:2]] * 3
    styles = {str(line._unscaled_dash_pattern) for line in lines}
    assert len(styles) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["run _first", "run $x$", "run third"]


def test_a_curve_without_a_right_image_can_be_drawn(make_run: Callable) -> None:
    run = make_run([(0.5, 0, 0, 1, 0.6)])
    curves = certified_curves([run])
    assert curves[0].at(0.0) == 0.0
    assert draw_curves([run], curves, DARK).startswith(b"\x89PNG")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_colours_are_distinct(theme, count: int) -> None:
    assert len(set(theme.colours(count))) == count

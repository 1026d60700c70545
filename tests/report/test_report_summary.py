"""The run in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raycp.report.conditions import conditions
from raycp.report.provenance import numerics_in_words, recorded_facts, report_command
from raycp.report.results import read_sigmas
from raycp.report.summary import headline, indices_in_words, spread_in_words, summary
from raycp.report.table import certified_table


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (range(360), "0–359"),
        (range(0, 10_000, 20), "0, 20, …, 9980 (every 20th)"),
        (range(1, 100, 2), "1, 3, …, 99 (every 2nd)"),
        (range(0, 100, 3), "0, 3, …, 99 (every 3rd)"),
        (range(0, 100, 11), "0, 11, …, 99 (every 11th)"),
        (range(0, 200, 21), "0, 21, …, 189 (every 21st)"),
        ([0, 1, 2, 5, 9, 10], "0–2, 5, 9–10"),
        ([0, 20, 40, 61], "0, 20, 40, 61"),
        ([9, 3], "3, 9"),
        ([4], "4"),
        ([], "none"),
    ],
)
def test_indices_are_exact(indices: object, words: str) -> None:
    assert indices_in_words(list(indices)) == words  # type: ignore[call-overload]


def test_summary_states_every_condition(hand_run) -> None:
    text = summary(certified_table([hand_run]).rows, conditions(hand_run))
    for part in (
        "5 images of the test split of the digits",
        "models/tiny after one-step consistency purification",
        "σ = 0.5 in pixel units",
        "integer Gaussian noise on the 1/255 grid",
        "N0 = 100",
        "N = 10,000",
        "one-sided Clopper-Pearson",
        "at most α = 0.001: of 5 at one σ, at most 0.005 are false on average",
    ):
        assert part in text
    assert "partial" not in text


def test_summary_says_what_is_not_recorded(hand_run) -> None:
    bare = hand_run.but(config={})
    text = summary(certified_table([bare]).rows, conditions(bare))
    assert "N = not recorded" in text
    assert "The failure probability α of a certificate is not recorded." in text


def test_partial_summary(make_run: Callable) -> None:
    run = make_run([(0.5, 0, 0, 0, 0.6)], sigmas=[0.5, 1.0], num_images=4)
    table = certified_table([run])
    text = summary(table.rows, conditions(run))
    assert text.endswith("The run is partial: of 4 images 1 at σ = 0.5 and 0 at σ = 1 are decided.")
    assert headline(table.rows[1]) == "no image is decided yet"


def test_headline_rounds_down(hand_run) -> None:
    row = certified_table([hand_run]).rows[0]
    assert headline(row) == (
        "certified accuracy 60.0% (3/5) at ε = 0 and 0.0% (0/5) at ε = 1; average certified radius 0.336"
    )


def test_spread_is_of_right_images_and_rounded_down(hand_run, make_run: Callable) -> None:
    assert spread_in_words(read_sigmas(hand_run)[0]) == "0.250 / 0.499 / 0.931 / 0.931"
    assert spread_in_words(read_sigmas(make_run([(0.5, 0, 0, 1, 0.6)]))[0]) == "–"


def test_provenance_is_complete_but_for_long_lists(hand_run) -> None:
    facts = dict(recorded_facts(hand_run))
    assert facts["fingerprint"] == "f00d"
    assert facts["versions"] == "python 3.11, raycp 0.1.0"
    assert facts["weights.classifier"] == "bb"
    assert facts["data.sha256"] == "cc"
    assert facts["git_commit"] == "null"
    assert "data.class_names" not in facts
    assert numerics_in_words(read_sigmas(hand_run)) == "cpu float32"


def test_command_is_quoted(hand_run) -> None:
    run = hand_run.but(path="my runs/a")
    assert report_command((run,), None) == "raycp report 'my runs/a'"
    assert report_command((run,), "out") == "raycp report 'my runs/a' --out out"


def test_a_purifier_of_ones_own_is_named(hand_run) -> None:
    purifier = {"kind": "python", "factory": "own_filters:wiener"}
    config = hand_run.config
    run = hand_run.but(config=config | {"config": config["config"] | {"purifier": purifier}})
    text = summary(certified_table([run]).rows, conditions(run))
    assert "models/tiny after purification by own_filters:wiener; it is smoothed" in text

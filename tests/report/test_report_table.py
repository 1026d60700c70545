"""The table of a report against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raycp.report.formats import cells, csv_text, heading, plain_text, records
from raycp.report.table import ENVELOPE, certified_table

DEFAULT = (0.0, 0.25, 0.5, 0.75, 1.0)


def test_hand_computed_row(hand_run) -> None:
    table = certified_table([hand_run])
    assert table.radii == DEFAULT
    (row,) = table.rows
    assert [cell.count for cell in row.cells] == [3, 3, 1, 1, 0]
    assert {cell.total for cell in row.cells} == {5}
    assert [cell.accuracy for cell in row.cells] == [0.6, 0.6, 0.2, 0.2, 0.0]
    # P(Bin(5, .001) > 0) = .005 and P(Bin(5, .001) > 1) = 1e-5: one image may be falsely certified at 1 - .001
    assert [cell.lower_bound for cell in row.cells] == [2, 2, 0, 0, 0]
    assert row.acr == pytest.approx((0.93159 + 0.25 + 0.5) / 5, abs=1e-12)
    assert (row.abstained, row.skipped, row.samples, row.seconds) == (1, 0, 50_500, 2.5)
    assert not row.partial


def test_text_is_rounded_down(hand_run, make_run: Callable) -> None:
    table = certified_table([hand_run])
    # ACR 1.68159 / 5 = 0.336318
    expected = ["tiny", "0.5", "5", "60.0", "60.0", "20.0", "20.0", "0.0", "0.336", "1", "50,500", "2.5"]
    assert cells(table.rows[0]) == expected
    single = certified_table([make_run([(0.5, 0, 1, 1, 0.93159)])])
    assert cells(single.rows[0])[-4] == "0.931"
    thirds = certified_table([make_run([(0.5, i, 0, int(i == 2), 0.1) for i in range(3)])])
    assert cells(thirds.rows[0])[3] == "66.6"


def test_radii_beyond_n_are_dashes_not_zeros(make_run: Callable) -> None:
    # N = 10,000, alpha = .001: the largest radius is 3.199 sigma, 0.799 at sigma 0.25
    table = certified_table([make_run([(0.25, 0, 0, 0, 0.79)])])
    (row,) = table.rows
    assert [cell.attainable for cell in row.cells] == [True, True, True, True, False]
    assert row.cells[-1].count is None
    assert cells(row)[3:8] == ["100.0", "100.0", "100.0", "100.0", "–"]
    assert any("no radius above 0.799 can be certified" in note for note in table.notes)
    assert records(table)[0]["certified_accuracy_at_1"] is None


def test_two_class_reaches_less_far(make_run: Callable) -> None:
    rows = [(0.25, 0, 0, 0, 0.5)]
    one = certified_table([make_run(rows)]).rows[0].largest_radius
    two = certified_table([make_run(rows, bound="two_class")]).rows[0].largest_radius
    at_half_alpha = certified_table([make_run(rows, alpha=0.0005)]).rows[0].largest_radius
    assert one is not None and two is not None and two < one
    assert two == pytest.approx(at_half_alpha, abs=1e-9)


def test_an_n_that_certifies_nothing(make_run: Callable) -> None:
    # alpha^(1/N) = .001^(1/5) = .25 < 1/2
    table = certified_table([make_run([(0.5, 0, 0, -1, 0.0)], num_estimation=5)])
    assert cells(table.rows[0])[3:8] == ["–"] * 5
    assert "nothing can be certified" in table.notes[0]
    assert records(table)[0]["largest_attainable_radius"] is None


def test_configured_radii(make_run: Callable) -> None:
    rows = [(0.5, 0, 0, 0, 0.3), (0.5, 1, 0, 0, 0.2)]
    table = certified_table([make_run(rows, radii=[0.3, 0.1])])
    assert table.radii == (0.1, 0.3)
    assert [cell.count for cell in table.rows[0].cells] == [2, 1]


def test_several_runs_share_the_union_of_radii(make_run: Callable) -> None:
    rows = [(0.5, 0, 0, 0, 0.3)]
    table = certified_table([make_run(rows, "a", radii=[0.1]), make_run(rows, "b", radii=[0.3, 0.4])])
    assert table.radii == (0.1, 0.3, 0.4)
    assert [(row.run, [cell.count for cell in row.cells]) for row in table.rows] == [
        ("a", [1, 1, 0]),
        ("b", [1, 1, 0]),
    ]


def test_envelope_takes_the_best_sigma_per_radius(make_run: Callable) -> None:
    small = [(0.25, 0, 0, 0, 0.3), (0.25, 1, 0, 0, 0.3), (0.25, 2, 0, 1, 0.3)]
    large = [(1.0, 0, 0, 0, 1.2), (1.0, 1, 0, -1, 0.0), (1.0, 2, 0, -1, 0.0)]
    *per_sigma, envelope = certified_table([make_run(small + large)]).rows
    assert [[cell.count for cell in row.cells] for row in per_sigma] == [[2, 2, 0, 0, None], [1, 1, 1, 1, 1]]
    assert envelope.sigma is None
    assert [cell.count for cell in envelope.cells] == [2, 2, 1, 1, 1]
    assert [cell.sigma for cell in envelope.cells] == [0.25, 0.25, 1.0, 1.0, 1.0]
    # neither is defined for a maximum over sigma
    assert envelope.acr is None
    assert {cell.lower_bound for cell in envelope.cells} == {None}
    assert records(certified_table([make_run(small + large)]))[-1]["row"] == ENVELOPE


def test_envelope_ties_go_to_the_smallest_sigma(make_run: Callable) -> None:
    envelope = certified_table([make_run([(1.0, 0, 0, 0, 0.6), (0.5, 0, 0, 0, 0.6)])]).rows[-1]
    assert [cell.sigma for cell in envelope.cells] == [0.5] * 5


def test_no_envelope_over_different_images(make_run: Callable) -> None:
    rows = [(0.25, 0, 0, 0, 0.3), (0.25, 1, 0, 0, 0.3), (0.5, 0, 0, 0, 0.4)]
    table = certified_table([make_run(rows, num_images=2)])
    assert [row.sigma for row in table.rows] == [0.25, 0.5]
    assert "no envelope, because the sigmas have not decided the same images." in table.notes


def test_partial_runs_say_so(make_run: Callable) -> None:
    table = certified_table([make_run([(0.5, 0, 0, 0, 0.6)], sigmas=[0.5, 1.0], num_images=4)])
    half, one = table.rows
    assert half.partial and one.partial
    assert cells(half)[2:4] == ["1/4", "100.0"]
    assert cells(one)[2:] == ["0/4", *["–"] * 9]
    assert "σ = 0.5: partial, 1 of 4 images decided; figures are of those." in table.notes
    assert "σ = 1: partial, 0 of 4 images decided; no figures yet." in table.notes


def test_partial_runs_that_skip_wrong_images_are_biased(make_run: Callable) -> None:
    run = make_run([(0.5, 0, 0, -1, 0.0), (0.5, 1, 0, 0, 0.3)], num_images=4, skipped=[0])
    notes = certified_table([run]).notes
    assert "biased downwards" in notes[0]
    assert notes[1].startswith("σ = 0.5: 1 images whose selected class was wrong were not estimated")


def test_runs_without_a_recorded_protocol_have_figures_but_no_limits(hand_run) -> None:
    bare = hand_run.but(config={"config": None})
    (row,) = certified_table([bare]).rows
    assert [cell.count for cell in row.cells] == [3, 3, 1, 1, 0]
    assert row.largest_radius is None
    assert {cell.lower_bound for cell in row.cells} == {None}


def test_csv_holds_full_precision(hand_run) -> None:
    header, line = csv_text(records(certified_table([hand_run]))).splitlines()
    record = dict(zip(header.split(","), line.split(",")))
    assert record["certified_accuracy_at_0.25"] == "0.6"
    assert record["certified_images_at_0.25"] == "3"
    assert record["certified_images_lower_bound_at_0.25"] == "2"
    assert record["certified_images_at_1"] == "0"
    assert float(record["acr"]) == certified_table([hand_run]).rows[0].acr
    assert (record["run"], record["sigma"], record["images"], record["decided"]) == ("tiny", "0.5", "5", "5")
    assert (record["abstained"], record["samples"], record["seconds"]) == ("1", "50500", "2.5")


def test_plain_text_is_aligned(hand_run, make_run: Callable) -> None:
    table = certified_table([hand_run, make_run([(0.25, 0, 0, 0, 0.7)], name="a-longer-name")])
    lines = plain_text(table).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == heading(table)
    ends = [line.index(word) + len(word) for line, word in zip(lines, ("sigma", "0.5", "0.25"))]
    assert len(set(ends)) == 1

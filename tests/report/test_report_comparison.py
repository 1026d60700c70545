"""Tables, verdicts and Pareto points of a comparison, against sums done by hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from raycp.config.claims import Claim
from raycp.config.suite import Suite
from raycp.report.claims import (
    CONFIRMED,
    CONTRADICTED,
    UNDECIDED,
    CheckedClaims,
    check_claims,
    claims_text,
)
from raycp.report.comparison import comparison_text, method_rows
from raycp.report.comparison_files import report_comparison
from raycp.report.method_plots import looks_of, marker_of
from raycp.report.pareto import Point, front, pareto_points, pareto_records
from raycp.report.table import certified_table
from raycp.report.theme import LIGHT
from raycp.statistics import paired_difference

SAMPLES, SECONDS = 10_100, 0.5  # of every row that `make_run` makes


@pytest.fixture
def runs(make_run: Callable) -> list[Any]:
    """Twelve images at two sigmas: `slow` certifies .25 for 10 and .5 for 9 of them, `quick` for 3 and none."""

    def costing(run: Any, evaluations: int, operations: float) -> Any:
        cost = {
            str(sigma): {"evaluations": evaluations, "operations": operations * sigma}
            for sigma in (0.25, 0.5)
        }
        return run.but(config=run.config | {"sample_cost": cost})

    slow = [(0.25, i, 1, 1, 0.6 if i < 9 else 0.3 if i < 10 else 0.1) for i in range(12)]
    quick = [(0.25, i, 1, 1, 0.3 if i < 3 else 0.1) for i in range(12)]
    wide = [(0.5, i, 1, 1 if i < 6 else 2, 0.8) for i in range(12)]
    return [
        costing(make_run(quick + wide, name="quick"), 1, 4e9),
        costing(make_run(slow + wide, name="slow"), 13, 52e9),
    ]


def records(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode())))


class Unnoted(Suite):
    """A suite without configurations, for runs that were made by hand."""

    def notes(self) -> list[str]:
        return ["slow differs from quick in nothing"]


def test_the_table_has_accuracy_and_cost(runs: list[Any]) -> None:
    rows = method_rows(runs, certified_table(runs))
    assert [(row.row.run, row.row.sigma) for row in rows] == [
        ("quick", 0.25), ("quick", 0.5), ("quick", None), ("slow", 0.25), ("slow", 0.5), ("slow", None),
    ]  # fmt: skip
    assert [row.evaluations for row in rows] == [1, 1, None, 13, 13, None]
    assert [row.operations for row in rows] == [1e9, 2e9, None, 13e9, 26e9, None]
    assert rows[0].seconds_per_sample == pytest.approx(SECONDS / SAMPLES)
    assert rows[0].samples_per_image == SAMPLES
    assert rows[2].seconds_per_sample is None and rows[2].per_image(1.0) is None
    lines = comparison_text(certified_table(runs), rows).splitlines()
    assert lines[0].split() == [
        "method", "sigma", "images", "eps=0", "eps=0.25", "eps=0.5", "eps=0.75", "eps=1", "ACR", "abstained", "samples",
        "evaluations", "GFLOP/sample", "ms/sample",
    ]  # fmt: skip
    # 3 of 12 is 25 %; 0.05 ms = 0.5 s / 10,100
    assert lines[1].split() == ["quick", "0.25", "12", "100.0", "25.0", "0.0", "0.0", "–", "0.150", "0", "121,200", "1",
                                "1", "0.0495"]  # fmt: skip
    assert lines[6].split() == ["slow", "envelope", "12", "100.0", "83.3", "75.0", "50.0", "0.0", *["–"] * 6]


def test_classifier_and_data_have_columns_where_they_differ(runs: list[Any]) -> None:
    quick, slow = runs
    config = slow.config["config"] | {"classifier": {"kind": "timm", "name": "resnet18"}}
    runs = [quick, slow.but(config=slow.config | {"config": config})]
    table = certified_table(runs)
    lines = comparison_text(table, method_rows(runs, table)).splitlines()
    assert lines[0].split()[:3] == ["method", "classifier", "sigma"]
    assert lines[1].startswith("quick   models/tiny    ")
    assert lines[4].startswith("slow    timm resnet18  ")


def test_a_run_that_recorded_no_cost_has_dashes(runs: list[Any]) -> None:
    bare = runs[0].but(config={key: v for key, v in runs[0].config.items() if key != "sample_cost"})
    rows = method_rows([bare], certified_table([bare]))
    assert comparison_text(certified_table([bare]), rows).splitlines()[1].split()[-3:] == ["–", "–", "0.0495"]
    points = pareto_points([bare], rows)
    assert {point.gflop for point in points} == {None}
    assert pareto_records(points)[0]["unbeaten_by_gflop"] is False


def test_verdicts_by_hand(runs: list[Any]) -> None:
    """At sigma .25, slow has 7 images more at .25 and 9 at .5, quick none; at .5 the two are equal."""
    claims = (
        Claim(better="slow", worse="quick", says="slow is better"),
        Claim(better="quick", worse="slow", says="quick is better", sigmas=(0.25,), radii=(0.25, 0.5)),
    )
    checked = check_claims(claims, {run.name: run for run in runs}).items
    # .25 reaches 4 of the 5 radii with N = 10,000 (a radius of 0.8), .5 all of them; and 2 cells of the second claim.
    assert len(checked) == 4 + 5 + 2
    each = 1 - 0.05 / len(checked)
    found = {(item.claim.says, item.comparison.sigma, item.comparison.eps): item for item in checked}
    assert ("slow is better", 0.25, 1.0) not in found
    for (says, sigma, eps), item in found.items():
        gained = {(0.25, 0.25): 7, (0.25, 0.5): 9}.get((sigma, eps), 0)
        counts = (0, gained) if says == "slow is better" else (gained, 0)
        c = item.comparison
        assert (c.only_base, c.only_run, c.images) == (*counts, 12)
        assert (c.low, c.high) == paired_difference(*counts, 12, each)
        verdict = CONFIRMED if says == "slow is better" else CONTRADICTED
        # 9 images of one sign: p = 2/2^9 = .0039 < .05/11 = .0045; 7 images: p = 2/2^7 = .016
        assert item.verdict == (verdict if gained == 9 else UNDECIDED)
    text = claims_text(claims, checked)
    assert "95% intervals, for all 11 together" in text
    assert "\nslow is better [slow > quick]: 1 confirmed, 8 undecided\n" in text
    assert "\nquick is better [quick > slow]: 1 not confirmed (the other way), 1 undecided\n" in text
    assert text.count("not confirmed (the other way)") == 2


def test_a_claim_waits_for_both_methods(runs: list[Any], make_run: Callable) -> None:
    quick = runs[0]
    early = make_run([(0.25, 0, 1, 1, 0.3)], name="slow", num_images=12)
    claims = (Claim(better="slow", worse="quick", says="slow is better"),)
    for known in ({"quick": quick}, {"quick": quick, "slow": early}):
        assert check_claims(claims, known) == CheckedClaims((), ())
    assert "slow is better [slow > quick]: not checked\n" in claims_text(claims, [])
    assert claims_text((), []) == ""


def test_a_claim_about_other_images_is_not_checked(runs: list[Any], make_run: Callable) -> None:
    """That is said, and takes nothing from the other claims and the table."""
    other = make_run([(0.25, i + 6, 1, 1, 0.3) for i in range(12)], name="other")
    claims = (
        Claim(better="other", worse="quick", says="other is better"),
        Claim(better="slow", worse="quick", says="slow is better"),
    )
    report = report_comparison(Unnoted({}, claims), [*runs, other])
    assert "\nother is better [other > quick]: not checked\n" in report.text
    assert "for all 9 together" in report.text and "1 confirmed, 8 undecided" in report.text
    assert any(
        note.startswith(
            "not checked: other is better [other > quick]: runs/quick and runs/other are not of the same"
        )
        for note in report.notes
    )


def test_pareto_points_by_hand(runs: list[Any]) -> None:
    rows = method_rows(runs, certified_table(runs))
    points = pareto_points(runs, rows, (0.25,))
    assert [(p.method, p.sigma, p.count, p.images, p.gflop) for p in points] == [
        ("quick", 0.25, 3, 12, SAMPLES * 1), ("quick", 0.5, 6, 12, SAMPLES * 2),
        ("slow", 0.25, 10, 12, SAMPLES * 13), ("slow", 0.5, 6, 12, SAMPLES * 26),
    ]  # fmt: skip
    assert [p.seconds for p in points] == pytest.approx([SECONDS] * 4)
    # At sigma .5 slow is as accurate as quick and costs more; everything else is a trade.
    assert [(p.method, p.sigma) for p in front(points, "gflop")] == [
        ("quick", 0.25),
        ("quick", 0.5),
        ("slow", 0.25),
    ]
    assert [(p.method, p.sigma) for p in front(points, "seconds")] == [
        ("slow", 0.25)
    ]  # all take the same time
    assert [record["unbeaten_by_gflop"] for record in pareto_records(points)] == [True, True, True, False]
    # By default, every radius of the table above 0; none where N does not reach, no envelopes.
    assert [(p.eps, p.method, p.sigma) for p in pareto_points(runs, rows) if p.eps == 1.0] == [
        (1.0, "quick", 0.5), (1.0, "slow", 0.5),
    ]  # fmt: skip
    assert {p.eps for p in pareto_points(runs, rows)} == {0.25, 0.5, 0.75, 1.0}


def test_points_are_of_the_images_that_all_methods_have(runs: list[Any], make_run: Callable) -> None:
    """Others would be ahead for having the easier images. A method of other data is left out."""
    easy = make_run([(0.25, i, 1, 1, 0.3 if i < 2 else 0.1) for i in range(4)], name="easy")
    other = make_run([(0.25, i, 1, 1, 0.6) for i in range(4)], name="other")
    other = other.but(config=other.config | {"data": {"source": "elsewhere"}})
    every = [*runs, easy, other]
    points = pareto_points(every, method_rows(every, certified_table(every)), (0.25,))
    assert [(p.method, p.sigma, p.count, p.images) for p in points] == [
        ("quick", 0.25, 3, 4), ("quick", 0.5, 4, 4), ("slow", 0.25, 4, 4), ("slow", 0.5, 4, 4), ("easy", 0.25, 2, 4),
    ]  # fmt: skip
    notes = report_comparison(Unnoted({}), every).notes
    assert "pareto: accuracy on the 4 images that all of its methods have." in notes
    assert "pareto: without other, unfinished or of other data." in notes
    apart = make_run([(0.25, i, 1, 1, 0.3) for i in range(20, 24)], name="apart")
    every = [*runs, apart]
    assert pareto_points(every, method_rows(every, certified_table(every))) == []


def test_points_that_are_equal_are_both_unbeaten() -> None:
    def point(method: str, count: int, gflop: float) -> Point:
        return Point(method, 0.5, 0.25, count, 10, gflop, None)

    one, twin, dear, worse = point("a", 5, 1.0), point("b", 5, 1.0), point("c", 5, 2.0), point("d", 4, 1.0)
    assert front([one, twin, dear, worse], "gflop") == [one, twin]
    assert front([one], "seconds") == []


def test_what_has_not_ended_is_no_point(make_run: Callable) -> None:
    early = make_run([(0.25, 0, 1, 1, 0.3)], name="early", num_images=12)
    assert pareto_points([early], method_rows([early], certified_table([early]))) == []


def test_files_and_text(runs: list[Any]) -> None:
    claims = (Claim(better="slow", worse="quick", says="slow is better"),)
    report = report_comparison(Unnoted({}, claims, (0.25, 0.5)), runs)
    assert list(report.files) == [
        "table.csv", "curves.csv", "curves.png", "pareto.csv", "pareto.png", "claims.csv",
    ]  # fmt: skip
    assert report.text.startswith("method ") and "\n\nClaims: " in report.text
    assert report.notes[-2:] == (
        "envelope: best sigma per eps (envelope, not one certificate).",
        "slow differs from quick in nothing.",
    )
    table = records(report.files["table.csv"])
    assert [(row["method"], row["sigma"]) for row in table][:3] == [
        ("quick", "0.25"),
        ("quick", "0.5"),
        ("quick", ""),
    ]
    assert table[2]["row"] == "best sigma per eps (envelope, not one certificate)"
    assert (table[3]["network_evaluations"], table[3]["gflop_per_sample"]) == ("13", "13.0")
    assert float(table[3]["certified_accuracy_at_0.25"]) == 10 / 12
    verdicts = records(report.files["claims.csv"])
    assert {(row["better"], row["worse"], row["intervals"]) for row in verdicts} == {("slow", "quick", "9")}
    assert [row["verdict"] for row in verdicts].count(CONFIRMED) == 1
    assert len(records(report.files["pareto.csv"])) == 8
    for name in ("curves.png", "pareto.png"):
        with Image.open(io.BytesIO(report.files[name])) as image:
            assert min(image.size) > 400
    assert report == report_comparison(Unnoted({}, claims, (0.25, 0.5)), runs)  # pictures and all


def test_many_methods_and_sigmas_have_pictures(make_run: Callable) -> None:
    """More methods than colours, more sigmas than fit a row, a method that certifies nothing."""
    sigmas = (0.12, 0.25, 0.5, 1.0)
    runs = [
        make_run([(s, i, 1, 1 if k else 2, 0.1 + s * i / 4) for s in sigmas for i in range(4)], name=f"_method{k}")
        for k in range(9)
    ]  # fmt: skip
    report = report_comparison(Unnoted({}), runs)
    assert {"curves.png", "pareto.png"} <= report.files.keys()
    assert "claims.csv" not in report.files and "Claims" not in report.text


@pytest.fixture
def published(make_run: Callable) -> Any:
    """What two methods have twelve images of, in a log: four are certified at .25."""
    rows = [(0.25, i, 1, 1, 0.3 if i < 4 else 0.1) for i in range(12)]
    run = make_run(rows, name="cohen", num_estimation=100_000)
    certify = {key: run.config["config"]["certify"][key] for key in ("sigmas", "num_estimation", "alpha")}
    table = run.certificates.set_column(7, "samples", [[None] * 12])
    config = {
        "kind": "imported",
        "config": {"certify": certify | {"radii": [0.0, 0.25, 0.5, 0.75, 1.0]}},
        "data": {"source": None, "image_index": list(range(12))},
        "indexed": True,
        "files": [{"name": "noise_0.25", "sha256": "0" * 64, "sigma": 0.25, "notes": []}],
    }
    return run.but(config=config, certificates=table)


def test_no_two_methods_are_drawn_alike() -> None:
    names = [f"method {number}" for number in range(4 * len(LIGHT.sigmas))]
    looks = looks_of(names, LIGHT)
    markers = [marker_of(look, "o") for look in looks.values()]
    assert len({(look.colour, str(look.dash)) for look in looks.values()}) == len(names)
    assert len({(marker["color"], marker["fillstyle"]) for marker in markers}) == len(names)


def test_published_logs_are_rows_without_cost(runs: list[Any], published: Any) -> None:
    table = certified_table([*runs, published])
    rows = method_rows([*runs, published], table)
    assert [row.imported for row in rows] == [False] * 6 + [True]
    lines = comparison_text(table, rows).splitlines()
    assert lines[0].split()[:2] == ["method", "sigma"], "what a log does not say makes no column"
    # 4 of 12 is 33.3 %
    assert lines[-1].split() == ["cohen", "(imported)", "0.25", "12", "100.0", "33.3", "0.0", "0.0", "–", "0.166", "0",
                                 "–", "–", "–", "–"]  # fmt: skip
    report = report_comparison(Unnoted({}), [*runs, published])
    assert [row["imported"] for row in records(report.files["table.csv"])] == ["False"] * 6 + ["True"]
    assert {row["run"] for row in records(report.files["curves.csv"])} == {"quick", "slow", "cohen"}
    assert "pareto: without cohen, imported: what they cost is not known." in report.notes
    assert not any("unfinished" in note for note in report.notes)
    assert (
        "cohen: imported from noise_0.25 (σ = 0.25): made by other code; N = 100,000, α = 0.001 as claimed; "
        "N0 not said." in report.notes
    )


def test_published_logs_change_nothing_of_the_pareto_picture(runs: list[Any], published: Any) -> None:
    """First or last, of fewer images or more."""
    alone = report_comparison(Unnoted({}), runs).files
    for beside in ([*runs, published], [published, *runs]):
        files = report_comparison(Unnoted({}), beside).files
        assert files["pareto.csv"] == alone["pareto.csv"] and files["pareto.png"] == alone["pareto.png"]
        assert files["curves.png"] != alone["curves.png"]
    assert "pareto.png" not in report_comparison(Unnoted({}), [published]).files


def test_a_claim_about_a_published_log(runs: list[Any], published: Any) -> None:
    """Certified at .25: slow images 0 to 9, the log 0 to 3; at .5 slow 0 to 8, the log none."""
    claims = (Claim(better="slow", worse="cohen", says="slow is ahead"),)
    checked = check_claims(claims, {run.name: run for run in [*runs, published]}).items
    counts = {
        item.comparison.eps: (item.comparison.only_base, item.comparison.only_run, item.comparison.images)
        for item in checked
    }
    assert counts == {0.0: (0, 0, 12), 0.25: (0, 6, 12), 0.5: (0, 9, 12), 0.75: (0, 0, 12)}
    assert {item.comparison.sigma for item in checked} == {0.25}

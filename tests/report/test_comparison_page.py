"""The page of a comparison: its figures against sums done by hand, its data, its safety, its size."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raycp.config.claims import Claim
from raycp.config.suite import Suite
from raycp.logs.imported import Claims, imported_run
from raycp.logs.published_log import read_log
from raycp.report.comparison_page import Making, render_comparison
from raycp.report.curve_panels import HEIGHT, Scale, band, curve_panels
from raycp.report.curves import certified_curves
from raycp.report.findings import Findings, compare_methods
from raycp.report.forest import WIDTH, interval_svg, limit_of
from raycp.report.method_images import method_image_data, same_images, sample_grid
from raycp.report.method_table import shown_groups
from raycp.report.method_words import claim_outcomes, leaders, shared_conditions
from raycp.statistics import share_interval
from tests.report.html_page import Page

MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
MAKING = Making(("raycp", "compare", "suite.yaml"), "raycp compare suite.yaml --out runs/x", MADE)


class Unnoted(Suite):
    """A suite without configurations, for runs that were made by hand."""

    def notes(self) -> list[str]:
        return []


def compared(runs: Sequence[Any], *claims: Claim) -> Findings:
    return compare_methods(Unnoted({}, claims), runs)


def page_of(runs: Sequence[Any], *claims: Claim, making: Making = MAKING) -> Page:
    return Page(render_comparison(compared(runs, *claims), making))


def words(page: Page) -> str:
    return " ".join(page.text.split())


@pytest.fixture
def runs(make_run: Callable) -> list[Any]:
    """At .25, `slow` certifies .25 for 10 and .5 for 9 of 12 images, `quick` for 3 and none; `easy` has 4."""
    slow = [(0.25, i, 1, 1, 0.6 if i < 9 else 0.3 if i < 10 else 0.1) for i in range(12)]
    quick = [(0.25, i, 1, 1, 0.3 if i < 3 else 0.1) for i in range(12)]
    easy = [(0.25, i, 1, 1, 0.6) for i in range(4)]
    return [make_run(rows, name=name) for name, rows in (("quick", quick), ("slow", slow), ("easy", easy))]


BETTER = Claim(better="slow", worse="quick", says="slow is better")


def test_the_table_has_intervals_and_the_best_of_the_same_images(runs: list[Any]) -> None:
    table = next(table for table in page_of(runs).tables if ["σ = 0.25"] in table)
    quick, slow, easy = table[-3:]
    assert quick[:4] == ["quick", "12", "100.0|73.5–100.0", "25.0|5.4–57.2"]  # 3 of 12: .0549 to .5719
    assert slow[3:5] == ["83.3|51.5–98.0", "75.0|42.8–94.6"]
    assert easy[:4] == ["easy", "4", "100.0|39.7–100.0", "100.0|39.7–100.0"]
    found = compared(runs)
    (group,) = shown_groups(found, same_images(found.runs))
    assert group.best_images == 12
    best = {row.method: [cell.best for cell in row.accuracies] for row in group.rows}
    # All are equal at 0; at .75 nothing is certified, and at 1 nothing can be: none of that is a best value.
    assert best == {
        "quick": [True, False, False, False, False],
        "slow": [True, True, True, False, False],
        "easy": [False] * 5,
    }
    assert [row.costs[0].best for row in group.rows] == [False, True, False]
    (sentence,) = leaders([group], found.table.radii)
    assert "quick and slow (100.0% at ε = 0) and slow (83.3% at ε = 0.25, 75.0% at ε = 0.5)" in sentence
    assert "the same 12 images" in sentence


def test_an_unfinished_method_has_no_interval_and_no_best(make_run: Callable, runs: list[Any]) -> None:
    early = make_run([(0.25, i, 1, 1, 0.7) for i in range(3)], name="early", num_images=12)
    page = page_of([*runs, early])
    row = next(line for table in page.tables if ["σ = 0.25"] in table for line in table if line[0] == "early")
    assert row[1:4] == ["3|of 12", "100.0", "100.0"]
    assert "early is partial: 9 of 12 undecided." in words(page)
    found = compared([*runs, early])
    (panel,) = curve_panels(found.curves, ["quick", "slow", "easy", "early"], ())
    assert re.findall(r'class="(\w+) (m\d)"', panel.svg) == [
        ("band", "m0"), ("band", "m1"), ("band", "m2"), ("curve", "m0"), ("curve", "m1"), ("curve", "m2"),
        ("curve", "m3"),
    ]  # fmt: skip


def test_claims_have_their_verdicts_and_numbers(runs: list[Any]) -> None:
    found = compared(runs[:2], BETTER)
    html = render_comparison(found, MAKING)
    table = next(table for table in Page(html).tables if table[0][-1] == "verdict")
    assert table[1] == ["slow is better|slow > quick: 1 confirmed, 3 undecided"]
    assert [line[-1] for line in table[2:]] == ["· undecided", "· undecided", "✓ confirmed", "· undecided"]
    assert [line[4:6] for line in table[2:]] == [
        ["0 against 0", "12"], ["7 against 0", "12"], ["9 against 0", "12"], ["0 against 0", "12"],
    ]  # fmt: skip
    assert html.count('<svg class="interval') == 5  # and the axis
    (outcome,) = claim_outcomes(found)
    assert outcome.says == "confirmed at some σ and ε, undecided at the others"
    assert "1 of 1 claims is confirmed at some σ and ε" in words(Page(html))
    other_way = claim_outcomes(compared(runs[:2], Claim(better="quick", worse="slow", says="no")))
    assert [found.says for found in other_way] == ["the other way at some σ and ε, undecided at the others"]
    unchecked = claim_outcomes(compared(runs[:1], BETTER))
    assert [(found.says, found.claims) for found in unchecked] == [
        ("not checked", ("slow is better [slow > quick]",))
    ]


def test_intervals_are_drawn_to_scale(runs: list[Any]) -> None:
    items = compared(runs[:2], BETTER).checked.items
    limit = limit_of(items)
    item = items[2]
    assert limit >= 100 * item.comparison.high and limit in (80, 100)
    low, high = map(float, re.findall(r"M([\d.]+),9.0V17.0", interval_svg(item, limit)))
    middle = float(re.findall(r'<rect x="([\d.]+)"', interval_svg(item, limit))[0]) + 4
    reach = WIDTH / 2 - 12
    for drawn, value in ((low, item.comparison.low), (middle, 0.75), (high, item.comparison.high)):
        assert drawn == pytest.approx(WIDTH / 2 + reach * 100 * value / limit, abs=0.06)
    assert low > WIDTH / 2  # confirmed: all of it is to the right of zero


def test_curves_and_bands_step_where_the_radii_are(hand_run: Any) -> None:
    """By hand: 3 of 5 up to .25, 2 of 5 up to just below .5, 1 of 5 up to .93."""
    (curve,) = certified_curves([hand_run])
    low_K, high_K = band(curve)
    assert [(low, high) for low, high in zip(low_K, high_K, strict=True)] == [
        share_interval(k, 5) for k in (3, 2, 1)
    ]
    (panel,) = curve_panels([curve], ["tiny"], (0.25,))
    scale = Scale(1.05 * 0.93159, 0.95)  # the upper end at 3 of 5 is .947
    x, y = scale.x, scale.y
    path = f"M{x(0):g},{y(0.6):g}H{x(0.25):g}V{y(0.4):g}H{x(0.5):g}V{y(0.2):g}H{x(0.93159):g}V{y(0):g}"
    assert f'd="{path}"' in panel.svg
    assert y(0) == HEIGHT - 40 and y(0.95) == 10
    assert f'<path class="mark" d="M{x(0.25)},' in panel.svg


def test_curves_of_methods_that_certify_nothing(make_run: Callable) -> None:
    wrong, zero = (make_run([(0.5, 0, 1, c, 0.0)], name=name) for name, c in (("wrong", 2), ("zero", 1)))
    (panel,) = curve_panels(certified_curves([wrong]), ["wrong"], (0.25,))
    assert panel.svg.count("curve m0") == 1 and "band" not in panel.svg
    (panel,) = curve_panels(certified_curves([zero]), ["zero"], (0.25,))
    assert panel.svg.count("band m0") == 1


def test_image_data_round_trips(make_run: Callable) -> None:
    below = float(np.nextafter(0.5, 0.0))
    one = make_run(
        [(0.5, 3, 4, 4, 0.93159), (0.5, 1, 2, 5, 1.5), (0.5, 2, 4, -1, 0.0), (0.5, 7, 4, 4, below)],
        name="one",
    )
    votes = {"n_A": [995, 900, 430, 700], "n": [1000, 1000, 1000, 800]}
    table = one.certificates
    for name, values in votes.items():
        table = table.append_column(name, pa.array(values))
    two = make_run([(0.25, 1, 2, 2, 0.25), (0.5, 3, 4, -1, 0.0)], name="two", skipped=[3], sigmas=(0.25, 0.5))
    found = compared([one.but(certificates=table), two])
    data = json.loads(
        re.findall(r'id="image-rows">(.*?)</script>', render_comparison(found, MAKING), re.S)[0]
    )
    assert data == method_image_data(same_images(found.runs), found.table.radii)
    assert (data["methods"], data["radii"]) == (["one", "two"], [0, 0.25, 0.5, 0.75, 1])
    quarter, half = data["sigmas"]
    assert (quarter["sigma"], quarter["images"], quarter["methods"][0]) == (0.25, [1], None)
    assert (half["sigma"], half["images"]) == (0.5, [1, 2, 3, 7])
    first, second = half["methods"]
    assert (first["outcome"], second["outcome"]) == ("warr", "..s.")
    assert first["radius"] == [1500, 0, 931, 499]  # thousandths, rounded down
    assert first["level"] == [0, 0, 4, 2]  # .93 reaches 0, .25, .5 and .75; just below .5 reaches two
    assert [data["classes"][k] if k >= 0 else None for k in first["certified"]] == ["5", None, "4", "4"]
    assert [data["classes"][k] for k in half["labels"]] == ["2", "4", "4", "4"]
    assert (first["votes"], first["of"]) == ([900, 430, 995, 700], [1000, 1000, 1000, 800])
    assert second["votes"] is None and second["samples"] == [0, 0, 10_100, 0]
    assert quarter["methods"][1]["level"] == [2]  # exactly eps counts


def test_methods_of_other_images_are_left_out_of_the_table_of_images(
    runs: list[Any], make_run: Callable
) -> None:
    other = make_run([(0.25, 0, 2, 2, 0.3)], name="other")  # another label for the same index
    elsewhere = make_run([(0.25, 0, 1, 1, 0.3)], name="elsewhere")
    elsewhere = elsewhere.but(config=elsewhere.config | {"data": {"source": "another set"}})
    same = same_images([*runs, other, elsewhere])
    assert [run.name for run in same.runs] == ["quick", "slow", "easy"]
    assert same.notes == (
        "other is of other data: its labels differ.",
        "elsewhere is of other data: another set.",
    )


def test_samples_stand_side_by_side(runs: list[Any], make_examples: Callable) -> None:
    kept = make_examples(sigmas=(0.25,), num_images=3)
    others = kept | {"purified": kept["clean"], "predicted": kept["label"], "noisy": kept["noisy"].copy()}
    others["noisy"][2] = 255 - others["noisy"][2]
    fewer = {name: array[:1] for name, array in kept.items()}
    quick, slow, easy = runs
    methods = [quick.but(examples=kept), slow.but(examples=others), easy.but(examples=fewer)]
    grid = sample_grid(same_images(methods))
    assert [(row.image_index, row.kept) for row in grid.rows] == [(0, 3), (1, 2), (2, 2)]
    assert [[s and s.right for s in row.samples] for row in grid.rows] == [
        [True] * 3,
        [False, True, None],
        [True, True, None],
    ]
    assert grid.columns(grid.rows) == [0, 1, 2]
    assert grid.columns(grid.rows[1:]) == [0, 1], "a method without a sample of these has no column"
    assert np.array_equal(grid.rows[1].samples[1].images[2], grid.rows[1].clean)
    assert [row.other_noise(row.samples[1]) for row in grid.rows] == [False, False, True]
    page = page_of(methods)
    marks = [
        a["class"]
        for tag, a in page.elements
        if tag == "figure" and str(a.get("class")).startswith("sample is")
    ]
    assert marks == [f"sample is-{'right' if ok else 'wrong'}" for ok in (1, 1, 1, 0, 1, 1, 1)]
    assert "✓ 2 (other noise)" in page.text
    images = [a for tag, a in page.elements if tag == "img"]
    assert all(a.get("alt") and str(a.get("src")).startswith("data:image/png;base64,") for a in images)


def test_page_needs_nothing_but_itself(runs: list[Any], make_examples: Callable) -> None:
    html = render_comparison(compared([run.but(examples=make_examples()) for run in runs], BETTER), MAKING)
    assert not re.search(r"\b(https?|ftp|file|wss?):", html)
    assert not re.search(r"@import|url\(|javascript:|\son\w+=", html)
    page = Page(html)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", html, re.S)
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert re.match(r"#|data:", attributes.get("href") or "#")
        for name in ("src", "srcset", "data", "action", "poster", "background"):
            assert (attributes.get(name) or "data:").startswith("data:")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    ]
    assert not re.search(r"\beval\b|innerHTML|fetch|XMLHttp|import\(|document\.write", script)
    assert json.loads(data)["methods"] == ["quick", "slow", "easy"]
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if (attributes.get("href") or "").startswith("#"):
            assert str(attributes["href"])[1:] in ids


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_names_cannot_inject(make_run: Callable, make_examples: Callable) -> None:
    rows = [(0.25, 0, 0, 0, 0.3)]
    run = make_run(rows, name=EVIL, class_names=[EVIL] * 10, examples=make_examples())
    run.config["fingerprint"] = run.config["config"]["classifier"]["path"] = run.config["data"]["source"] = (
        EVIL
    )
    other = make_run(rows, name="{{ 7 * 7 }}")
    other.config["data"]["source"] = EVIL
    claim = Claim(better=EVIL, worse="{{ 7 * 7 }}", says=EVIL)
    page = page_of([run, other], claim, making=Making((EVIL,), EVIL, MADE, {EVIL: EVIL}))
    assert [tag for tag, _ in page.elements].count("script") == 2  # the page's own
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]
    assert page.text.count(EVIL) > 15
    assert "{{ 7 * 7 }}" in page.text


def test_conditions_are_said_once_where_they_are_shared(runs: list[Any], make_run: Callable) -> None:
    longer = make_run([(0.25, i, 1, 1, 0.3) for i in range(12)], name="longer", num_estimation=20_000)
    found = {condition.name: condition for condition in shared_conditions([*runs, longer])}
    assert (found["N"].value, found["N"].others) == ("10,000", (("longer", "20,000"),))
    assert (found["N0"].value, found["N0"].others) == ("100", ())
    assert (found["images"].value, found["images"].others) == ("12", (("easy", "4"),))
    assert "longer: 20,000" in words(page_of([*runs, longer]))


def test_absent_methods_and_the_commands_are_named(runs: list[Any]) -> None:
    making = Making(
        ("raycp", "compare", "my suite.yaml", "--set", "certify.alpha=0.01"),
        "raycp compare 'my suite.yaml' --out x",
        MADE,
        {"late": "no table yet"},
    )
    text = words(page_of(runs, making=making))
    assert text.count("late") == 2 and "Not all methods of the suite are here. late: no table yet." in text
    assert "raycp compare 'my suite.yaml' --out x" in text
    assert "raycp compare 'my suite.yaml' --set certify.alpha=0.01 --out DIR --only slow" in text
    assert "2026-01-02 03:04 UTC" in text
    complete = page_of(runs)
    assert "Every method of the suite is in the table." in words(complete)
    links = [a["href"] for tag, a in complete.elements if tag == "a"]
    assert "#claims" not in links and "#table" in links  # a suite without claims has no such section


def test_a_run_without_any_row(make_run: Callable) -> None:
    page = page_of([make_run([], name="none", sigmas=[0.5], num_images=3)])
    assert "No image is decided yet, so there is nothing to draw." in words(page)
    assert "none is partial: 3 of 3 undecided." in words(page)
    assert [tag for tag, _ in page.elements].count("script") == 1


@pytest.mark.parametrize("header", ["idx\tlabel\tpredict\tradius\tcorrect\ttime\n", ""])
def test_imported_logs_stand_beside_runs(runs: list[Any], tmp_path: Path, header: str) -> None:
    path = tmp_path / "published.tsv"
    lines = [
        f"{i}\t1\t{1 if i < 6 else 0}\t{0.41 if i < 9 else 0.2}\t{int(i < 6)}\t0:00:01.0" for i in range(12)
    ]
    path.write_text(header + "\n".join(lines) + "\n")
    log = read_log(path, () if header else ("idx", "label", "predict", "radius", "correct", "time"))
    imported = imported_run([log], [0.25], Claims(), "published", "runs/published")
    page = page_of([*runs, imported], Claim(better="slow", worse="published", says="slow is ahead of it"))
    rows = next(table for table in page.tables if ["σ = 0.25"] in table)
    row = next(line for line in rows if line[0] == "published")
    assert row[1:4] == ["12", "50.0|21.0–79.0", "50.0|21.0–79.0"]
    assert row[-4:] == ["–"] * 4  # samples, evaluations, operations, time of a sample
    cost = next(
        line
        for table in page.tables
        if table[0][:2] == ["method", "certificates"]
        for line in table
        if line[0] == "published"
    )
    assert cost[1:3] == ["imported", "–"] and cost[5] == "–"
    data = json.loads(
        re.findall(
            r'id="image-rows">(.*?)</script>', render_comparison(compared([*runs, imported]), MAKING), re.S
        )[0]
    )
    of_log = data["sigmas"][0]["methods"][data["methods"].index("published")]
    assert (of_log["outcome"], of_log["votes"], of_log["samples"]) == ("r" * 6 + "w" * 6, None, None)
    assert "raycp logs import FILE" in words(page)


def test_a_log_that_does_not_say_its_images_or_sigma(runs: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "bare.tsv"
    path.write_text("label\tpredict\tradius\n" + "1\t1\t0.41\n" * 5)
    imported = imported_run([read_log(path)], [None], Claims(), "bare", "runs/bare")
    page = page_of([*runs, imported])
    assert "Without bare does not say which images its lines are of." in words(page)
    assert "σ = not said" in words(page)


def test_a_large_comparison_stays_small(make_run: Callable, make_examples: Callable) -> None:
    """A thousand images, two sigmas and fifteen methods, each radius another one, and samples of 224 pixels."""
    rng = np.random.default_rng(0)
    examples = make_examples(num_images=2, side=224, channels=3)
    methods = []
    for number in range(15):
        radius = rng.uniform(0, 1.5, (2, 1000))
        rows = [
            (s, i, i % 10, i % 10 if radius[k, i] < 1 else 3, radius[k, i])
            for k, s in enumerate((0.5, 1.0))
            for i in range(1000)
        ]
        run = make_run(
            rows, name=f"method-{number}", examples=examples, class_names=[f"class {c}" for c in range(10)]
        )
        n_A = pa.array(rng.integers(50_000, 100_000, 2000))
        table = run.certificates.append_column("n_A", n_A).append_column("n", pa.array([100_000] * 2000))
        methods.append(run.but(certificates=table))
    size = len(
        render_comparison(compared(methods, Claim(better="method-0", worse="method-1", says="x")), MAKING)
    )
    assert 1_000_000 < size < 8_000_000

"""The HTML page: its numbers, its safety, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from raycp.report.curves import certified_curves
from raycp.report.page import render_page
from raycp.report.table import certified_table
from tests.report.html_page import Page

MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def _render(runs: Sequence[object]) -> str:
    return render_page(runs, certified_table(runs), certified_curves(runs), MADE)  # type: ignore[arg-type]


def _page(*runs: object) -> Page:
    return Page(_render(runs))


def test_table_has_the_hand_computed_figures(hand_run) -> None:
    page = _page(hand_run)
    assert page.tables[0][1] == ["0", "0.25", "0.5", "0.75", "1"]
    assert page.tables[0][2] == [
        "0.5",
        "5",
        "60.0|3/5",
        "60.0|3/5",
        "20.0|1/5",
        "20.0|1/5",
        "0.0|0/5",
        "0.336",
        "1",
        "50,500",
        "2.5",
    ]
    details = {line[0]: line[1] for line in page.tables[2]}
    assert details["certified, class is the label"] == "3"
    assert details["certified, class is not the label"] == "1"
    assert details["abstained"] == "1"
    assert details["radius of right images: quartiles, largest"] == "0.250 / 0.499 / 0.931 / 0.931"
    assert details["largest radius that N can certify"] == "1.599"  # 3.1986 * 0.5 = 1.5993
    assert details["certified accuracy at ε = 0.25, lower bound"] == "40.0% (2/5)"


def test_unattainable_radii_and_envelope(make_run: Callable) -> None:
    page = _page(make_run([(0.25, 0, 0, 0, 0.3), (1.0, 0, 0, 0, 1.2)]))
    small, large, envelope = page.tables[0][2:]
    assert small[2:7] == ["100.0|1/1", "100.0|1/1", "0.0|0/1", "0.0|0/1", "–"]
    assert large[2:7] == ["100.0|1/1"] * 5
    assert envelope[0] == "best sigma per eps (envelope, not one certificate)"
    assert envelope[1:4] == ["100.0|1/1|σ 0.25", "100.0|1/1|σ 0.25", "100.0|1/1|σ 1"]
    assert "no radius above 0.799 can be certified" in page.text


def test_page_needs_nothing_but_itself(hand_run, make_examples: Callable) -> None:
    html = _render([hand_run.but(examples=make_examples())])
    assert not re.search(r"\b(https?|ftp|file|wss?):", html)
    assert not re.search(r"@import|url\(|javascript:|\son\w+=", html)
    page = Page(html)
    data, script = re.findall(r"<script[^>]*>(.*?)</script>", html, re.S)
    assert html.count("<script") == 2
    for tag, attributes in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            assert (attributes.get(name) or "data:").startswith("data:")
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    ]
    assert not re.search(r"\beval\b|innerHTML|fetch|XMLHttp|import\(|document\.write", script)
    assert [row[2] for row in json.loads(data)] == [10, 11, 12, 13, 14]
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 1 + 3 * 8
    assert all(attributes.get("alt") for attributes in images)


def test_light_dark_and_paper(hand_run) -> None:
    html = _render([hand_run])
    assert html.count("@media screen and (prefers-color-scheme: dark)") == 1
    assert "@media print" in html
    dark = [a for tag, a in Page(html).elements if tag == "source"]
    assert [a["media"] for a in dark] == ["screen and (prefers-color-scheme: dark)"]


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_names_cannot_inject(make_run: Callable, make_examples: Callable) -> None:
    rows = [(0.25, 0, 0, 0, 0.3)]
    run = make_run(rows, name=EVIL, class_names=[EVIL] * 10, examples=make_examples())
    run.config["fingerprint"] = EVIL
    run.config["config"]["classifier"]["path"] = EVIL
    run.config["data"]["source"] = EVIL
    run = run.but(certificates=run.certificates.set_column(9, "numerics", [[EVIL]]))
    page = _page(run, make_run(rows, name="{{ 7 * 7 }}"))
    assert [tag for tag, _ in page.elements].count("script") == 2  # the page's own
    assert not [tag for tag, attributes in page.elements if "onerror" in attributes]
    assert page.text.count(EVIL) > 10
    assert "{{ 7 * 7 }}" in page.text


def test_right_and_wrong_samples_are_marked(hand_run, make_examples: Callable) -> None:
    page = _page(hand_run.but(examples=make_examples()))
    marks = [a["class"] for tag, a in page.elements if tag == "figure"]
    assert marks == ["triplet is-right", "triplet is-wrong"] * 4
    assert "✓ image 0: 0 → 0" in page.text
    assert "✗ image 1: 1 → 2" in page.text


def test_missing_examples_and_partial_runs_are_named(make_run: Callable) -> None:
    page = _page(make_run([(0.5, 0, 0, 0, 0.6)], sigmas=[0.5, 1.0], num_images=4))
    words = " ".join(page.text.split())
    assert "This run has no examples.npz" in words
    assert "Partial run. σ = 0.5: 1 of 4 images decided; σ = 1: 0 of 4 images decided." in words
    assert page.tables[0][2][1] == "1|of 4"
    assert page.tables[0][3][2:] == ["–"] * 9


def test_complete_runs_are_not_called_partial(hand_run) -> None:
    assert "partial" not in _page(hand_run).text.lower()


def test_a_run_without_any_row(make_run: Callable) -> None:
    words = " ".join(_page(make_run([], sigmas=[0.5], num_images=3)).text.split())
    assert "No image is decided yet, so there is nothing to draw." in words
    assert "0 of 3 images decided" in words


def test_unsound_noise_is_named(make_run: Callable) -> None:
    rows = [(0.5, 0, 0, 0, 0.6)]
    assert "Nothing exact with noise added in float32" in _page(make_run(rows, noise="float")).text
    assert "Nothing exact" not in _page(make_run(rows)).text


def test_configuration_indices_and_time_are_there(make_run: Callable) -> None:
    run = make_run([(0.5, i, 0, 0, 0.6) for i in (0, 20, 40, 60)])
    run.config["data"]["image_index"] = [0, 20, 40, 60]
    text = _page(run).text
    assert '"num_estimation": 10000' in text
    assert "Image indices: 0, 20, …, 60 (every 20th)." in text
    assert "2026-01-02 03:04 UTC" in text
    assert "raycp report runs/tiny" in text


@pytest.mark.parametrize("side", [224, 512])
def test_large_images_keep_the_page_at_a_few_megabytes(hand_run, make_examples: Callable, side: int) -> None:
    examples = make_examples(sigmas=(0.25, 0.5, 1.0), num_images=6, side=side, channels=3)
    assert len(_render([hand_run.but(examples=examples)])) < 4_000_000

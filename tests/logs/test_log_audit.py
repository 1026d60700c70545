"""`raycp logs audit`: each contradiction is found, and what cannot be known is said to be so."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_logs import HEADER, PRINTS, certified_log, rows, write

from raycp.errors import ConfigError
from raycp.logs.audit import Finding, audit_log
from raycp.logs.lines import read_lines


def audit(path: Path, *claims: float) -> dict[str, Finding]:
    sigma, n, alpha = [*claims, None, None, None][:3]
    found = audit_log(read_lines(path), sigma, None if n is None else int(n), alpha)
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def test_a_sound_log(tmp_path: Path) -> None:
    path = certified_log(tmp_path / "a", 100_000, 0.001, 0.25, PRINTS["3 digits"], 3000)
    found = audit(path, 0.25, 100_000, 0.001)
    verdicts = {name: finding.verdict for name, finding in found.items()}
    assert verdicts == {
        "lines": "ok", "idx": "ok", "correct": "ok", "abstained": "ok", "N, alpha": "ok", "claim": "ok",
        "rounding": "note",
    }  # fmt: skip
    assert found["N, alpha"].text.startswith("N = 100,000, alpha = 0.001, alone of 1,836 pairs")
    assert "printed above the certified one" in found["rounding"].text


def test_the_wrong_claim_of_alpha(tmp_path: Path) -> None:
    """As of 8 logs of Cohen et al.: said to be of alpha = 0.001, made with 0.01."""
    path = certified_log(tmp_path / "a", 100_000, 0.01, 0.25, PRINTS["3 digits"], 3000)
    found = audit(path, 0.25, 100_000, 0.001)
    assert found["N, alpha"].text.startswith("N = 100,000, alpha = 0.01, alone")
    assert found["claim"].verdict == "FAILED"
    assert "the log contradicts N = 100,000 and alpha = 0.001: " in found["claim"].text
    assert "0.978" in found["claim"].text
    assert "2 of them are above the largest possible one, 0.95286" in found["claim"].text
    assert found["claim"].text.endswith(" With this N only alpha = 0.01 fits.")
    only_alpha = audit_log(read_lines(path), 0.25, None, 0.001)
    assert [f.text for f in only_alpha if f.name == "claim"] == [
        "the log contradicts alpha = 0.001: no tried pair with it fits."
    ]


def test_rounded_down(tmp_path: Path) -> None:
    path = certified_log(tmp_path / "a", 100_000, 0.001, 0.25, PRINTS["3 digits, down"], 3000)
    assert audit(path, 0.25)["rounding"] == Finding(
        "ok", "rounding", "radii are rounded down: none exceeds the certified one."
    )


def test_two_alphas_in_one_log_fit_nothing(tmp_path: Path) -> None:
    parts = [
        certified_log(tmp_path / str(a), 100_000, a, 0.25, PRINTS["3 digits"], 2000).read_text()
        for a in (0.001, 0.01)
    ]
    path = tmp_path / "a"
    path.write_text(parts[0] + parts[1].partition("\n")[2])
    found = audit(path, 0.25)
    assert found["N, alpha"].verdict == "FAILED" and "none of 1,836 pairs" in found["N, alpha"].text
    assert found["idx"].verdict == "FAILED" and "2,000 images have more than one line" in found["idx"].text
    assert found["rounding"].verdict == "undecided"


def test_few_lines_decide_nothing(tmp_path: Path) -> None:
    path = certified_log(tmp_path / "a", 100_000, 0.001, 0.25, PRINTS["3 digits"], 9)
    found = audit(path, 0.25, 100_000, 0.001)
    assert found["N, alpha"].verdict == "undecided" and " more." in found["N, alpha"].text
    assert found["claim"].verdict == "undecided"
    assert found["claim"].text.startswith(
        "N = 100,000 and alpha = 0.001 fits, but so do others. With this N "
    )


def test_without_sigma_nothing_is_said_of_alpha(tmp_path: Path) -> None:
    path = write(tmp_path / "a", HEADER, *rows(5))
    assert audit(path)["N, alpha"].verdict == "undecided"
    with pytest.raises(ConfigError, match="only with the noise level of the log: give --sigma"):
        audit_log(read_lines(path), None, 1000, None)


def test_an_aborted_log(tmp_path: Path) -> None:
    found = audit(write(tmp_path / "a", HEADER), 0.25)
    assert list(found) == ["lines"] and found["lines"].verdict == "FAILED"
    assert "a header and no images" in found["lines"].text


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ("9 1 1 nan 1 1.0", "lines", "1 cannot be read, 6 can: line 8: radius must be"),
        ("9 1 1 0.5 0 1.0", "correct", "contradicts label == predict in line 8"),
        ("9 1 -1 0.5 0 1.0", "abstained", "a radius beside an abstention in line 8"),
        ("2 0 0 0.5 1 1.0", "idx", "1 images have more than one line: 2 lines (4, 8)"),
    ],
)
def test_each_contradiction_is_found_alone(tmp_path: Path, line: str, name: str, text: str) -> None:
    found = audit(write(tmp_path / "a", HEADER, *rows(6), line))
    assert [finding.name for finding in found.values() if finding.verdict == "FAILED"] == [name]
    assert text in found[name].text


def test_gaps_in_idx(tmp_path: Path) -> None:
    lines = [f"{index} 1 1 0.5 1 1.0" for index in (0, 20, 40, 80, 100, 105, 120)]
    found = audit(write(tmp_path / "a", HEADER, *lines))["idx"]
    assert found.verdict == "note"
    assert found.text == "0 to 120, mostly every 20: 1 of these are missing (60), 1 lie between (105)."


def test_a_cascade_is_judged_by_its_first_stage(tmp_path: Path) -> None:
    one = (
        certified_log(tmp_path / "one", 100_000, 0.001, 1.0, PRINTS["3 digits"], 2000)
        .read_text()
        .splitlines()
    )
    two = (
        certified_log(tmp_path / "two", 100_000, 0.0005, 0.5, PRINTS["3 digits"], 2000, 1)
        .read_text()
        .splitlines()
    )
    lines = [f"{line}\t0" for line in one[1:]] + [f"{int(i) + 2000}\t{rest}\t1" for i, _, rest in
             (line.partition("\t") for line in two[1:])]  # fmt: skip
    found = audit(write(tmp_path / "a", HEADER + " stage", *lines), 1.0)
    assert found["stage"].text == "a cascade: sigma, N and alpha are judged by the lines of stage 0 alone."
    assert found["N, alpha"].text.startswith("N = 100,000, alpha = 0.001, alone")


def test_predictions_and_logs_without_labels(tmp_path: Path) -> None:
    found = audit(write(tmp_path / "a", "idx label predict correct", "0 1 1 1", "1 2 1 0"), 0.25)
    assert found["radius"].text == "a log of predictions: there are no radii to judge."
    found = audit(write(tmp_path / "b", "idx predict radius", "0 1 0.5", "1 -1 0.0"))
    assert (found["correct"].verdict, found["abstained"].verdict) == ("note", "ok")


@pytest.mark.parametrize("sigma", ["0.25", "0.50", "1.00"])
def test_published_logs(shared_data: Path, sigma: str) -> None:
    path = shared_data / "published-logs" / f"consistency-resnet110-sigma{sigma}.tsv"
    found = audit(path, float(sigma), 100_000, 0.001)
    assert {finding.verdict for finding in found.values()} == {"ok", "note"}
    assert found["N, alpha"].text.startswith("N = 100,000, alpha = 0.001, alone of 1,836 pairs")

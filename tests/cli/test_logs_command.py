"""`raycp logs` and `raycp export`: what they print, write and refuse, and how they end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raycp.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "logs"))
from made_logs import HEADER, PRINTS, certified_log, rows, write


def raycp(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["raycp", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_import_prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "noise_0.50", HEADER, *rows(6))
    assert raycp(monkeypatch, "logs", "import", path) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == [
        "noise_0.50", "not", "said", "6", "83.3", "83.3", "50.0", "0.0", "0.0", "0.333", "1", "–", "7.5",
    ]  # fmt: skip
    assert "N0, N, α not said" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["noise_0.50"]


def test_import_show_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (write(tmp_path / name, HEADER, *rows(6)) for name in "ab")
    out = tmp_path / "imports" / "method"
    options = ("--sigma", 0.25, "--sigma", 0.5, "--num-estimation", 1000, "--out", out)
    assert raycp(monkeypatch, "logs", "import", one, two, *options) == 0
    printed, err = capsys.readouterr()
    assert f"written: {out}" in err
    assert raycp(monkeypatch, "show", out) == 0
    assert capsys.readouterr()[0] == printed
    assert raycp(monkeypatch, "report", out) == 0
    assert (out / "report" / "report.html").is_file()
    capsys.readouterr()
    assert raycp(monkeypatch, "verify", out) == 1
    assert "holds an imported log" in capsys.readouterr()[1]
    assert raycp(monkeypatch, "export", out) == 2
    assert "is an imported log" in capsys.readouterr()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sigma", 0.5, "--sigma", 1), "needed once for each file: got 2 for 1"),
        (("--sigma", -1), "must be greater than 0, got -1"),
        (("--alpha", 2), "must lie between 0 and 1, got 2"),
        (("--columns", "label,predict"), "names its columns itself"),
        (("--out", "nowhere://x"), "cannot be used as a run directory"),
    ],
)
def test_wrong_usage_of_import(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    message: str,
) -> None:
    path = write(tmp_path / "a", HEADER, *rows(6))
    assert raycp(monkeypatch, "logs", "import", path, *options) in (1, 2)
    assert message in " ".join(capsys.readouterr()[1].replace("│", " ").split())


def test_damaged_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a", HEADER, *rows(6), "6 1 1 0.9")
    assert raycp(monkeypatch, "logs", "import", path) == 1
    assert "line 8: it has 4 fields" in capsys.readouterr()[1]
    assert raycp(monkeypatch, "logs", "import", path, "--skip-damaged") == 0
    assert "1 lines that cannot be read are left out" in capsys.readouterr()[1]


def test_audit_ends_with_1_where_a_claim_is_contradicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = certified_log(tmp_path / "a", 100_000, 0.01, 0.25, PRINTS["3 digits"], 3000)
    assert raycp(monkeypatch, "logs", "audit", path, "--sigma", 0.25) == 0
    assert "ok         N, alpha   N = 100,000, alpha = 0.01, alone" in capsys.readouterr()[0]
    claim = ("--num-estimation", 100_000, "--alpha", 0.001)
    assert raycp(monkeypatch, "logs", "audit", path, "--sigma", 0.25, *claim) == 1
    assert "FAILED     claim      the log contradicts N = 100,000 and alpha" in capsys.readouterr()[0]
    assert raycp(monkeypatch, "logs", "audit", path, *claim) == 2
    assert "give --sigma" in capsys.readouterr()[1]


def test_export_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "simulate"))
    from log_files import write_run

    run = write_run(
        tmp_path / "run", [(0.25, 0, 3, 3, 99, 100, "complete"), (0.25, 1, 3, 4, 90, 100, "complete")]
    )
    assert raycp(monkeypatch, "export", run, "--format", "tsv") == 0
    (file,) = capsys.readouterr()[0].split()
    assert file == str(run / "export" / "sigma_0.25.tsv")
    assert Path(file).read_text().splitlines()[1] == "0\t3\t3\t0.0\t1\t0:00:00.110000"
    assert raycp(monkeypatch, "export", "s3://bucket/run") == 2
    assert "needed for the remote run" in " ".join(capsys.readouterr()[1].replace("│", " ").split())

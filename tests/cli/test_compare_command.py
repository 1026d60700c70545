"""`raycp compare` through the command itself: its plan, and what a user may get wrong before anything is drawn."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raycp.cli.main import main
from raycp.config.data import DigitsData
from raycp.data import load_images
from raycp.distributed.suite import SuiteOutcome
from raycp.errors import DataError, RaycpError
from raycp.models import ResidualClassifier, save_classifier

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `raycp compare` in this process on two small classifiers; returns the exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for name, width in (("small", 8), ("large", 16)):
        network = ResidualClassifier(10, in_channels=1, widths=(width,), blocks=1, groups=2)
        save_classifier(tmp_path / name, network, image_size=(8, 8))

    def run(*arguments: str, **sections: Any) -> tuple[int, str, str]:
        raw: dict[str, Any] = {
            "data": {"name": "digits", "select": {"count": 3}},
            "purifier": {"kind": "none"},
            "classifier": {"kind": "directory", "path": "small"},
            "certify": {"sigmas": [0.25, 0.5], "num_estimation": 100, "num_selection": 10},
            "numerics": {"batch_size": 32},
            "methods": {"small": None, "large": {"classifier": {"path": "large"}}},
        }
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(raw | sections, sort_keys=False))
        monkeypatch.setattr(sys, "argv", ["raycp", "compare", "suite.yaml", "--out", "out", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        said = capsys.readouterr()
        return (code if isinstance(code, int) else 0), said.out, said.err

    return run


def test_the_plan_has_a_line_for_each_method_and_the_sum(compare: Run, tmp_path: Path) -> None:
    code, out, err = compare("--dry-run")
    assert code == 0, err
    lines = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert lines[0] == ["method", "images", "sigmas", "samples", "evaluations", "GFLOP/sample", "hours"]
    assert [line[:4] for line in lines[1:3]] == [
        ["small", "3", "0.25, 0.5", "660"],  # 3 images, 2 sigmas, 10 + 100 samples
        ["large", "3", "0.25, 0.5", "660"],
    ]
    assert lines[1][4] == "0"
    assert 0 < float(lines[1][5]) < float(lines[2][5])
    assert lines[3][:2] == ["all", "1,320"]
    assert float(lines[3][2]) == pytest.approx(float(lines[1][6]) + float(lines[2][6]), rel=0.1)
    assert "hours of one replica like this machine" in err
    assert not (tmp_path / "out").exists()


def test_the_plan_says_what_is_measured_of_purified_images(compare: Run) -> None:
    methods = {"small": None, "large": {"classifier": {"path": "large"}}, "off": {"evaluate": None}}
    code, _, err = compare("--dry-run", methods=methods, evaluate={"draws": 4})
    assert code == 0, err
    # Of 2 methods 3 images, clean and 4 times at 2 sigmas.
    assert "then the purified images of 2 methods (evaluate): 54 samples more" in err
    del methods["large"]
    code, _, err = compare("--dry-run", methods=methods, evaluate={"features": {"kind": "classifier"}})
    assert code == 1
    assert "evaluations/small cannot be run: evaluate.features: a FID in 8 features needs more images" in err
    assert "(evaluate)" not in err


def test_the_plan_of_some_methods(compare: Run) -> None:
    code, out, _ = compare("--dry-run", "--only", "large", "--set", "certify.num_estimation=200")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["method", "large", "all"]
    assert "1,260" in out


def test_a_method_that_cannot_be_run_is_in_no_sum(compare: Run) -> None:
    methods = {"small": None, "far": {"certify": {"radii": [3.0]}}}
    code, out, err = compare("--dry-run", methods=methods)
    assert code == 1
    assert "far cannot be run: certify.radii contains 3" in err
    assert [line.split()[0] for line in out.splitlines()] == ["method", "small", "all"]


def test_missing_files_are_named_before_anything_starts(compare: Run, tmp_path: Path) -> None:
    methods = {"small": None, "a": {"classifier": {"path": "gone"}}, "b": {"classifier": {"path": "lost"}}}
    code, _, err = compare(methods=methods)
    assert code == 1
    assert "2 files or folders of this suite not found here" in err
    assert (
        "classifier.path (a): gone" in err
        and "classifier.path (b): lost" in err
        and "missing for small." in err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["failed", "interrupted", "stopped"])
def test_what_is_not_complete_fails_and_says_how_to_go_on(
    compare: Run, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def ended(*_: object) -> SuiteOutcome:
        if how == "stopped":
            raise KeyboardInterrupt
        failed: dict[str, RaycpError] = {"large": DataError("it is too large.")} if how == "failed" else {}
        return SuiteOutcome(failed, interrupted=how == "interrupted")

    monkeypatch.setattr("raycp.distributed.suite.run_suite", ended)
    code, out, err = compare("--only", "large")
    assert (
        code == (130 if how == "stopped" else 1) and not out
    )  # as typer ends a command that Ctrl-C interrupts
    assert "resume with: raycp compare suite.yaml --out out --only large\n" in err
    assert ("failed, as said above: large" in err) == (how == "failed")
    assert ("what was drawn is kept in out" in err) == (how == "interrupted")


def test_wrong_use(compare: Run) -> None:
    assert compare("--only", "smal")[0::2] == (
        2,
        "error: --only smal: this suite has the methods small, large, and no other.\n",
    )
    code, _, err = compare(methods={"small": {"purifer": {"kind": "none"}}})
    assert code == 2
    assert "methods.small.purifer is not a known key; did you mean purifier?" in err
    code, _, err = compare(claims=[{"better": "large", "worse": "tiny", "says": "size helps"}])
    assert code == 2
    assert "claims.0.worse must be one of the methods small, large, got 'tiny'" in err


def test_a_folder_that_is_a_run_is_refused(compare: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    code, _, err = compare()
    assert code == 1
    assert "out is a run directory; a comparison has one for each method in it. Take another --out." in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "config.json"]


@pytest.fixture
def labels() -> list[int]:
    """Of the 360 digits."""
    return [int(label) for label in load_images(DigitsData(name="digits")).labels]


def log_of(name: str, labels: list[int], indices: range) -> str:
    """A log that certifies the label of each of these images at 0.3."""
    lines = [f"{i}\t{labels[i]}\t{labels[i]}\t0.3\t1\t0:00:01.5" for i in indices]
    Path(name).write_text("\n".join(["idx\tlabel\tpredict\tradius\tcorrect\ttime", *lines]) + "\n")
    return name


def test_published_logs_stand_beside_the_methods(
    compare: Run, labels: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the images that the methods have; here before any method has a table."""
    logs = {"cohen": {"files": {0.25: log_of("noise", labels, range(360))}, "num_estimation": 1000}}
    code, out, err = compare("--dry-run", logs=logs)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()] == ["method", "small", "large", "all"]
    monkeypatch.setattr("raycp.distributed.suite.run_suite", lambda *_: SuiteOutcome())
    code, out, err = compare(logs=logs)
    assert code == 0, err
    assert out.splitlines()[1].split()[:7] == ["cohen", "(imported)", "0.25", "3", "100.0", "100.0", "0.0"]
    assert "imported from noise (σ = 0.25): of its 360 images the 3 that the methods have." in err
    assert "without a table yet: small, large" in err
    assert "\ncohen,True," in (tmp_path / "out" / "comparison" / "table.csv").read_text()
    assert not (tmp_path / "out" / "cohen").exists()


def test_logs_that_cannot_stand_beside_the_methods(compare: Run, labels: list[int], tmp_path: Path) -> None:
    def refused(path: str, *arguments: str, **sections: Any) -> tuple[int, str]:
        code, out, err = compare(*arguments, logs={"cohen": {"files": {0.25: path}}}, **sections)
        assert not out and not (tmp_path / "out").exists()
        return code, err

    code, err = refused(log_of("later", labels, range(100, 200)))
    assert code == 2
    assert "later is of 100 images [100–199]; the methods are of 3 images [0–2] of" in err
    assert "mixed_images: true in the suite allows it" in err
    wrong = [(label + 1) % 10 for label in labels]
    for mixed in (False, True):
        code, err = refused(log_of("wrong", wrong, range(360)), mixed_images=mixed)
        assert code == 1
        assert "the labels in wrong contradict those of" in err and "at 3 of 3 images" in err
    code, err = refused(log_of("header", labels, range(0)))
    assert code == 1 and "header has a header but no images" in err
    code, err = refused("gone")
    assert code == 1
    assert "One file or folder of this suite not found here:\n  logs.cohen.files.0.25: gone\n" in err


def test_some_methods_run_without_the_logs(
    compare: Run, monkeypatch: pytest.MonkeyPatch, labels: list[int]
) -> None:
    """As without the files of other methods; what is absent is said."""
    monkeypatch.setattr("raycp.distributed.suite.run_suite", lambda *_: SuiteOutcome())
    logs = {
        "cohen": {"files": {0.25: "gone"}},
        "here": {"files": {0.25: log_of("noise", labels, range(360))}},
    }
    code, out, err = compare("--only", "small", logs=logs)
    assert code == 0, err
    assert out.splitlines()[1].startswith("here (imported) ")
    assert "left out, because their files are not here: cohen" in err
    code, _, err = compare("--only", "cohen", logs=logs)
    assert code == 2 and "--only cohen: it is a published log, for which nothing is run" in err


def test_suites_of_what_is_not_there(compare: Run, tmp_path: Path) -> None:
    """Unknown purifiers, and images of another data set or selection."""
    code, _, err = compare(methods={"small": {"purifier": {"kind": "densepurer"}}})
    assert code == 2
    assert "methods.small.purifier.kind must be one of 'none', " in err and "got 'densepurer'" in err
    other = {"name": "npz", "path": "x.npz"}
    code, _, err = compare(methods={"small": None, "other": {"data": other}})
    assert code == 2
    assert 'methods.other is of another data set than small, data.name: "digits" -> "npz".' in err
    code, _, err = compare(methods={"small": None, "fewer": {"data": {"select": {"count": 2}}}})
    assert code == 2
    assert "methods.fewer is of other images than small, data.select.count: 3 -> 2." in err
    assert "mixed_images: true in the suite allows others" in err
    assert not (tmp_path / "out").exists()

"""Published logs in a suite: how they are written, and claims about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.config.missing import require_files_of_methods
from raycp.config.suite import LogFiles, load_suite
from raycp.errors import ConfigError, MissingFilesError
from tests.config.small_suite import SHARED, message, suite

LOG = {"files": {0.25: "logs/noise_0.25", 0.5: "logs/noise_0.50"}, "num_estimation": 100_000, "alpha": 0.001}


def test_logs_of_others_are_read_with_their_claims(tmp_path: Path) -> None:
    """YAML's numbers become text on the way through --set; they are noise levels again."""
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump({**SHARED, "logs": {"cohen": LOG}}))
    loaded = load_suite(path, ["logs.cohen.alpha=0.01"])
    assert list(loaded.methods) == ["one", "two"]
    assert loaded.logs["cohen"].files == LOG["files"] and loaded.logs["cohen"].alpha == 0.01
    assert loaded.radii == (0.0, 0.25)
    with pytest.raises(ConfigError, match="--only cohen: it is a published log, for which nothing is run"):
        loaded.only(["cohen"])


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ({"files": {}}, "logs.cohen.files must have at least 1 entry, got {}."),
        ({"files": {-0.5: "a"}}, "logs.cohen.files must be greater than 0, got -0.5."),
        ({"files": {"noisy": "a"}}, "logs.cohen.files.noisy"),
        ({"files": ["a"]}, "logs.cohen.files must be a mapping of keys to values, got ['a']."),
        ({}, "logs.cohen.files is required."),
        ({"sigma": 0.5}, "logs.cohen.sigma is not a known key; known keys here: files, num_selection,"),
        ({"files": {0.5: "a"}, "alpha": 1.0}, "logs.cohen.alpha must be less than 1, got 1.0."),
        ({"files": {0.5: "a"}, "num_estimation": 0}, "logs.cohen.num_estimation must be at least 1, got 0."),
    ],
)
def test_logs_that_are_written_wrongly(log: dict[str, Any], line: str) -> None:
    assert line in message(logs={"cohen": log})


def test_logs_have_names_of_their_own() -> None:
    assert "logs.one must not have the name of a method." in message(logs={"one": LOG})
    assert "logs.a.b must be letters, digits, dashes and underscores." in message(logs={"a.b": LOG})


def test_a_noise_level_given_twice(tmp_path: Path) -> None:
    """0.5 and 0.50 are one: the first file would be lost without a word."""
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SHARED) + "logs:\n  cohen:\n    files: {0.5: a, 0.50: b}\n")
    with pytest.raises(ConfigError, match=r"the key '0\.50' is given twice"):
        load_suite(path)


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (
            {"better": "one", "worse": "cohn"},
            "claims.0.worse must be one of the methods one, two or the logs cohen, got 'cohn'.",
        ),
        (
            {"better": "one", "worse": "cohen", "sigmas": [1.0]},
            "claims.0.sigmas must be among those of one and cohen, 0.25, 0.5, got 1.",
        ),
        (
            {"better": "one", "worse": "cohen", "radii": [0.5]},
            "claims.0.radii must be among those of one and cohen, 0, 0.25, got 0.5.",
        ),
        (
            {"better": "cohen", "worse": "cohen"},
            "better and worse must be two methods, got 'cohen' for both.",
        ),
    ],
)
def test_claims_about_logs(claim: dict[str, Any], line: str) -> None:
    assert line in message(logs={"cohen": LOG}, claims=[{"says": "it helps", **claim}])
    assert suite(logs={"cohen": LOG}, claims=[{"better": "one", "worse": "cohen", "says": "it helps"}]).claims


def test_missing_logs_are_named_like_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {0.25: "mine/noise_0.25", 0.5: "logs/smoothing/data/noise_0.50", 1.0: "s3://bucket/noise_1.00"}
    logs = {"cohen": LogFiles(files=files)}
    with pytest.raises(MissingFilesError) as caught:
        require_files_of_methods({}, logs)
    assert str(caught.value).splitlines() == [
        "3 files or folders of this suite not found here:",
        "  logs.cohen.files.0.25: mine/noise_0.25",
        "  logs.cohen.files.0.5: logs/smoothing/data/noise_0.50",
        "      `git clone https://github.com/locuslab/smoothing logs/smoothing`",
        "  logs.cohen.files.1.0: s3://bucket/noise_1.00",
    ]
    (tmp_path / "noise").touch()
    require_files_of_methods({}, {"cohen": LogFiles(files={0.25: "noise"})})

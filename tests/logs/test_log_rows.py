"""Published logs as rows of a comparison: which of their images stand there, and where they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_logs import HEADER, write

from raycp.config import parse_config
from raycp.config.suite import Suite, SuiteFile, resolve_suite
from raycp.errors import ConfigError, DataError
from raycp.logs.rows import method_images, read_rows
from raycp.report.results import read_sigmas
from raycp.runs import RunResults

LABELS = np.arange(40) * 7 % 10


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 images of classes 0 to 9, and the same pixels under other labels."""
    monkeypatch.chdir(tmp_path)
    images = np.zeros((40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "ours.npz", images=images, labels=LABELS)
    np.savez(tmp_path / "others.npz", images=images, labels=(LABELS + 1) % 10)
    return tmp_path


def log(path: str, indices: range, labels: np.ndarray = LABELS, radius: str = "0.5") -> str:
    """A log that certifies the label of every image; its path."""
    lines = [f"{i} {labels[i]} {labels[i]} {radius} 1 0:00:01.5" for i in indices]
    return str(write(Path(path), HEADER, *lines))


def suite(files: dict[float, str], **sections: Any) -> Suite:
    raw: dict[str, Any] = {
        "data": {"name": "npz", "path": "ours.npz", "select": {"skip": 5}},
        "purifier": {"kind": "none"},
        "classifier": {"kind": "directory", "path": "net"},
        "certify": {"sigmas": [0.25, 0.5], "num_estimation": 1000, "radii": [0, 0.25, 0.6]},
        "methods": {"plain": None, "other": {"classifier": {"path": "net2"}}},
        "logs": {"cohen": {"files": files, "num_estimation": 100_000, "alpha": 0.001}},
    }
    return resolve_suite(parse_config(SuiteFile, raw | sections), "suite.yaml")


def row(loaded: Suite) -> RunResults:
    (found,) = read_rows(loaded, loaded.logs)
    return found


def test_of_a_larger_log_the_images_of_the_methods_are_taken() -> None:
    """All 40 at 0.5, every second at 0.25: both hold the eight of the methods, with their own radii."""
    path = log("half", range(0, 40), radius="0.55")
    found = row(suite({0.5: path, 0.25: log("quarter", range(0, 40, 5))}))
    assert (found.name, found.num_images, found.complete) == ("cohen", 8, True)
    quarter, half = read_sigmas(found)
    for results, radius in ((quarter, 0.5), (half, 0.55)):
        assert results.image_index_M.tolist() == list(range(0, 40, 5))
        assert results.label_M.tolist() == LABELS[::5].tolist()
        assert set(results.radius_M) == {radius}
    assert found.config["config"]["certify"] == {
        "sigmas": [0.25, 0.5], "num_estimation": 100_000, "alpha": 0.001, "radii": [0.0, 0.25, 0.6],
    }  # fmt: skip
    notes = {file["sigma"]: file["notes"] for file in found.config["files"]}
    assert notes == {0.25: [], 0.5: ["of its 40 images the 8 that the methods have."]}


def test_no_log_reads_no_data(folder: Path) -> None:
    loaded = suite({0.5: "gone"})
    (folder / "ours.npz").unlink()
    assert read_rows(loaded, {}) == []


def test_a_log_of_other_images_is_refused_unless_asked_for(folder: Path) -> None:
    """Every twentieth beside every fifth: a part of them, but no match."""
    files = {0.25: log("a", range(0, 40, 5)), 0.5: log("b", range(0, 40, 20))}
    with pytest.raises(ConfigError) as caught:
        row(suite(files))
    assert str(caught.value) == (
        f"logs.cohen: {files[0.5]} is of 2 images [0, 20]; the methods are of 8 images [0, 5, …, 35 (every 5th)] of "
        f"the arrays in ours.npz. The log lacks 6 of them, and the rows of a table are of the "
        "same images. "
        "Take images that the log has (data.select), or: mixed_images: true in the suite allows it, and says so below "
        "the table."
    )
    found = row(suite(files, mixed_images=True))
    assert [len(results.image_index_M) for results in read_sigmas(found)] == [8, 2]


def test_labels_that_contradict_the_data_are_refused_always(folder: Path) -> None:
    labels = LABELS.copy()
    labels[10] = 9
    path = log("a", range(40), labels)
    for asked in (False, True):
        with pytest.raises(DataError) as caught:
            row(suite({0.5: path}, mixed_images=asked))
        assert str(caught.value) == (
            f"logs.cohen: the labels in {path} contradict those of the arrays in ours.npz at 1 of 8 images, "
            "for example image 10, class 9 in the log and 0 in the data. The log is of another data set, or of its "
            "images in another order: it cannot stand in one table with them, not even with mixed_images: true."
        )
    labels[10], labels[11] = LABELS[10], 9  # image 11 is none of the methods'
    assert row(suite({0.5: log("b", range(40), labels)})).num_images == 8


def test_a_log_without_idx_is_refused_unless_asked_for() -> None:
    lines = [f"{label} {label} 0.5 1 0:00:01" for label in LABELS[::5]]
    path = str(write(Path("bare"), *lines))
    with pytest.raises(ConfigError, match="bare has no idx, so that it is not known which 8 images it is of"):
        row(suite({0.5: path}))
    assert row(suite({0.5: path}, mixed_images=True)).num_images == 8
    claims = [{"better": "plain", "worse": "cohen", "says": "it helps"}]
    with pytest.raises(ConfigError, match=r"claims\.0: the log of cohen has no idx"):
        row(suite({0.5: path}, mixed_images=True, claims=claims))


def test_of_mixed_methods_a_log_has_all_images() -> None:
    methods = {"plain": None, "fewer": {"data": {"select": {"skip": 20}}}}
    loaded = suite({0.5: log("a", range(40))}, methods=methods, mixed_images=True)
    (images,) = method_images(loaded)
    assert images.image_index_M.tolist() == list(range(0, 40, 5)) and len(images.of_method["fewer"]) == 2
    assert row(loaded).num_images == 8


def test_of_mixed_data_sets_a_log_belongs_to_the_one_that_its_labels_fit() -> None:
    methods = {"plain": None, "elsewhere": {"data": {"path": "others.npz", "select": {"skip": 20}}}}
    path = log("a", range(40), (LABELS + 1) % 10)
    assert row(suite({0.5: path}, methods=methods, mixed_images=True)).num_images == 2
    with pytest.raises(DataError, match=r"contradict those of the arrays in ours\.npz at 8 of 8 images"):
        row(suite({0.5: path}))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {0.5: range(3, 40, 5)},
            r"plain is of 8 images \[0, 5, …, 35 \(every 5th\)\], cohen of 8 images \[3, 8",
        ),
        ({0.25: range(0, 40, 5), 0.5: range(0, 40, 20)}, "are not of the same images at each sigma"),
    ],
)
def test_a_claim_that_cannot_be_paired_is_refused(files: dict[float, range], line: str) -> None:
    claims = [{"better": "plain", "worse": "cohen", "says": "it helps"}]
    paths = {sigma: log(f"noise_{sigma}", indices) for sigma, indices in files.items()}
    with pytest.raises(ConfigError, match=line):
        row(suite(paths, mixed_images=True, claims=claims))
    assert row(suite(paths, mixed_images=True))


def test_a_part_of_the_images_is_enough_for_a_claim() -> None:
    claims = [{"better": "plain", "worse": "cohen", "says": "it helps"}]
    assert row(suite({0.5: log("a", range(0, 40, 20))}, mixed_images=True, claims=claims)).num_images == 2


def test_radii_above_the_claimed_reach_are_refused() -> None:
    with pytest.raises(DataError, match="8 radii are larger than the claims allow"):
        row(suite({0.25: log("a", range(40), radius="0.97")}))


def test_a_log_with_a_header_alone_is_refused() -> None:
    path = str(write(Path("a"), HEADER))
    with pytest.raises(DataError, match="has a header but no images"):
        row(suite({0.25: path}))

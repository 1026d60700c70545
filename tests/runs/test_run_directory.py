"""Run directories: begun once, resumed, refused to others; what readers get, and what damage says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_configs import run_config

from raycp.certify.rules import CertificateRow, PredictionRow
from raycp.certify.units import Outcome
from raycp.errors import RunMismatchError, StorageError
from raycp.runs import RunDirectory, make_manifest, open_run, read_run, recorded_manifest
from raycp.runs import manifest as manifest_module
from raycp.runs.tables import CERTIFICATES, PREDICTIONS, result_table
from raycp.storage import Storage

IMAGE_INDEX, LABELS = np.array([40, 20, 60]), np.array([1, 2, 3])
SIGMAS = [0.5, 0.25]


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_git_commit", lambda: None)


def manifest_of(kind: str = "certify", **certify: Any) -> dict[str, Any]:
    config = run_config(sections={"certify": {"sigmas": SIGMAS, "radii": [0.0], **certify}})
    return make_manifest(
        kind,  # type: ignore[arg-type]
        config,
        {"purifier": "aa", "classifier": "bb"},
        {"sha256": "cc", "source": "s", "image_index": IMAGE_INDEX.tolist(), "class_names": None},
        num_classes=4,
    )


def begun(folder: Path, kind: str = "certify") -> RunDirectory:
    return open_run(Storage(str(folder)), manifest_of(kind))


def certificate(label: int, radius: float = 0.3, predicted: int | None = None) -> CertificateRow:
    predicted = label if predicted is None else predicted
    return CertificateRow(
        selected=predicted, predicted=predicted, radius=radius, p_A_lower=0.8, p_B_upper=0.2, n_A=90, n=100, n0=10,
        correct=predicted == label, stop_reason="complete",
    )  # fmt: skip


def outcome(sigma: float, image: int, row: Any = None) -> Outcome:
    row = row or certificate(int(LABELS[image]), radius=sigma + image)
    return Outcome(sigma, image, row, num_samples=110 + image, seconds=1.5, numerics="cpu x")


ALL = [outcome(sigma, image) for sigma in SIGMAS for image in (2, 0, 1)]


def table_of(outcomes: list[Outcome], kind: str = "certify") -> pa.Table:
    return result_table(kind, outcomes, LABELS, IMAGE_INDEX, manifest_of(kind))


def test_begin_and_resume(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "run"))
    assert recorded_manifest(storage) is None
    manifest = manifest_of()
    assert begun(tmp_path / "run").manifest == manifest
    assert recorded_manifest(storage) == json.loads(json.dumps(manifest))
    # Resumed with other versions, another place of the data, other engine settings: what was recorded stays.
    later = manifest | {"versions": {"python": "4"}, "git_commit": "abc"}
    before = storage.read("config.json")
    run = open_run(storage, later)
    assert run.manifest["versions"] == manifest["versions"]
    assert storage.read("config.json") == before


def test_another_configuration_is_refused_with_the_differences(tmp_path: Path) -> None:
    begun(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunMismatchError) as caught:
        open_run(Storage(str(tmp_path)), manifest_of(alpha=0.01, num_estimation=10))
    assert str(caught.value) == (
        f"{tmp_path} holds a run with another configuration:\n"
        "  certify.num_estimation: 100000 -> 10\n"
        "  certify.alpha: 0.001 -> 0.01\n"
        "Take another --out, or go back to the recorded values."
    )
    with pytest.raises(RunMismatchError, match='kind: "certify" -> "predict"'):
        open_run(Storage(str(tmp_path)), manifest_of("predict"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", ["file", "folder", "counts of a run without its config.json"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    if content == "file":
        (tmp_path / "thesis.tex").write_text("x")
    else:
        (tmp_path / ("photos" if content == "folder" else "counts")).mkdir()
    with pytest.raises(StorageError) as caught:
        begun(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is not empty and holds no config.json: it is not a run directory. Take another --out."
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_a_locked_empty_folder_is_a_fresh_one(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with storage.locked():
        begun(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is damaged: Expecting value"),
        (b'{"kind": "certify"', r"is damaged: Expecting"),
        (b"\xff\xfe", r"is damaged: "),
        (b"[1]", r"is not the config\.json of a certification run\."),
        (b'{"kind": "certify", "config": {}}', r"is not the config\.json of a certification run\."),
        (
            b'{"kind": "train", "fingerprint": "", "config": {}, "data": {}}',
            r"is not the config\.json of a cert",
        ),
    ],
)
def test_a_config_json_that_is_not_one(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    for action in (lambda: begun(tmp_path), lambda: read_run(str(tmp_path))):
        with pytest.raises(StorageError, match=rf"^{tmp_path}/config\.json {message}"):
            action()
    assert (tmp_path / "config.json").read_bytes() == content


def test_read_run(tmp_path: Path) -> None:
    run = begun(tmp_path / "my run")
    run.write_results(table_of(ALL[:4]))
    partly = read_run(str(tmp_path / "my run") + "/")
    assert (partly.name, partly.path) == ("my run", str(tmp_path / "my run"))
    assert (partly.num_images, partly.complete, partly.examples) == (3, False, None)
    assert partly.config["fingerprint"] == manifest_of()["fingerprint"]
    assert partly.certificates.equals(table_of(ALL[:4]))
    run.write_results(table_of(ALL))
    assert not run.has_examples()
    examples = {"sigma": np.array([0.25, 0.5]), "clean": np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2)}
    run.write_examples(examples)
    assert run.has_examples()
    whole = read_run(str(tmp_path / "my run"))
    assert whole.complete
    assert whole.examples is not None and set(whole.examples) == {"sigma", "clean"}
    assert all((whole.examples[name] == array).all() for name, array in examples.items())
    assert all(whole.examples[name].dtype == array.dtype for name, array in examples.items())


def test_read_run_by_uri(tmp_path: Path) -> None:
    begun(tmp_path / "run").write_results(table_of(ALL))
    assert read_run((tmp_path / "run").as_uri()).name == "run"


def test_nothing_to_read(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StorageError) as caught:
            read_run(str(folder))
        assert str(caught.value) == f"{folder} holds no run: there is no config.json."
    for kind, name in (("certify", "certificates"), ("predict", "predictions")):
        begun(tmp_path / kind, kind)
        with pytest.raises(StorageError) as caught:
            read_run(str(tmp_path / kind))
        assert str(caught.value) == (
            f"{tmp_path / kind} has no {name}.parquet yet; run `raycp {kind}` with --out {tmp_path / kind} to go on."
        )


def test_a_damaged_table_of_results(tmp_path: Path) -> None:
    """One bit of every ninth byte: refused by name, or the same table."""
    begun(tmp_path).write_results(table_of(ALL))
    file = tmp_path / "certificates.parquet"
    whole, expected = file.read_bytes(), table_of(ALL)
    refused = 0
    for position in range(0, len(whole), 9):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        file.write_bytes(flipped)
        try:
            found = read_run(str(tmp_path)).certificates
            assert found.equals(expected) or not found.schema.equals(CERTIFICATES)  # a renamed column
        except StorageError as err:
            refused += 1
            message = str(err)
            assert message.startswith(f"{file} is damaged (")
            assert message.endswith(
                f"It is derived: delete it and run `raycp certify` again with --out {tmp_path}; nothing is drawn anew."
            )
    assert refused > 0
    for content in (b"", whole[:-1], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(StorageError, match=rf"^{file} is damaged"):
            read_run(str(tmp_path))


def test_damaged_examples(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.write_results(table_of(ALL))
    run.write_examples({"sigma": np.arange(50.0), "noisy": np.zeros((5, 1, 8, 8), np.uint8)})
    file = tmp_path / "examples.npz"
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    for content in (b"", b"PK", whole[:-1], whole[:middle], whole[middle:], b"\0" * 40, flipped):
        file.write_bytes(content)
        with pytest.raises(StorageError, match=rf"^{file} is damaged \(.*\); delete it\.$"):
            read_run(str(tmp_path))


def test_examples_run_no_code(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.write_results(table_of(ALL))
    np.savez(tmp_path / "examples.npz", sigma=np.array([{"a": 1}], dtype=object))
    with pytest.raises(StorageError, match=r"examples\.npz is damaged"):
        read_run(str(tmp_path))


def test_rows_of_certificates() -> None:
    skipped = CertificateRow(0, -1, 0.0, 0.0, 1.0, 0, 0, 10, False, "skipped_wrong")
    outcomes = [outcome(0.5, 1), outcome(0.25, 2, skipped), outcome(0.5, 0), outcome(0.25, 0)]
    table = table_of(outcomes)
    assert table.schema.equals(CERTIFICATES)
    rows = table.to_pylist()
    # By noise level, then by position in the run, not by index or arrival.
    assert [(row["sigma"], row["image_index"], row["label"]) for row in rows] == [
        (0.25, 40, 1), (0.25, 60, 3), (0.5, 40, 1), (0.5, 20, 2),
    ]  # fmt: skip
    assert rows[3] == {
        "sigma": 0.5, "image_index": 20, "label": 2, "selected": 2, "predicted": 2, "radius": 1.5,
        "grid_radius": None, "p_A_lower": 0.8, "p_B_upper": 0.2, "n_A": 90, "n": 100, "n0": 10, "correct": True,
        "stop_reason": "complete", "samples": 111, "seconds": 1.5, "numerics": "cpu x",
    }  # fmt: skip
    assert rows[1]["stop_reason"] == "skipped_wrong" and rows[1]["predicted"] == -1 and not rows[1]["correct"]
    assert all(field.metadata[b"unit"] for field in table.schema)


def test_rows_of_predictions() -> None:
    row = PredictionRow(predicted=-1, n_A=55, n_B=45, n=100, correct=False, stop_reason="complete")
    table = table_of([outcome(0.25, 2, row)], "predict")
    assert table.schema.equals(PREDICTIONS)
    assert table.to_pylist() == [
        {
            "sigma": 0.25, "image_index": 60, "label": 3, "predicted": -1, "n_A": 55, "n_B": 45, "n": 100,
            "correct": False, "stop_reason": "complete", "samples": 112, "seconds": 1.5, "numerics": "cpu x",
        }
    ]  # fmt: skip


def test_metadata_of_results(tmp_path: Path) -> None:
    begun(tmp_path).write_results(table_of([]))
    table = pq.read_table(tmp_path / "certificates.parquet")
    assert len(table) == 0
    assert table.schema.equals(CERTIFICATES, check_metadata=False)
    manifest = manifest_of()
    assert table.schema.metadata[b"fingerprint"].decode() == manifest["fingerprint"]
    assert json.loads(table.schema.metadata[b"raycp"]) == json.loads(json.dumps(manifest))


def test_ledger_of_a_run_carries_its_fingerprint(tmp_path: Path) -> None:
    from counted_blocks import counted

    from raycp.sampling.blocks import Phase

    run = begun(tmp_path)
    run.ledger(IMAGE_INDEX).append([counted(1, Phase.SELECTION, 0, 10, 4)])
    (file,) = (tmp_path / "counts").iterdir()
    table = pq.read_table(file)
    assert table.schema.metadata[b"fingerprint"].decode() == manifest_of()["fingerprint"]
    assert table["image_index"].to_pylist() == [20]


@pytest.mark.parametrize("rule", ["fixed", "decide", "anytime"])
def test_a_run_that_spent_its_alpha_is_not_extended(rule: str, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    open_run(storage, manifest_of(rule=rule, num_estimation=500))
    with pytest.raises(
        RunMismatchError, match=f"under certify.rule = {rule} cannot be extended: it spends all of alpha"
    ):
        open_run(storage, manifest_of(rule=rule, num_estimation=5_000))
    with pytest.raises(RunMismatchError) as caught:  # fewer samples are no extension
        open_run(storage, manifest_of(rule=rule, num_estimation=50))
    assert "cannot be extended" not in str(caught.value)

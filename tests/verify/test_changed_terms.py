"""A configuration, data or boundaries that are not those the run was made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import change_config, failures, rewrite, rows_of

from raycp.verify import verify_run

Make = Callable[[str], Path]


@pytest.mark.parametrize("name", ["fixed", "decide", "anytime", "e_process"])
def test_another_alpha(spoiled: Make, name: str) -> None:
    run = spoiled(name)
    change_config(run, "certify", "alpha", 0.0009)
    found = failures(run)
    assert found["config"][0].startswith("fingerprint: recorded ")
    assert any(line.endswith("alpha: 0.001 -> 0.0009") for line in found["certificates"])


@pytest.mark.parametrize("name", ["fixed", "decide", "anytime", "e_process"])
def test_another_alpha_with_every_fingerprint_forged(spoiled: Make, name: str) -> None:
    """The counts are the same, what they certify is not."""
    run = spoiled(name)
    change_config(run, "certify", "alpha", 0.01, forge=True)
    found = failures(run)
    assert "config" not in found
    assert any(": radius stored" in line for line in found["certificates"])
    if name in ("decide", "anytime"):
        assert any("efficacy at look" in line for line in found["boundaries"])
        assert "the digest of the boundary tables is not that of the derived ones" in found["boundaries"][0]


def test_other_images(spoiled: Make, weights: Path, tmp_path: Path) -> None:
    """One label, or one pixel; a copy elsewhere is the same data."""
    run = spoiled("fixed")
    with np.load(weights.with_name("digits.npz")) as archive:
        arrays = dict(archive)
    other = tmp_path / "other.npz"
    np.savez(other, **arrays)
    overrides = [f"data.path={other}"]
    assert not [line for check in verify_run(str(run), overrides, None) for line in check.failures]
    for name in arrays:
        arrays[name].flat[0] += 1
        np.savez(other, **arrays)
        checks = verify_run(str(run), overrides, None)
        assert [check.name for check in checks if not check.passed] == ["data"]
        assert checks[1].failures[0].startswith("data: SHA-256 of images and labels is ")
        arrays[name].flat[0] -= 1


def test_another_hash_of_the_data_forged(spoiled: Make) -> None:
    run = spoiled("fixed")
    path = run / "config.json"
    manifest = json.loads(path.read_text())
    recorded = manifest["data"]["sha256"]
    manifest["data"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    change_config(run, "certify", "alpha", 0.001, forge=True)
    checks = verify_run(str(run))
    assert {check.name: check.failures for check in checks if check.failures} == {
        "data": [f"data: SHA-256 of images and labels is {recorded[:12]}, recorded 000000000000"],
        "redraw": ["redraw: not done: configuration, data or weights are not those of the run"],
    }
    assert checks[5].verdict.endswith("labels not checked")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("radii", [0.0, 0.25], "radii: recorded [0.0, 0.25], derived [0.0, 0.25, 0.5, 0.75, 1.0]"),
        ("slack", {"0.25": 0.0, "0.5": 0.0}, "slack: recorded"),
        ("caps", [700], "caps: [700] are not what extensions"),
        ("boundaries", "0", None),
    ],
)
def test_terms_that_do_not_follow_from_the_configuration(
    spoiled: Make, key: str, value: Any, message: str | None
) -> None:
    run = spoiled("decide" if key == "boundaries" else "fixed")
    path = run / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    found = failures(run)
    assert any(
        line.startswith("certificates.parquet: its copy of config.json") for line in found["certificates"]
    )
    if message is None:
        assert "digest" in found["boundaries"][0]
    else:
        assert found["terms"][0].startswith(message)


def test_an_extension_that_is_hidden(spoiled: Make) -> None:
    """Without its former N an e_process run would have looked elsewhere."""
    run = spoiled("e_process-extended")
    path = run / "config.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("caps") == [400]
    path.write_text(json.dumps(manifest))
    rows = [row for row in rows_of(run / "certificates.parquet") if row["n"] == 400]
    assert rows
    lines = failures(run)["certificates"]
    for row in rows:
        assert any(line.startswith(f"sigma {row['sigma']:g}, image {row['image_index']}: ") for line in lines)


def test_a_changed_boundary(spoiled: Make) -> None:
    run = spoiled("decide")
    path = run / "boundaries.parquet"
    rows = rows_of(path)
    row = next(row for row in rows if row["sigma"] == 0.5 and row["radius"] == 0.25)
    name = "boundaries.parquet: sigma 0.5, radius 0.25: "
    row["futility"][3] += 1
    rewrite(path, rows)
    stored = row["futility"][3]
    assert failures(run) == {
        "boundaries": [f"{name}futility at look {row['looks'][3]}: stored {stored}, derived {stored - 1}"]
    }
    row["futility"][3] -= 1
    row["efficacy"][0] -= 3
    rewrite(path, rows)
    found = failures(run)["boundaries"]
    stored = row["efficacy"][0]
    assert f"{name}efficacy at look {row['looks'][0]}: stored {stored}, derived {stored + 3}" in found
    assert any(
        line.startswith(f"{name}exact error 0.00") and line.endswith("above alpha 0.001") for line in found
    )
    assert any(line.startswith(f"{name}certified by fewer votes than ") for line in found)
    assert all(line.startswith(name) for line in found)


def test_boundaries_too_many_and_too_few(spoiled: Make) -> None:
    run = spoiled("decide")
    path = run / "boundaries.parquet"
    rows = rows_of(path)
    name = f"boundaries.parquet: sigma {rows[2]['sigma']:g}, radius {rows[2]['radius']:g}"
    rewrite(path, rows[:2] + rows[3:])
    assert failures(run) == {"boundaries": [f"{name} is missing"]}
    rewrite(path, [*rows, rows[2]])
    assert failures(run) == {"boundaries": [f"{name} appears twice"]}
    path.unlink()
    assert failures(run) == {"boundaries": ["boundaries.parquet: the file is missing"]}

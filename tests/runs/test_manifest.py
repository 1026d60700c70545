"""The fingerprint: changed by every field a row depends on, by no other; found by walking through all fields."""

from __future__ import annotations

import copy
import json
from functools import reduce
from typing import Any

import pytest
from run_configs import CANDIDATES, CLASSIFIERS, DATA, PURIFIERS, leaves, run_config

from raycp.config import RunConfig, parse_config, resolved
from raycp.errors import ConfigError, StorageError
from raycp.runs import manifest as manifest_module
from raycp.runs.manifest import Kind, make_manifest, manifest_differences, recorded_batch_size

WEIGHTS = {"purifier": "aa", "classifier": "bb"}
DATA_SET = {"sha256": "cc", "source": "/data", "image_index": [5, 25], "class_names": None}
LOCATIONS = {
    ("data", "path"), ("purifier", "model", "path"), ("classifier", "path"), ("classifier", "weights"),
}  # fmt: skip
# One choice only, or tags of a union, or exclusive with another field: compared below.
UNWALKED = {("composition",), ("evaluate", "features"), ("evaluate", "select"), ("evaluate", "perceptual"),
            ("data", "name"), ("purifier", "kind"), ("classifier", "kind"), ("certify", "rule"),
            ("classifier", "pretrained"), ("data", "select", "indices")}  # fmt: skip


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_git_commit", lambda: None)


def manifest_of(config: RunConfig, kind: Kind = "certify", **changes: Any) -> dict[str, Any]:
    arguments = {"weights": WEIGHTS, "data": DATA_SET, "num_classes": 10} | changes
    return make_manifest(kind, config, **arguments)  # type: ignore[arg-type]


def fingerprint(config: RunConfig, kind: Kind = "certify", **changes: Any) -> str:
    value: str = manifest_of(config, kind, **changes)["fingerprint"]
    return value


def changed(config: RunConfig, path: tuple[str, ...]) -> RunConfig:
    """The configuration with another valid value at one place."""
    raw = resolved(config)
    before = reduce(lambda node, key: node[key], path, raw)
    for candidate in CANDIDATES:
        trial = copy.deepcopy(raw)
        reduce(lambda node, key: node[key], path[:-1], trial)[path[-1]] = candidate
        try:
            other = parse_config(RunConfig, trial)
        except ConfigError:
            continue
        after = reduce(lambda node, key: node[key], path, resolved(other))
        if after != before:
            assert [p for p in leaves(resolved(other)) if value_at(other, p) != value_at(config, p)] == [path]
            return other
    raise AssertionError(f"no candidate fits {'.'.join(path)} = {before!r}")


def value_at(config: RunConfig, path: tuple[str, ...]) -> Any:
    return reduce(lambda node, key: node[key], path, resolved(config))


VARIANTS = [
    *((purifier, "timm", "parquet") for purifier in PURIFIERS),
    *(("none", classifier, "cifar10") for classifier in CLASSIFIERS),
    *(("none", "directory", data) for data in DATA),
]


@pytest.mark.parametrize(("purifier", "classifier", "data"), VARIANTS)
def test_every_field_of_a_certificate_enters_and_no_other(purifier: str, classifier: str, data: str) -> None:
    config = run_config(purifier, classifier, data)
    base = manifest_of(config)
    walked = 0
    for path in leaves(resolved(config)):
        if path in UNWALKED:
            continue
        walked += 1
        other = manifest_of(changed(config, path))
        free = path in LOCATIONS or path[0] in ("engine", "predict", "evaluate")
        assert (other["fingerprint"] == base["fingerprint"]) == free, path
        lines = manifest_differences(base, other)
        if free:
            assert lines == []
        else:
            name = ".".join(path)
            assert len(lines) == (2 if name == "classifier.kwargs" else 1)
            assert all(line.startswith((f"{name}: ", f"{name}.")) and " -> " in line for line in lines)
    assert walked >= 30


COMPOSITION = {"threshold": 0.6, "core": CLASSIFIERS["directory"]}


def test_every_field_of_a_composition_enters_but_the_place_of_its_core() -> None:
    config = run_config(sections={"composition": COMPOSITION})
    for kind in ("certify", "predict"):
        base = manifest_of(config, kind)  # type: ignore[arg-type]
        assert base["fingerprint"] != fingerprint(run_config(), kind)  # type: ignore[arg-type]
        walked = [
            path for path in leaves(resolved(config)) if path[0] == "composition" and path[-1] != "kind"
        ]
        assert ("composition", "threshold") in walked and ("composition", "core", "mean") in walked
        for path in walked:
            other = manifest_of(changed(config, path), kind)  # type: ignore[arg-type]
            free = path == ("composition", "core", "path")
            assert (other["fingerprint"] == base["fingerprint"]) == free, path
            assert len(manifest_differences(base, other)) == (not free), path
    prints = {fingerprint(config, weights=WEIGHTS | {"core": core}) for core in ("cc", "dd")}
    assert len({fingerprint(config), *prints}) == 3
    (line,) = manifest_differences(manifest_of(run_config()), manifest_of(config))
    assert line.startswith("composition: (absent) -> {")


def test_runs_of_before_there_were_compositions_keep_their_fingerprint() -> None:
    """As the version before computed them for the same configuration: what was finished then is finished now."""
    assert "composition" in resolved(run_config())
    assert {kind: fingerprint(run_config(), kind) for kind in ("certify", "predict", "evaluate")} == {  # type: ignore[arg-type]
        "certify": "db14dbc54ed0c342b63a31a747f0e4d27e2e0095c5b1878cfab8ffc0196f1ac7",
        "predict": "c7a31c9b2aa893cd102afc37f4b81b6716ee39e9a1faaf30c30856bae7218173",
        "evaluate": "a2d7482cb94bc1d8d8d1c44b281930e004cf8806f60d84ae3c32567499f55cf6",
    }


def test_the_samples_of_an_e_process_run_may_grow() -> None:
    def prints(rule: str) -> list[str]:
        sections = [{"certify": {"rule": rule, "num_estimation": n}} for n in (1_000, 2_000)]
        return [fingerprint(run_config(sections=section)) for section in sections]

    for rule in ("fixed", "decide", "anytime"):
        first, second = prints(rule)
        assert first != second
    first, second = prints("e_process")
    assert first == second


def test_every_field_of_a_prediction_enters_and_no_other() -> None:
    config = run_config()
    base = manifest_of(config, "predict")
    used = {("certify", "sigmas"), ("certify", "noise"), ("certify", "seed")}
    for path in leaves(resolved(config)):
        if path in UNWALKED:
            continue
        free = (
            path in LOCATIONS
            or path[0] in ("engine", "evaluate")
            or (path[0] == "certify" and path not in used)
        )
        other = manifest_of(changed(config, path), "predict")
        assert (other["fingerprint"] == base["fingerprint"]) == free, path
        assert bool(manifest_differences(base, other)) != free


def test_every_field_of_an_evaluation_enters_and_no_other() -> None:
    sections = {
        "evaluate": {
            "features": {"kind": "classifier", "classifier": CLASSIFIERS["directory"]},
            "perceptual": {"net": "vgg", "weights": "/w/vgg.pth"},
        }
    }
    config = run_config(sections=sections)
    base = manifest_of(config, "evaluate")
    used = {("certify", "sigmas"), ("certify", "noise"), ("certify", "seed")}
    places = LOCATIONS | {
        ("evaluate", "features", "classifier", "path"),
        ("evaluate", "perceptual", "weights"),
    }
    unwalked = UNWALKED | {("evaluate", "features", "kind"), ("evaluate", "features", "classifier", "kind"),
                           ("evaluate", "perceptual", "net")}  # fmt: skip
    walked = 0
    for path in leaves(resolved(config)):
        if path in unwalked:
            continue
        walked += path[0] == "evaluate"
        free = (
            path in places or path[0] in ("engine", "predict") or (path[0] == "certify" and path not in used)
        )
        other = manifest_of(changed(config, path), "evaluate")
        assert (other["fingerprint"] == base["fingerprint"]) == free, path
        assert bool(manifest_differences(base, other)) != free
    assert walked >= 8
    inception = {"features": {"kind": "inception", "weights": "/w/inception.pth"}}
    alex = {"perceptual": {"net": "alex", "weights": "/w/vgg.pth"}}
    found = {fingerprint(run_config(sections={"evaluate": sections["evaluate"] | other}), "evaluate")
             for other in ({}, inception, alex, {"features": None}, {"perceptual": None})}  # fmt: skip
    assert len(found) == 5
    assert fingerprint(config) == fingerprint(run_config())


def test_unions_exclusive_fields_weights_data_kind_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config()
    found = [fingerprint(config), fingerprint(config, "predict")]
    found += [fingerprint(run_config(purifier)) for purifier in PURIFIERS if purifier != "consistency"]
    found += [fingerprint(run_config(classifier=name)) for name in CLASSIFIERS if name != "timm"]
    found += [fingerprint(run_config(data=name)) for name in DATA if name != "parquet"]
    pretrained = CLASSIFIERS["timm"] | {"weights": None, "pretrained": True}
    found.append(fingerprint(run_config(sections={"classifier": pretrained})))
    found.append(
        fingerprint(run_config(sections={"data": DATA["parquet"] | {"select": {"indices": [5, 25]}}}))
    )
    found.append(fingerprint(config, weights=WEIGHTS | {"purifier": "other"}))
    found.append(fingerprint(config, weights=WEIGHTS | {"purifier": None}))
    found.append(fingerprint(config, weights=WEIGHTS | {"classifier": "other"}))
    found.append(fingerprint(config, data=DATA_SET | {"sha256": "other"}))
    monkeypatch.setattr(manifest_module, "FORMAT", manifest_module.FORMAT + 1)
    found.append(fingerprint(config))
    assert len(set(found)) == len(found)


def test_the_place_of_the_data_does_not_enter() -> None:
    config = run_config()
    elsewhere = {"sha256": "cc", "source": "/elsewhere", "image_index": [5, 25], "class_names": ["a"]}
    assert fingerprint(config, data=elsewhere) == fingerprint(config)


def test_a_fingerprint_survives_the_file() -> None:
    config = run_config()
    manifest = json.loads(json.dumps(manifest_of(config)))
    again = parse_config(RunConfig, manifest["config"])
    assert again == config
    assert fingerprint(again) == manifest["fingerprint"]
    assert manifest_differences(manifest, manifest_of(config)) == []


def test_content_of_a_manifest() -> None:
    config = run_config()
    manifest = manifest_of(config)
    assert manifest["kind"] == "certify"
    assert manifest["config"] == resolved(config)
    assert (manifest["weights"], manifest["data"], manifest["num_classes"]) == (WEIGHTS, DATA_SET, 10)
    networks = {"diffusers", "timm", "torchvision", "transformers"}
    assert {"python", "raycp", "torch", "ray", "numpy", "scipy", "pyarrow"} | networks == set(
        manifest["versions"]
    )
    assert manifest["versions"]["numpy"][0].isdigit()
    assert len(manifest["fingerprint"]) == 64


def test_differences_of_several_kinds_at_once() -> None:
    old = manifest_of(run_config())
    new = manifest_of(
        run_config(sections={"certify": {"alpha": 0.01, "radii": [0.0, 0.5]}, "engine": {"replicas": 9}}), "certify",
        weights=WEIGHTS | {"purifier": None}, data=DATA_SET | {"sha256": "dd"},
    )  # fmt: skip
    assert sorted(manifest_differences(old, new)) == [
        "certify.alpha: 0.001 -> 0.01",
        'data.sha256: "cc" -> "dd"',
        'weights.purifier: "aa" -> null',
    ]
    kinds = manifest_differences(manifest_of(run_config()), manifest_of(run_config(), "predict"))
    assert 'kind: "certify" -> "predict"' in kinds
    other_format = manifest_differences(old | {"format": 0}, old)
    assert other_format == ["format: 0 -> 1"]


def test_an_evaluation_of_its_own_images_is_that_of_these_images() -> None:
    """Whether data.select or evaluate.select named them is no difference: `prepare_job` takes `of_evaluation`."""
    own = run_config(sections={"evaluate": {"select": {"start": 2, "skip": 3}}})
    data = run_config(sections={"data": resolved(own)["data"] | {"select": {"start": 2, "skip": 3}}})
    assert fingerprint(own.of_evaluation, "evaluate") == fingerprint(data, "evaluate")
    assert fingerprint(own, "certify") == fingerprint(run_config(), "certify")


def test_the_batch_size_of_a_run_is_a_number() -> None:
    manifest = manifest_of(run_config(sections={"numerics": {"batch_size": 48}}))
    assert recorded_batch_size(manifest) == 48
    manifest["config"]["numerics"]["batch_size"] = "auto"
    with pytest.raises(StorageError, match=r"has numerics.batch_size: auto, which no run writes"):
        recorded_batch_size(manifest)

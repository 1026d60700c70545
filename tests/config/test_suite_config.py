"""Suites: what a method shares and what is its own, and messages that lead to where a mistake is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.config import RunConfig, load_config, parse_config, resolved
from raycp.config.missing import require_files_of_methods
from raycp.config.suite import load_suite, recorded_differences
from raycp.errors import ConfigError, MissingFilesError
from tests.config.small_suite import SHARED, message, suite

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SUITES = sorted(path for path in CONFIGS.rglob("compare*.yaml") if path.parent.name != "digits")


def test_a_method_is_an_ordinary_configuration() -> None:
    """Keys are laid over the shared ones at every depth; a section of another kind takes the whole place."""
    plain = {name: section for name, section in SHARED.items() if name != "methods"}
    methods = suite(
        mixed_images=True,
        methods={
            "one": None,
            "two": {"purifier": {"model": {"path": "models/other"}}, "certify": {"alpha": 0.01}},
            "three": {"purifier": {"kind": "none"}, "data": {"select": {"count": 7}}},
            "four": {"data": {"name": "digits"}},
        },
    ).methods
    assert list(methods) == ["one", "two", "three", "four"]
    assert methods["one"] == parse_config(RunConfig, plain)
    two = plain | {
        "purifier": plain["purifier"] | {"model": {"path": "models/other"}},
        "certify": plain["certify"] | {"alpha": 0.01},
    }
    assert methods["two"] == parse_config(RunConfig, two)
    three = plain | {
        "purifier": {"kind": "none"},
        "data": plain["data"] | {"select": {"skip": 5, "count": 7}},
    }
    assert methods["three"] == parse_config(RunConfig, three)
    assert methods["four"] == parse_config(RunConfig, plain | {"data": {"name": "digits"}})


def test_overrides_reach_shared_sections_and_methods(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(SHARED))
    overrides = ["certify.num_estimation=2000", "methods.one.certify.alpha=0.01", "engine.replicas=3"]
    methods = load_suite(path, overrides).methods
    assert [config.certify.num_estimation for config in methods.values()] == [2000, 2000]
    assert [config.certify.alpha for config in methods.values()] == [0.01, 0.001]
    assert [config.engine.replicas for config in methods.values()] == [3, 3]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"methods": {"one": None, "two": {"purifer": {"kind": "none"}}}},
            "methods.two.purifer is not a known key; did you mean purifier?",
        ),
        (
            {"methods": {"one": {"certify": {"alhpa": 0.1}}}},
            "methods.one.certify.alhpa is not a known key; did you mean certify.alpha?",
        ),
        (
            {"methods": {"one": {"purifier": {"kind": "densepurer"}}}},
            "methods.one.purifier.kind must be one of",
        ),
        ({"certify": {"alhpa": 0.1}}, "certify.alhpa is not a known key; did you mean certify.alpha?"),
        ({"certify": {"sigmas": [0.5, -1]}}, "certify.sigmas.1 must be greater than 0, got -1"),
        ({"data": {"name": "npz"}}, "data.path is required."),
        ({"purifier": None}, "methods.one.purifier is required."),
        ({"certfy": {}}, "certfy is not a known key; did you mean certify?"),
        ({"methods": {}}, "methods must have at least 1 entry"),
        ({"methods": ["one"]}, "methods must be a mapping of keys to values"),
        ({"methods": {"one": 3}}, "methods.one must be a mapping of keys to values"),
        ({"methods": {"a/b": None}}, "methods.a/b must be letters, digits, dashes and underscores"),
        (
            {"methods": {"comparison": None}},
            "methods.comparison must be letters, digits, dashes and underscores, and neither",
        ),
        (
            {"methods": {"evaluations": None}},
            "methods.evaluations must be letters, digits, dashes and underscores, and neither",
        ),
        (
            {"methods": {"one": None, "two": {"engine": {"address": "auto"}}}},
            "methods.two.engine.address must be as in one, None, got 'auto': one Ray cluster runs all methods.",
        ),
    ],
)
def test_mistakes_are_named_where_they_are_written(changes: dict[str, Any], line: str) -> None:
    text = message(**changes)
    assert line in text
    assert sum(line in other for other in text.splitlines()) == 1, "a shared mistake is told once"


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (
            {"better": "one", "worse": "too"},
            "claims.0.worse must be one of the methods one, two, digits, got 'too'.",
        ),
        ({"better": "one", "worse": "one"}, "claims.0: better and worse must be two methods, got 'one' for both."),
        ({"better": "one", "worse": "digits"}, "claims.0: one and digits must have the same data"),
        ({"better": "one", "worse": "two", "sigmas": [1.0]}, "claims.0.sigmas must be among those of one and two, "
         "0.25, 0.5, got 1."),
        ({"better": "one", "worse": "two", "radii": [0.5]}, "claims.0.radii must be among those of one and two, "
         "0, 0.25, got 0.5."),
        ({"better": "one", "worse": "two", "says": ""}, "claims.0.says"),
        ({"better": "one", "wrose": "two"}, "claims.0.wrose is not a known key; did you mean claims.0.worse?"),
    ],
)  # fmt: skip
def test_claims_about_what_is_not_there(claim: dict[str, Any], line: str) -> None:
    methods = {**SHARED["methods"], "digits": {"data": {"name": "digits"}}}
    assert line in message(methods=methods, claims=[{"says": "it helps", **claim}])


def test_methods_of_other_images_are_refused_unless_asked_for() -> None:
    methods = {
        "one": None,
        "two": {"purifier": {"kind": "none"}},
        "fewer": {"data": {"select": {"skip": 25}}},
        "digits": {"data": {"name": "digits"}},
    }
    rule = (
        "The rows of a table are of the same images; mixed_images: true in the suite allows others, and says so below "
        "the table."
    )
    assert message(methods=methods).splitlines()[1:] == [
        f"  methods.fewer is of other images than one, data.select.skip: 5 -> 25. {rule}",
        f'  methods.digits is of another data set than one, data.name: "npz" -> "digits". {rule}',
    ]
    assert suite(methods=methods, mixed_images=True).mixed_images


def test_a_claim_of_methods_without_a_common_sigma() -> None:
    methods = {"one": None, "two": {"certify": {"sigmas": [1.0]}}}
    claims = [{"better": "one", "worse": "two", "says": "it helps"}]
    assert "one and two must have one of certify.sigmas in common" in message(methods=methods, claims=claims)


def test_a_name_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("methods:\n  one: {}\n  two: {}\n  one: {}\n")
    with pytest.raises(ConfigError, match="the key 'one' is given twice"):
        load_suite(path)


def test_methods_that_are_not_alike_are_named() -> None:
    """Purifier, classifier and noise levels are what methods differ in; everything else is said."""
    other = {"certify": {"sigmas": [1.0]}, "classifier": {"path": "models/other"}}
    assert suite(methods={"one": None, "two": other}).notes() == []
    methods = {
        "one": None,
        "fewer": {"data": {"select": {"skip": 25}}},
        "reseeded": {"certify": {"seed": 1}},
        "elsewhere": {"data": {"path": "other.npz"}},
        "half": {"numerics": {"dtype": "bfloat16"}},
    }
    others = "; its images or their noise are others"
    assert suite(methods=methods, mixed_images=True).notes() == [
        "fewer differs from one in data.select.skip: 5 -> 25",
        f"reseeded differs from one in certify.seed: 0 -> 1{others}",
        f'elsewhere differs from one in data.path: "digits.npz" -> "other.npz"{others}',
        'half differs from one in numerics.dtype: "float32" -> "bfloat16"',
    ]


def test_a_run_of_another_configuration_is_told_from_what_a_run_chose_itself() -> None:
    config = suite().methods["one"]
    chosen = {"device": "cpu", "batch_size": 64, "channels_last": False}
    record = resolved(config)
    record["numerics"] |= chosen
    record["classifier"]["path"] = "elsewhere/net"
    record["engine"]["replicas"] = 7
    assert recorded_differences(config, record) == []
    record["certify"]["seed"] = 5
    record["numerics"]["dtype"] = "bfloat16"
    record["purifier"]["num_steps"] = 40
    assert recorded_differences(config, record) == [
        "purifier.num_steps: 40 -> 18",
        "certify.seed: 5 -> 0",
        'numerics.dtype: "bfloat16" -> "float32"',
    ]


def test_only_some_methods_in_the_order_of_the_file() -> None:
    assert list(suite().only([])) == ["one", "two"]
    assert list(suite().only(["two"])) == ["two"]
    assert list(suite().only(["two", "one"])) == ["one", "two"]
    with pytest.raises(ConfigError, match="--only three: this suite has the methods one, two, and no other"):
        suite().only(["three"])


def test_all_missing_files_are_named_with_the_methods_that_need_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    methods = suite().methods
    with pytest.raises(MissingFilesError) as caught:
        require_files_of_methods(methods)
    assert str(caught.value).splitlines() == [
        "4 files or folders of this suite not found here:",
        "  data.path (all methods): digits.npz",
        "  purifier.model.path (one): models/cm",
        "  classifier.path (all methods): models/net",
        "  purifier.model.path (two): models/other",
    ]
    (tmp_path / "digits.npz").touch()
    for name in ("net", "cm"):
        (tmp_path / "models" / name).mkdir(parents=True)
    with pytest.raises(MissingFilesError) as caught:  # although nothing is known of where it comes from
        require_files_of_methods(methods)
    assert str(caught.value).splitlines() == [
        "One file or folder of this suite not found here:",
        "  purifier.model.path (two): models/other",
        "Nothing is missing for one.",
    ]
    (tmp_path / "models" / "other").mkdir()
    require_files_of_methods(methods)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_methods_are_those_of_the_single_configurations(path: Path) -> None:
    """So that DIR/NAME is the same run whichever command made it; the digits have a protocol of their own."""
    methods = load_suite(path).methods
    for name, config in methods.items():
        single = path.with_name(f"{name}.yaml")
        if not single.exists():  # sigma is a part of the name
            stem, _, number = name.rpartition("-")
            single = path.with_name(f"{stem}-{int(number) / 100:.2f}.yaml")
        alone = load_config(RunConfig, single)
        # What only `raycp evaluate` reads may stand there alone.
        assert config == alone.model_copy(update={"evaluate": config.evaluate}), name


@pytest.mark.parametrize(
    "name", ["cifar10/compare", "cifar10/compare-published", "imagenet64/compare"], ids=lambda name: name
)
def test_every_file_of_the_published_suites_has_an_origin(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(CONFIGS / f"{name}.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFilesError) as caught:
        require_files_of_methods(suite.methods, suite.logs)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) >= 10 and len(lines) % 2 == 0
    assert all(not line.startswith("      ") for line in lines[::2])
    assert all(line.startswith("      ") for line in lines[1::2])

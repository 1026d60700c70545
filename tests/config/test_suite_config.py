"""Suites: what a method shares and what is its own, and messages that lead to where a mistake is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.config import RunConfig, load_config, parse_config, resolved
from raycp.config.missing import require_files_of_methods
from raycp.config.suite import LogFiles, Suite, SuiteFile, load_suite, recorded_differences, resolve_suite
from raycp.errors import ConfigError, MissingFilesError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SUITES = sorted(path for path in CONFIGS.rglob("compare*.yaml") if path.parent.name != "digits")

SHARED: dict[str, Any] = {
    "data": {"name": "npz", "path": "digits.npz", "select": {"skip": 5}},
    "purifier": {"kind": "consistency", "model": {"path": "models/cm"}, "num_steps": 18},
    "classifier": {"kind": "directory", "path": "models/net"},
    "certify": {"sigmas": [0.25, 0.5], "num_estimation": 1000, "radii": [0, 0.25]},
    "methods": {"one": None, "two": {"purifier": {"model": {"path": "models/other"}}}},
}


def suite(**changes: Any) -> Suite:
    return resolve_suite(parse_config(SuiteFile, {**SHARED, **changes}), "suite.yaml")


def message(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        suite(**changes)
    return str(caught.value)


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


LOG = {"files": {0.25: "logs/noise_0.25", 0.5: "logs/noise_0.50"}, "num_estimation": 100_000, "alpha": 0.001}


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


SPLIT = {
    "quarter": {"certify": {"sigmas": [0.25]}},
    "half": {"certify": {"sigmas": [0.5]}},
    "both": None,
    "fewer": {"certify": {"sigmas": [1.0]}, "data": {"select": {"skip": 25}}},
}
LOG_OF_ONE = {"files": {1.0: "logs/noise_1.00"}}


def test_envelopes_are_over_methods_and_logs() -> None:
    envelopes = {"trained": ["half", "quarter"], "with_log": ["quarter", "cohen"]}
    read = suite(methods=SPLIT, logs={"cohen": LOG_OF_ONE}, envelopes=envelopes, mixed_images=True)
    assert read.envelopes == {"trained": ("half", "quarter"), "with_log": ("quarter", "cohen")}
    assert suite().envelopes == {}
    with pytest.raises(ConfigError) as caught:
        read.only(["trained"])
    assert str(caught.value) == (
        "--only trained: it is an envelope, for which nothing is run; run its members, half, quarter."
    )


@pytest.mark.parametrize(
    ("envelope", "line"),
    [
        (["quarter"], "envelopes.e must have at least 2 entries, got ['quarter']."),
        ([], "envelopes.e must have at least 2 entries, got []."),
        ("quarter", "envelopes.e must be a list, got 'quarter'."),
        (["quarter", 1], "envelopes.e.1"),
        (
            ["quarter", "hlaf"],
            "envelopes.e.1 must be one of the methods quarter, half, both, fewer or the logs cohen, got 'hlaf'.",
        ),
        (["e", "half"], "envelopes.e.0 must be one of the methods"),
        (["half", "quarter", "half"], "envelopes.e must have each member once, got 'half' twice."),
        (
            ["quarter", "both"],
            "envelopes.e: quarter and both must not both have sigma 0.25. An envelope over several methods is for one "
            "with a network per noise level: each sigma is of one member.",
        ),
        (["fewer", "cohen"], "envelopes.e: fewer and cohen must not both have sigma 1. An"),
        (
            ["quarter", "fewer"],
            "envelopes.e: quarter and fewer must have the same section data, differ in data.select.skip: 5 -> 25. An "
            "envelope is of the same images at all its sigmas, with mixed_images: true as well.",
        ),
    ],
)  # fmt: skip
def test_envelopes_that_cannot_be(envelope: Any, line: str) -> None:
    text = message(methods=SPLIT, logs={"cohen": LOG_OF_ONE}, envelopes={"e": envelope}, mixed_images=True)
    assert line in text and len(text.splitlines()) == 2


def test_envelopes_have_names_of_their_own() -> None:
    def named(name: str) -> str:
        return message(
            methods=SPLIT, logs={"cohen": LOG}, envelopes={name: ["quarter", "half"]}, mixed_images=True
        )

    assert "envelopes.both must not have the name of a method or log." in named("both")
    assert "envelopes.cohen must not have the name of a method or log." in named("cohen")
    assert "envelopes.a.b must be letters, digits, dashes and underscores." in named("a.b")


@pytest.mark.parametrize("key", ["better", "worse"])
def test_a_claim_about_an_envelope(key: str) -> None:
    other = {"better": "worse", "worse": "better"}[key]
    text = message(
        methods={name: SPLIT[name] for name in ("quarter", "half", "both")},
        envelopes={"trained": ["quarter", "half"]},
        claims=[{key: "trained", other: "both", "says": "training helps"}],
    )
    assert text.splitlines()[1:] == [
        f"  claims.0.{key} must be one of the methods quarter, half, both, got 'trained', an envelope: claims are of "
        "single sigmas."
    ]


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


EVALUATE = {"draws": 2, "features": {"kind": "classifier"}}


def test_a_section_evaluate_measures_every_method_but_compositions() -> None:
    core = {"kind": "directory", "path": "models/core"}
    methods = {
        "one": None,
        "two": {"evaluate": {"select": {"count": 5}}},
        "three": {"evaluate": None},
        "four": {"composition": {"threshold": 0.5, "core": core}},
    }
    read = suite(methods=methods, evaluate=EVALUATE)
    assert read.evaluated == ("one", "two")
    assert [read.methods[name].evaluate.draws for name in methods] == [2, 2, 1, 1]
    assert read.methods["two"].evaluate.features == read.methods["one"].evaluate.features
    assert read.methods["three"].evaluate.features is None, "no file of it is looked for"
    assert suite(methods=methods).evaluated == ("two",)
    assert suite(methods={"one": None}, evaluate={}).evaluated == ("one",)
    assert "evaluate.drows is not a known key" in message(evaluate={"drows": 1})
    assert "methods.two.evaluate.drows is not a known key" in message(
        methods={"two": {"evaluate": {"drows": 1}}}, evaluate=EVALUATE
    )
    composed = {"composition": {"threshold": 0.5, "core": core}, "evaluate": {"drows": 1}}
    assert "methods.four.evaluate.drows is not a known key" in message(methods={"four": composed})
    assert "evaluate.drows is not a known key" in message(
        methods={"one": {"evaluate": None}}, evaluate={"drows": 1}
    )


def test_the_purified_images_of_a_suite_are_measured_alike() -> None:
    """Or figures of different networks and draws would stand in one column, and in one set of claims."""
    two = {"evaluate": {"draws": 5}}
    assert message(evaluate=EVALUATE, methods={"one": None, "two": two}).splitlines()[1:] == [
        "  methods.two.evaluate must be as in one, but for select, differs in evaluate.draws: 2 -> 5: the purified "
        "images of a suite are measured alike."
    ]
    other = {"classifier": {"path": "models/other"}}
    lines = message(evaluate=EVALUATE, methods={"one": None, "two": other})
    assert "evaluate.features.classifier must name a classifier: one and two have different ones" in lines
    named = EVALUATE | {"features": {"kind": "classifier", "classifier": SHARED["classifier"]}}
    assert suite(evaluate=named, methods={"one": None, "two": other}).evaluated == ("one", "two")


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        ({"better": "one", "worse": "two", "metric": "fdi"}, "claims.0.metric must be one of"),
        ({"better": "one", "worse": "two", "metric": "accuracy"}, "claims.0.metric must be one of"),
        ({"better": "one", "worse": "two", "metric": "fid", "radii": [0.25]},
         "claims.0.radii: a metric of purified images has no radius"),
        ({"better": "one", "worse": "off", "metric": "fid"},
         "claims.0.metric: the purified images of off are not measured."),
        ({"better": "one", "worse": "log", "metric": "fid"},
         "claims.0.metric: the purified images of log are not measured."),
        ({"better": "one", "worse": "two", "metric": "lpips"},
         "claims.0.metric: lpips is not measured; it needs evaluate.perceptual."),
        ({"better": "one", "worse": "seeded", "metric": "transport"},
         "claims.0: one and seeded must have the same data (or evaluate.select), certify.seed and certify.noise"),
        ({"better": "one", "worse": "part", "metric": "transport"},
         "claims.0: one and part must have the same data (or evaluate.select), certify.seed and certify.noise"),
        ({"better": "one", "worse": "two", "metric": "fid", "sigmas": [1.0]},
         "claims.0.sigmas must be among those of one and two, 0.25, 0.5, got 1."),
    ],
)  # fmt: skip
def test_claims_about_metrics_that_are_not_there(claim: dict[str, Any], line: str) -> None:
    methods = {
        **SHARED["methods"],
        "off": {"evaluate": None},
        "seeded": {"certify": {"seed": 5}},
        "part": {"data": {"select": {"skip": 10}}},
    }
    text = message(
        methods=methods, evaluate=EVALUATE, mixed_images=True, logs={"log": {"files": {0.25: "log"}}},
        claims=[{"says": "so", **claim}],
    )  # fmt: skip
    assert line in text


def test_an_evaluation_is_of_another_configuration_only_where_that_enters_it() -> None:
    config = suite(evaluate=EVALUATE).methods["one"]

    def differences(**changes: Any) -> list[str]:
        raw = resolved(config)
        for section, values in changes.items():
            raw[section] |= values
        return recorded_differences(config, raw, "evaluate")

    assert differences() == []
    assert (
        differences(certify={"num_estimation": 7, "alpha": 0.01, "radii": None}, engine={"replicas": 3}) == []
    )
    assert differences(evaluate={"draws": 3}) == ["evaluate.draws: 3 -> 2"]
    assert differences(certify={"seed": 5}) == ["certify.seed: 5 -> 0"]
    assert differences(evaluate={"select": {"start": 0, "skip": 5, "count": None, "indices": None}}) != []
    whole = suite(evaluate=EVALUATE | {"select": {}}).methods["one"]
    measured = resolved(whole.of_evaluation)
    assert measured["data"]["select"]["skip"] == 1 and measured["evaluate"]["select"] is None
    assert recorded_differences(whole, measured, "evaluate") == []
    assert recorded_differences(config, measured, "evaluate") == ["data.select.skip: 1 -> 5"]


def test_methods_of_other_images_can_be_evaluated_on_the_same() -> None:
    claim = {"better": "one", "worse": "part", "metric": "transport", "says": "so"}
    methods = {"one": None, "part": {"data": {"select": {"skip": 10}}}}
    shared = {"methods": methods, "mixed_images": True, "claims": [claim]}
    assert "must have the same data (or evaluate.select)" in message(evaluate=EVALUATE, **shared)
    assert suite(evaluate=EVALUATE | {"select": {"skip": 2}}, **shared).evaluated == ("one", "part")

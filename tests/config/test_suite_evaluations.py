"""The section evaluate of a suite, and claims about metrics."""

from __future__ import annotations

from typing import Any

import pytest

from raycp.config import resolved
from raycp.config.suite import recorded_differences
from tests.config.small_suite import SHARED, message, suite

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

"""Envelopes over methods and logs of a suite: what they may be made of."""

from __future__ import annotations

from typing import Any

import pytest

from raycp.errors import ConfigError
from tests.config.small_suite import message, suite

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
            methods=SPLIT,
            logs={"cohen": LOG_OF_ONE},
            envelopes={name: ["quarter", "half"]},
            mixed_images=True,
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


def test_the_certificates_of_an_envelope_are_as_sure() -> None:
    methods = SPLIT | {"half": {"certify": {"sigmas": [0.5], "alpha": 0.01}}}
    assert (
        "envelopes.e: quarter and half must have the same certify.alpha, got 0.001 and 0.01: the figures of a row are "
        "of certificates that are as sure."
    ) in message(methods=methods, envelopes={"e": ["quarter", "half"]}, mixed_images=True)

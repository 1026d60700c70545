"""From a YAML file and overrides to a frozen configuration and back: nothing is silently ignored or changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raycp.config import (
    Frozen,
    RunConfig,
    differences,
    load_config,
    parse_config,
    resolved,
    without_locations,
)
from raycp.config.base import with_overrides
from raycp.errors import ConfigError

TEXT = """
data: {name: cifar10, path: /data/cifar}
purifier: {kind: edm, model: {path: /models/unet}}
classifier: {kind: directory, path: /models/classifier}
certify:
  alpha: 1e-3        # a string to YAML 1.1
  sigmas: [2.5e-1, 5e-1, 1]
numerics:
  batch_size: 64
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    return path


def load(file: Path, *overrides: str) -> RunConfig:
    return load_config(RunConfig, file, overrides)


def refused(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, *overrides)
    return str(caught.value)


def test_numbers_in_every_notation(file: Path) -> None:
    config = load(file)
    assert config.certify.alpha == 0.001
    assert config.certify.sigmas == (0.25, 0.5, 1.0)
    for text in ("1e-3", "1E-3", "0.001", "1.0e-3", "'0.001'"):
        assert load(file, f"certify.alpha={text}").certify.alpha == 0.001
    assert load(file, "engine.task_seconds=2").engine.task_seconds == 2.0
    assert isinstance(load(file, "engine.task_seconds=2").engine.task_seconds, float)


def test_the_resolved_configuration_is_json_and_reads_back(file: Path) -> None:
    config = load(file, "certify.radii=[0, 0.1]", "certify.seed=18446744073709551615")
    text = json.dumps(resolved(config), allow_nan=False)
    again = parse_config(RunConfig, json.loads(text))
    assert again == config
    assert resolved(again) == resolved(config)
    assert resolved(config)["certify"]["rule"] == "fixed"  # defaults are in
    assert resolved(config)["engine"]["flush_seconds"] == 5.0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(1e-300, 1e300), st.floats(1e-12, 0.999))
def test_floats_survive_unchanged(file: Path, sigma: float, alpha: float) -> None:
    config = load(file, f"certify.sigmas=[{sigma!r}]", f"certify.alpha={alpha!r}")
    again = parse_config(RunConfig, json.loads(json.dumps(resolved(config))))
    assert (again.certify.sigmas, again.certify.alpha) == ((sigma,), alpha)


def test_a_configuration_does_not_change(file: Path) -> None:
    config = load(file)
    with pytest.raises(ValidationError):
        config.certify.alpha = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.certify = None  # type: ignore[assignment,misc]


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("certify.alpha=0.01", ("certify", "alpha"), 0.01),
        ("certify.skip_wrong=true", ("certify", "skip_wrong"), True),
        ("certify.sigmas=[0.1]", ("certify", "sigmas"), [0.1]),
        ("certify.sigmas.1=0.7", ("certify", "sigmas"), [0.25, 0.7, 1.0]),
        ("data.select.count=7", ("data", "select", "count"), 7),  # a section that the file does not have
        ("data.select={start: 3}", ("data", "select", "start"), 3),
        ("engine.address=null", ("engine", "address"), None),
        ("engine.address=a=b", ("engine", "address"), "a=b"),
        (" engine.replicas = 3 ", ("engine", "replicas"), 3),
        ("purifier={kind: none}", ("purifier",), {"kind": "none"}),
        ("numerics.batch_size=auto", ("numerics", "batch_size"), "auto"),
    ],
)
def test_overrides(file: Path, override: str, place: tuple[str, ...], value: Any) -> None:
    found: Any = resolved(load(file, override))
    for key in place:
        found = found[key]
    assert found == value


def test_the_last_override_wins_and_the_file_stays(file: Path) -> None:
    assert load(file, "certify.alpha=0.5", "certify.alpha=0.25").certify.alpha == 0.25
    assert load(file, "certify={alpha: 0.5}", "certify.seed=3").certify.alpha == 0.5
    assert load(file, "certify={alpha: 0.5}").certify.sigmas == (0.25, 0.5, 1.0)  # the default again
    assert file.read_text() == TEXT


def test_the_given_mapping_is_not_changed() -> None:
    raw = {"a": {"b": [1, 2]}}
    assert with_overrides(raw, ["a.b.0=5", "a.c=1", "d=2"]) == {"a": {"b": [5, 2], "c": 1}, "d": 2}
    assert raw == {"a": {"b": [1, 2]}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("certify.alpha", "--set takes dotted.key=value, got 'certify.alpha'."),
        ("=3", "--set takes dotted.key=value, got '=3'."),
        ("certify..alpha=3", "--set takes dotted.key=value, got 'certify..alpha=3'."),
        (".certify=3", "--set takes dotted.key=value, got '.certify=3'."),
        ("certify.alpha=[1", "--set certify.alpha: '[1' is not a YAML value."),
        ("certify={alpha: 1, alpha: 2}", "--set certify: '{alpha: 1, alpha: 2}' is not a YAML value."),
        ("certify.sigmas.3=1", "--set certify.sigmas.3: '3' is not an index of a list of 3."),
        ("certify.sigmas.-1=1", "--set certify.sigmas.-1: '-1' is not an index of a list of 3."),
        ("certify.sigmas.first=1", "--set certify.sigmas.first: 'first' is not an index of a list of 3."),
        ("certify.alpha.more=1", "--set certify.alpha.more: certify.alpha is '1e-3', which has no keys."),
        ("certify.alpha.more.still=1", "--set certify.alpha.more: '1e-3' has no keys."),
    ],
)
def test_malformed_overrides(file: Path, override: str, message: str) -> None:
    assert refused(file, override) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("certify.alhpa=0.1", "certify.alhpa is not a known key; did you mean certify.alpha?"),
        ("certfy.alpha=0.1", "certfy is not a known key; did you mean certify?"),
        ("data.select.indices.0=1", "data.select.indices must be a list, got {'0': 1}."),
        ("certify.alpha=", "certify.alpha: input should be a valid number, got None."),
    ],
)
def test_overrides_are_validated_like_the_file(file: Path, override: str, message: str) -> None:
    assert refused(file, override) == f"{file}:\n  {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "{} must be a YAML mapping with the sections data, purifier, classifier, certify, "),
        ("", "{} must be a YAML mapping with the sections data, purifier, classifier, certify, "),
        ("a: [", "{} is not valid YAML: "),
        ("a: !!python/object/apply:os.system [ls]", "{} is not valid YAML: could not determine a constructor"),
        ("certify: {alpha: 0.1}\ncertify: {seed: 1}", "{} is not valid YAML: the key 'certify' is given twice"),
        ("certify:\n  alpha: 0.1\n  seed: 1\n  alpha: 0.2", "{} is not valid YAML: the key 'alpha' is given twice"),
        ("certify: {{ settings }}", "{} is not valid YAML: while constructing a mapping"),
        ("certify: {kwargs: [{a: 1, a: 2}]}", "{} is not valid YAML: the key 'a' is given twice"),
    ],
)  # fmt: skip
def test_files_that_are_no_configuration(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert refused(file).startswith(message.format(file))


def test_the_line_of_a_repeated_key_is_named(file: Path) -> None:
    file.write_text("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert "line 5, column 3" in refused(file)


def test_anchors_and_merges_are_no_repetition(file: Path) -> None:
    file.write_text(
        TEXT.replace(
            "numerics:", "numerics: &n {threads: 2, dtype: bfloat16}\npredict: {alpha: 0.5}\nunused:"
        )
    )
    assert "unused is not a known key" in refused(file)
    merged = "x: &x {alpha: 0.1, seed: 4}\n" + TEXT.replace("certify:\n", "certify:\n  <<: *x\n")
    file.write_text(merged)
    assert refused(file).splitlines()[1:] == [
        "  x is not a known key; known keys here: data, purifier, classifier, certify, predict, evaluate, "
        "composition, numerics, engine."
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent.yaml"
    assert refused(absent) == f"cannot read the configuration {absent}: No such file or directory."
    assert refused(tmp_path) == f"cannot read the configuration {tmp_path}: Is a directory."
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert refused(binary) == f"{binary} is not a text file; a configuration is YAML in UTF-8."


def test_places_are_left_out_of_the_identity_and_nothing_else(file: Path) -> None:
    config = load(file)
    identity = without_locations(config)
    assert identity["data"] == {
        "name": "cifar10",
        "split": "test",
        "select": resolved(config)["data"]["select"],
    }
    assert "path" not in identity["purifier"]["model"] and "path" not in identity["classifier"]
    assert set(identity["purifier"]["model"]) == set(resolved(config)["purifier"]["model"]) - {"path"}
    assert identity["certify"] == resolved(config)["certify"]


def test_differences() -> None:
    old = {"a": {"b": 1, "c": [1, 2], "gone": None}, "same": {"x": 1}, "kind": {"y": 1}}
    new = {"a": {"b": 2, "c": [2, 1], "new": "x"}, "same": {"x": 1}, "kind": 3}
    assert differences(old, new) == [
        "a.b: 1 -> 2",
        "a.c: [1, 2] -> [2, 1]",
        "a.gone: null -> (absent)",
        'a.new: (absent) -> "x"',
        'kind: {"y": 1} -> 3',
    ]
    assert differences(old, old) == []


def every_model(model: type[Frozen] = Frozen) -> list[type[Frozen]]:
    subclasses = model.__subclasses__()
    return subclasses + [deeper for subclass in subclasses for deeper in every_model(subclass)]


def test_every_model_refuses_unknown_keys_and_stays_frozen() -> None:
    models = every_model()
    assert RunConfig in models and len(models) > 15
    for model in models:
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["frozen"] is True
        assert model.model_config["allow_inf_nan"] is False

"""A small suite, and what is said of a mistake in it."""

from __future__ import annotations

from typing import Any

import pytest

from raycp.config import parse_config
from raycp.config.suite import Suite, SuiteFile, resolve_suite
from raycp.errors import ConfigError

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

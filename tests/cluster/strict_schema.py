"""Kubernetes schemas as JSON Schemas that refuse what `kubectl apply` refuses, and YAML that refuses repeated keys."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

# Custom resources leave this to the API server.
_OBJECT_META = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_BOUNDS = {"int32": 2**31, "int64": 2**63}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural OpenAPI schema with every object closed that does not say that unknown fields are kept.

    Subschemas of anyOf, allOf, oneOf and not are constraints on a value that is described elsewhere; closing them would
    refuse everything, so they stay as they are.
    """
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = strict(schema["additionalProperties"])
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if "items" in schema:
        closed["items"] = strict(schema["items"])
    if schema.get("nullable") and "type" in schema:
        closed["type"] = [schema["type"], "null"]
    if (bound := _BOUNDS.get(schema.get("format", ""))) is not None:
        closed.setdefault("minimum", -bound)
        closed.setdefault("maximum", bound - 1)
    return closed


def _unique_by_keys(validator: Any, keys: list[str], instance: Any, schema: Any) -> Any:
    seen: set[tuple[Any, ...]] = set()
    for item in instance if isinstance(instance, list) else ():
        key = tuple(item.get(name) for name in keys)
        if key in seen:
            yield ValidationError(f"there are two items with {dict(zip(keys, key))}")
        seen.add(key)


_Validator = jsonschema.validators.extend(
    Draft202012Validator, {"x-kubernetes-list-map-keys": _unique_by_keys}
)


def schema_of_crd(crd: dict[str, Any], version: str) -> dict[str, Any]:
    """The strict schema of one version of a custom resource."""
    (found,) = [entry for entry in crd["spec"]["versions"] if entry["name"] == version]
    schema = strict(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = _OBJECT_META
    schema["properties"]["apiVersion"] = {"const": f"{crd['spec']['group']}/{version}"}
    schema["properties"]["kind"] = {"const": crd["spec"]["names"]["kind"]}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    del schema["properties"]["status"]  # written by the operator
    return schema


def validate(manifest: Any, schema: dict[str, Any]) -> None:
    """Raise the most telling ValidationError."""
    error = best_match(_Validator(schema).iter_errors(manifest))
    if error is not None:
        raise error


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"repeated: {repeated}", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The one document of a file."""
    return yaml.load(path.read_text(), Loader=_UniqueKeys)  # noqa: S506 (a SafeLoader)

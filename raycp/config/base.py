"""Frozen configuration models: YAML in, `--set` overrides, resolved JSON out, and errors a user can act on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from raycp.errors import ConfigError


class _LocationMark:
    """Marks a field that says where something is, not what it is: it stays out of the fingerprint."""


# A path or URL. Its content is hashed into the run; the place may change without changing a certificate.
Location = Annotated[str, _LocationMark()]


def _number_from_text(value: object) -> object:
    """Read `1e-3`, which YAML 1.1 takes for a string, as the number it is; `yes` is none."""
    if isinstance(value, bool):
        raise ValueError("must be a number.")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Float = Annotated[float, BeforeValidator(_number_from_text)]


class Frozen(BaseModel):
    """Base of all configuration models: immutable, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, values: Any) -> Any:
        """Refuse `yes` and `true` where pydantic would read 1."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                field = cls.model_fields.get(name)
                if isinstance(value, bool) and field is not None and not _allows_bool(field.annotation):
                    raise ValueError(f"{name} must not be true or false.")
        return values


def _allows_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_allows_bool(argument) for argument in get_args(annotation))


_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that is given twice is an error: one of its values would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for written in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            # 0.5 and 0.50 are one key; << is none.
            key = written.value if written.tag == _MERGE else self.construct_object(written)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {written.value!r} is given twice", written.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _from_yaml(text: str) -> Any:
    return _Loader(text).get_single_data()


ModelT = TypeVar("ModelT", bound=Frozen)


def load_config(model: type[ModelT], path: str | Path, overrides: Sequence[str] = ()) -> ModelT:
    """Read a YAML file, apply `dotted.key=value` overrides in order, and validate.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, an override is malformed, or a value is
            not allowed; the message has one line per problem, each with its dotted path.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"cannot read the configuration {path}: {err.strerror or err}.") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not a text file; a configuration is YAML in UTF-8.") from err
    try:
        raw = _from_yaml(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not valid YAML: {err}") from err
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a YAML mapping with the sections {_known(model)}.")
    return parse_config(model, with_overrides(raw, overrides), source=str(path))


def parse_config(model: type[ModelT], raw: Mapping[str, Any], source: str = "the configuration") -> ModelT:
    """Validate a plain mapping; see `load_config` for the errors."""
    try:
        return model.model_validate(raw)
    except ValidationError as err:
        raise ConfigError(listed(source, [text for _, text in problems(model, raw, err)])) from err


def problems(model: type[BaseModel], raw: Mapping[str, Any], error: ValidationError) -> list[tuple[str, str]]:
    """What is wrong with `raw` as a `model`: the dotted path of each problem, and the sentence that begins with it."""
    found: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
    return list(
        dict.fromkeys(
            (_path(raw, problem["loc"], missing=problem["type"] == "missing"), _describe(model, raw, problem))
            for problem in found
            if not _follows_from_others(problem)
        )
    )


def listed(source: str, lines: Sequence[str]) -> str:
    """The message about problems of one file, a line for each."""
    return f"{source}:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(lines))


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `raw` with each `dotted.key=value` set; values are read as YAML."""
    result: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--set takes dotted.key=value, got {override!r}.")
        try:
            value = _from_yaml(text)
        except yaml.YAMLError as err:
            raise ConfigError(f"--set {key}: {text!r} is not a YAML value.") from err
        node: Any = result
        for depth, part in enumerate(parts[:-1]):
            node = _descend(node, part, ".".join(parts[: depth + 1]), create=True)
        last = parts[-1]
        if isinstance(node, list):
            node[_list_index(node, last, key)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise ConfigError(f"--set {key}: {'.'.join(parts[:-1])} is {node!r}, which has no keys.")
    return result


def _descend(node: Any, part: str, path: str, create: bool) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, part, path)]
    if isinstance(node, dict):
        if create and node.get(part) is None:
            node[part] = {}
        return node[part]
    raise ConfigError(f"--set {path}: {node!r} has no keys.")


def _list_index(node: list[Any], part: str, path: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {path}: {part!r} is not an index of a list of {len(node)}.")
    return int(part)


def resolved(config: Frozen) -> dict[str, Any]:
    """The whole configuration as plain JSON values, defaults included."""
    return config.model_dump(mode="json")


def without_locations(config: Frozen) -> dict[str, Any]:
    """`resolved`, less every field marked `Location`: what a fingerprint is made of."""
    result: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if _is_location(field):
            continue
        if isinstance(value, Frozen):
            result[name] = without_locations(value)
        elif isinstance(value, tuple) and any(isinstance(item, Frozen) for item in value):
            result[name] = [without_locations(item) for item in value]
        elif isinstance(value, dict) and any(isinstance(item, Frozen) for item in value.values()):
            result[name] = {key: without_locations(item) for key, item in value.items()}
        else:
            result[name] = config.model_dump(mode="json", include={name})[name]
    return result


def locations(config: Frozen) -> dict[str, str]:
    """The values of all fields marked `Location` by their keys, such as `purifier.model.path`, in order."""
    found: dict[str, str] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if _is_location(field):
            if isinstance(value, dict):
                found |= {f"{name}.{key}": place for key, place in value.items()}
            elif value is not None:
                found[name] = value
            continue
        if isinstance(value, dict):
            items = {f"{name}.{key}": item for key, item in value.items()}
        elif isinstance(value, tuple):
            items = {f"{name}.{number}": item for number, item in enumerate(value)}
        else:
            items = {name: value}
        for key, item in items.items():
            if isinstance(item, Frozen):
                found |= {f"{key}.{inner}": place for inner, place in locations(item).items()}
    return found


def _is_location(field: FieldInfo) -> bool:
    marks = list(field.metadata)
    for annotation in (field.annotation, *get_args(field.annotation)):
        marks += getattr(annotation, "__metadata__", ())
    return any(isinstance(mark, _LocationMark) for mark in marks)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line per leaf in which two resolved configurations differ: `certify.alpha: 0.001 -> 0.01`."""
    lines: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        path = f"{prefix}{key}"
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{path}.")
        elif before != after or (key in old) != (key in new):
            shown = [
                json.dumps(v) if present else "(absent)"
                for v, present in ((before, key in old), (after, key in new))
            ]
            lines.append(f"{path}: {shown[0]} -> {shown[1]}")
    return lines


def _known(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


_COMPARISONS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "greater than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _describe(model: type[BaseModel], raw: Mapping[str, Any], problem: dict[str, Any]) -> str:
    """One pydantic problem as one sentence: dotted path, what is allowed, what was given."""
    kind, context = problem["type"], problem.get("ctx", {})
    path = _path(raw, problem["loc"], missing=kind == "missing")
    given = problem.get("input")
    if kind == "extra_forbidden":
        known = _keys_at(model, raw, problem["loc"][:-1])
        name = str(problem["loc"][-1])
        parent = path[: -len(name)]
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {parent}{close[0]}?" if close else f"known keys here: {', '.join(known)}."
        return f"{path} is not a known key; {hint}"
    if kind == "missing":
        return f"{path} is required."
    if kind in _COMPARISONS:
        name, words = _COMPARISONS[kind]
        return f"{path} must be {words} {context[name]}, got {given!r}."
    if kind in ("literal_error", "enum"):
        return f"{path} must be one of {context['expected']}, got {given!r}."
    if kind == "union_tag_invalid":
        tag = context["discriminator"].strip("'")
        return f"{path}.{tag} must be one of {context['expected_tags']}, got {context['tag']!r}."
    if kind == "union_tag_not_found":
        return f"{path} needs the key {context['discriminator']}."
    if kind == "value_error":
        return _sentence(path, str(context["error"]), _keys_at(model, raw, problem["loc"]))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{path} must be a mapping of keys to values, got {given!r}."
    if kind == "tuple_type":
        return f"{path} must be a list, got {given!r}."
    if kind == "too_short":
        entries = "entry" if context["min_length"] == 1 else "entries"
        return f"{path} must have at least {context['min_length']} {entries}, got {given!r}."
    what = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{path or 'the configuration'}: {what}, got {given!r}."


def _follows_from_others(problem: dict[str, Any]) -> bool:
    """A list is short after validation because its entries are wrong: they have their own lines."""
    return problem["type"] == "too_short" and bool(len(problem["input"]) >= problem["ctx"]["min_length"])


def _sentence(path: str, message: str, keys: Sequence[str]) -> str:
    """What a validator says, below the path of its model: it names a key of it, or says what it must be."""
    if not path or message.startswith(f"{path.partition('.')[0]}."):
        return message
    first = message.split()[0]
    return (
        f"{path}.{message}"
        if first in keys
        else f"{path} {message}"
        if first == "must"
        else f"{path}: {message}"
    )


def _path(raw: Any, loc: Sequence[int | str], missing: bool) -> str:
    """The dotted path of a problem; what pydantic adds to tell the members of a union apart is left out."""
    parts: list[str] = []
    node = raw
    for position, item in enumerate(loc):
        inside = (isinstance(node, dict) and item in node) or (
            isinstance(node, list) and isinstance(item, int)
        )
        if not inside and not (missing and position == len(loc) - 1):
            continue  # a member of a union, not a key
        parts.append(str(item))
        if inside:
            node = node[item]
    return ".".join(parts)


def _keys_at(model: type[BaseModel], raw: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys that the model at `loc` knows, following tagged unions by their tag."""
    current: Any = model
    for item in loc:
        candidates = _models_in(current)
        # The tag of a union first, which keeps the member that carries it: another member may have a key of that name.
        tagged = [
            c for c in candidates if any(item in get_args(f.annotation) for f in c.model_fields.values())
        ]
        fields = [c.model_fields[item] for c in candidates if item in c.model_fields]
        if len(candidates) > 1 and isinstance(item, str) and tagged:
            current = tagged[0]
        elif fields:
            current = fields[0].annotation
    return [name for candidate in _models_in(current)[:1] for name in candidate.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]

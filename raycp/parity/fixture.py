"""A fixture folder: a checkpoint in its published form, inputs, and what the original code computes from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raycp.errors import ModelError
from raycp.models.file_facts import sha256_of_file
from raycp.models.json_file import read_json_object
from raycp.models.weights import read_tensors

FIXTURE = "fixture.json"


@dataclass(frozen=True)
class Case:
    """One checkpoint of a fixture folder, with what was recorded of it.

    Attributes:
        name: of the folder, and of the variant where it has several.
        path: of fixture.json, for messages.
        content: of fixture.json; of a variant, with its own entries on top.
        checkpoint: the published file or folder.
        recorded: inputs and outputs by name.
        tolerances: of the outputs, as fixture.json has them.
    """

    name: str
    path: Path
    content: Mapping[str, Any]
    checkpoint: Path
    recorded: Mapping[str, Tensor]
    tolerances: Mapping[str, Any]

    def entry(self, *keys: str, of: type | tuple[type, ...] = object) -> Any:
        """A value inside fixture.json."""
        return _entry(self.content, self.path, *keys, of=of)

    def tensor(self, name: str) -> Tensor:
        """A recorded tensor."""
        if name not in self.recorded:
            raise ModelError(f"no tensor {name} is recorded, and its format needs it as an input.")
        return self.recorded[name]


def read_fixture(folder: str | Path) -> list[Case]:
    """Read a folder, and check that its checkpoints are those that the outputs were recorded of.

    Raises:
        ModelError: fixture.json is missing or lacks something, a file is missing or damaged, a tensor is not the one
            that fixture.json describes, or a checkpoint has another SHA-256.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}; give one that holds a {FIXTURE}.")
    path = folder / FIXTURE
    content = read_json_object(path)
    name = _entry(content, path, "name", of=str)
    tolerances = _entry(content, path, "precision", "tolerance_max_abs", of=dict)
    cases = []
    if "variants" in content:
        for variant in _entry(content, path, "variants", of=dict):
            own = _entry(content, path, "variants", variant, of=dict)
            weights = folder / _entry(own, path, "weights", of=str)
            _check_hash(weights, _entry(own, path, "sha256", of=str), path)
            recorded = _recorded(own, path)
            cases.append(Case(f"{name}/{variant}", path, {**content, **own}, weights, recorded, tolerances))
    else:
        checkpoint = _checkpoint(_entry(content, path, "checkpoint", of=dict), path)
        cases.append(Case(name, path, content, checkpoint, _recorded(content, path), tolerances))
    known = {output for case in cases for output in case.recorded}
    if unknown := [output for output in tolerances if output not in known]:
        raise ModelError(f"{path} has a tolerance for {', '.join(unknown)}, of which nothing is recorded.")
    return cases


def _entry(content: Mapping[str, Any], path: Path, *keys: str, of: type | tuple[type, ...] = object) -> Any:
    value: Any = content
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise ModelError(f"{path} has no {'.'.join(keys)}.")
        value = value[key]
    if not isinstance(value, of) or (of is int and isinstance(value, bool)):
        raise ModelError(f"{path}: {'.'.join(keys)} must be of another type, got {value!r}.")
    return value


def _checkpoint(entry: Mapping[str, Any], path: Path) -> Path:
    """The published file or folder, after its SHA-256, and the sizes of what lies beside the weights, were checked."""
    if "file" in entry:
        file: Path = path.parent / _entry(entry, path, "file", of=str)
        _check_hash(file, _hash(entry, path), path)
        return file
    folder: Path = path.parent / _entry(entry, path, "directory", of=str)
    sizes = _entry(entry, path, "files", of=dict)
    # Names begin at the fixture folder in some fixtures, and at the checkpoint's in others.
    found = {name: path.parent / name if (path.parent / name).is_file() else folder / name for name in sizes}
    weights = [name for name in sizes if name.endswith(".safetensors")]
    if len(weights) != 1:
        raise ModelError(f"{path}: checkpoint.files must name one safetensors file, got {weights}.")
    _check_hash(found[weights[0]], _hash(entry, path), path)
    for name, file in found.items():
        size = file.stat().st_size if file.is_file() else None
        if size != sizes[name]:
            raise ModelError(
                f"{file} {'is missing' if size is None else f'has {size} bytes'}, and {path} says that it has "
                f"{sizes[name]}. Fetch the folder again."
            )
    return folder


def _hash(entry: Mapping[str, Any], path: Path) -> str:
    found = [value for key, value in entry.items() if key.startswith("sha256")]
    if len(found) != 1 or not isinstance(found[0], str):
        raise ModelError(f"{path}: checkpoint must have one SHA-256, got {found}.")
    return found[0]


def _check_hash(weights: Path, sha256: str, path: Path) -> None:
    if not weights.is_file():
        raise ModelError(f"{path} names the checkpoint {weights}, and there is no such file.")
    if (found := sha256_of_file(weights)) != sha256:
        raise ModelError(
            f"{weights} is not the checkpoint that the outputs were recorded of: its SHA-256 is {found}, and "
            f"{path} says {sha256}. Fetch the folder again."
        )


def _recorded(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    file = path.parent / _entry(content, path, "io", "file", of=str)
    tensors, described = read_tensors(file, key=str(path)), _entry(content, path, "io", "tensors", of=dict)
    if problems := list(_differences(described, tensors)):
        raise ModelError(
            f"{file} does not hold what {path} says: {'; '.join(problems)}. Fetch the folder again."
        )
    return {name: tensors[name] for name in [*described, *(tensors.keys() - described.keys())]}


def _differences(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, said in described.items():
        if name not in tensors:
            yield f"{name} is missing"
            continue
        tensor = tensors[name]
        found = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        if not isinstance(said, Mapping) or any(said.get(key) != value for key, value in found.items()):
            yield f"{name} is {found['dtype']} {found['shape']}"

"""Reading weights: every supported container, damaged files, and files that would run code."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raycp.errors import ModelError, UnsafeFileError
from raycp.models.weights import read_tensors


class RunsCode:
    """An object whose pickle calls os.system when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self.marker}",))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(4, 3, generator=generator),
        "a.half": torch.randn(5, generator=generator).to(torch.bfloat16),
        "a.steps": torch.tensor(7),
    }


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_safetensors(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, tmp_path / "w.safetensors")
    read = read_tensors(tmp_path / "w.safetensors")
    assert same(dict(sorted(read.items())), dict(sorted(tensors.items())))


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_of_both_containers(tmp_path: Path, tensors: dict[str, Tensor], zipped: bool) -> None:
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(read_tensors(tmp_path / "w.pth"), tensors)


def test_a_nested_state_dict_with_a_prefix(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 3, "model": prefixed}, tmp_path / "w.pt")
    assert same(read_tensors(tmp_path / "w.pt", "model", "module."), tensors)
    with pytest.raises(ModelError, match=r"has no state_dict under 'state'; it holds epoch, model\."):
        read_tensors(tmp_path / "w.pt", "state", "module.")
    with pytest.raises(ModelError, match=r"must hold tensors by name; it holds a int"):
        read_tensors(tmp_path / "w.pt", "epoch")
    with pytest.raises(
        ModelError, match=r"'epoch' is a int; it holds epoch, model\. .* name it with state_key"
    ):
        read_tensors(tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"module\.a\.weight does not start with strip_prefix 'net\.'"):
        read_tensors(tmp_path / "w.pt", "model", "net.")


def test_a_sharded_index(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    names = list(tensors)
    save_file({names[0]: tensors[names[0]]}, tmp_path / "w-1-of-2.safetensors")
    save_file({name: tensors[name] for name in names[1:]}, tmp_path / "w-2-of-2.safetensors")
    index = tmp_path / "w.safetensors.index.json"
    shards = {name: f"w-{1 if name == names[0] else 2}-of-2.safetensors" for name in names}
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    read = read_tensors(index)
    assert same({name: read[name] for name in names}, tensors)

    index.write_text(json.dumps({"weight_map": {**shards, "b": "w-1-of-2.safetensors"}}))
    with pytest.raises(ModelError, match="promises 1 tensors that no shard holds, first b"):
        read_tensors(index)
    for shard in ("w-3-of-2.safetensors", "../w-1-of-2.safetensors"):
        index.write_text(json.dumps({"weight_map": {names[0]: shard}}))
        with pytest.raises(ModelError, match="which is not a file beside it"):
            read_tensors(index)
    index.write_text("[]")
    with pytest.raises(ModelError, match="is not an index of safetensors shards"):
        read_tensors(index)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_that_would_run_code_is_refused_by_the_name_of_what_it_calls(
    tmp_path: Path, zipped: bool
) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "w.pt"
    torch.save({"a": RunsCode(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UnsafeFileError, match=r"w\.pt is a pickle that would call \w+\.system if it were loaded"
    ):
        read_tensors(path)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_that_would_run_code_is_refused(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"ema": RunsCode(marker)}, protocol=protocol))
    # Protocols 0 and 1 have no mark at their start and pass for a torch file that cannot be read.
    with pytest.raises((UnsafeFileError, ModelError), match=r"network\.pkl") as error:
        read_tensors(path)
    if protocol >= 2:
        assert error.type is UnsafeFileError
        assert ".system" in str(error.value)
    assert not marker.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(
        UnsafeFileError, match=r"would call torch\.nn\.modules\.linear\.Linear .* as safetensors"
    ):
        read_tensors(tmp_path / "w.pt")


def test_a_safetensors_name_does_not_let_a_pickle_through(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"a": RunsCode(marker)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="damaged or not a safetensors file"):
        read_tensors(tmp_path / "w.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["safetensors", "zipped", "legacy"])
def test_a_file_cut_off_anywhere_is_refused_by_name(
    tmp_path: Path, tensors: dict[str, Tensor], kind: str
) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zipped")
    content = path.read_bytes()
    # Cut inside the name of a function, a legacy file names another function, which is refused as such.
    allowed = (ModelError, UnsafeFileError) if kind == "legacy" else ModelError
    for length in {*range(0, len(content), max(1, len(content) // 97)), len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(allowed, match=path.name):
            read_tensors(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_is_no_weights_file_at_all(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} is damaged or not a .* file"):
        read_tensors(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_are_a_model_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for trial in range(100):
        (tmp_path / "w.pt").write_bytes(generator.bytes(1 + 7 * trial))
        with pytest.raises(ModelError, match=r"w\.pt"):
            read_tensors(tmp_path / "w.pt")


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^classifier\.weights: there is no file .*w\.pt\.$"):
        read_tensors(tmp_path / "w.pt", key="classifier.weights")
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="must hold tensors by name; it is empty"):
        read_tensors(tmp_path / "w.pt")
    torch.save([torch.ones(2)], tmp_path / "w.pt")
    with pytest.raises(ModelError, match="must hold tensors by name; it holds a list"):
        read_tensors(tmp_path / "w.pt")

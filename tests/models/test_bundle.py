"""Bundles: what the hash sees, what a strict state_dict refuses, and that a bundle's arrays are left alone."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raycp.errors import ModelError
from raycp.models.bundle import fitted_state, load_state, make_bundle, sha256_of


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


RECIPE: dict[str, Any] = {"kind": "test", "epsilon": 1e-5}


def test_the_hash_sees_names_dtypes_shapes_bytes_and_recipe() -> None:
    state = {
        "a": np.arange(6, dtype=np.float32),
        "b": np.zeros((0, 2), np.float32),
        "n": np.int64(3).reshape(()),
    }
    reference = sha256_of(RECIPE, state)
    assert reference == sha256_of(dict(reversed(RECIPE.items())), dict(reversed(state.items())))
    changed = [
        {**state, "a": state["a"] + 1},
        {**state, "a": state["a"].reshape(2, 3)},
        {**state, "a": state["a"].view(np.int32)},
        {**state, "b": np.zeros((2, 0), np.float32)},
        {"c" if name == "a" else name: value for name, value in state.items()},
        {name: value for name, value in state.items() if name != "b"},
    ]
    hashes = [sha256_of(RECIPE, other) for other in changed]
    hashes += [sha256_of({**RECIPE, "epsilon": 1e-6}, state), reference]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_does_not_depend_on_memory_layout() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    reference = sha256_of(RECIPE, {"a": array})
    assert sha256_of(RECIPE, {"a": np.asfortranarray(array)}) == reference
    assert sha256_of(RECIPE, {"a": array.astype(">f4")}) == reference


def test_a_bundle_is_plain_and_counts_parameters() -> None:
    module = network()
    bundle = make_bundle({"widths": (1, 2)}, fitted_state(module, module.state_dict(), "w"), module)
    assert bundle.recipe == json.loads(json.dumps(bundle.recipe)) == {"widths": [1, 2]}
    assert bundle.parameters == 2 * 9 + 2 + 2 + 2
    assert {array.dtype for array in bundle.state.values()} == {np.dtype("float32"), np.dtype("int64")}
    assert list(bundle.state) == list(module.state_dict())


def test_half_and_double_weights_become_float32() -> None:
    module = network()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        given = {name: t.to(dtype) if t.is_floating_point() else t for name, t in module.state_dict().items()}
        state = fitted_state(module, given, "w")
        assert state["0.weight"].dtype == torch.float32
        assert torch.equal(state["0.weight"], given["0.weight"].float())


def test_missing_unknown_and_misshapen_tensors_are_listed_with_both_shapes() -> None:
    module = network()
    given = dict(module.state_dict())
    del given["0.bias"]
    given["0.weight"] = torch.zeros(2, 3, 3, 3)
    given["head"] = torch.zeros(1)
    with pytest.raises(ModelError) as error:
        fitted_state(module, given, "w.pt")
    message = str(error.value)
    assert message.startswith("w.pt does not fit the network it is meant for; 1 missing: 0.bias; ")
    assert "1 not in the network: head; " in message
    assert (
        "1 of another shape: 0.weight is (2, 3, 3, 3) in the file and (2, 1, 3, 3) in the network" in message
    )


def test_only_the_first_few_are_listed() -> None:
    module = network()
    given = {**module.state_dict(), **{f"extra{i}": torch.zeros(1) for i in range(9)}}
    with pytest.raises(ModelError, match=r"9 not in the network: extra0, .*, extra4 and 4 more\. Check"):
        fitted_state(module, given, "w.pt")


def test_batch_counters_may_be_absent_and_nothing_else() -> None:
    module = network()
    given = {name: t for name, t in module.state_dict().items() if "num_batches_tracked" not in name}
    state = fitted_state(module, given, "w")
    assert state["1.num_batches_tracked"].item() == 0
    del given["1.running_mean"]
    with pytest.raises(ModelError, match=r"1 missing: 1\.running_mean"):
        fitted_state(module, given, "w")


def test_complex_weights_are_refused() -> None:
    module = network()
    given = {**module.state_dict(), "0.bias": torch.zeros(2, dtype=torch.complex64)}
    with pytest.raises(ModelError, match=r"0\.bias is of dtype torch\.complex64"):
        fitted_state(module, given, "w")


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("assign", [False, True])
def test_loading_copies_read_only_arrays_and_ends_ready_for_inference(assign: bool) -> None:
    source = network()
    bundle = make_bundle(RECIPE, fitted_state(source, source.state_dict(), "w"), source)
    state = copy.deepcopy(bundle.state)
    for array in state.values():
        array.flags.writeable = False
    with torch.device("meta" if assign else "cpu"):
        target = network()
    loaded = load_state(target, state, assign=assign)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert tensor.device.type == "cpu"
        assert np.array_equal(tensor.numpy(), state[name])
        tensor.fill_(5)
    for name, array in state.items():
        assert np.array_equal(array, bundle.state[name])

"""Flax checkpoints of the CIFAR-10 consistency models: what is read of them, and files that are something else."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from published_layouts import array, ncsnpp_state

from raycp.errors import ModelError
from raycp.models.conversion import Conversion, convert_denoiser
from raycp.models.file_facts import file_facts
from raycp.models.flax_checkpoint import ncsnpp, read_flax_checkpoint

PUBLISHED = 56_395_651
"""Parameters of the published networks, as the original code counts them."""


def test_all_of_the_averaged_parameters_are_the_model(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "parity" / "jcm-flax-msgpack" / "checkpoint_80"
    facts, bundle = convert_denoiser(file, tmp_path / "out", Conversion("consistency"))
    assert facts.state_key == "params_ema" and "params" in facts.others
    assert bundle is not None and sum(tensor.size for tensor in bundle.state.values()) == facts.numbers
    others = read_flax_checkpoint(file, "params").state
    assert others.keys() == facts.state.keys()
    assert not all(torch.equal(others[name], tensor) for name, tensor in facts.state.items())


def test_the_published_size() -> None:
    with torch.device("meta"):
        state = ncsnpp_state()
    assert sum(tensor.numel() for tensor in state.values()) == PUBLISHED
    arguments, tensors = ncsnpp(state, 32, "checkpoint")
    assert (arguments["channels"], arguments["channel_mult"], arguments["num_blocks"]) == (128, [2, 2, 2], 4)
    from raycp.models.score_unet import ScoreUNet

    with torch.device("meta"):
        network = ScoreUNet(**arguments)
    network.load_state_dict(tensors, strict=True, assign=True)
    assert sum(tensor.numel() for tensor in tensors.values()) == PUBLISHED


def test_what_is_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_80"
    weights = {"Conv_0": {"kernel": array(np.ones((1, 2), np.float32))}}
    for content, words in {
        "objects": ({"params": {}, "params_ema": {"a": msgpack.ExtType(1, msgpack.packb([[1], "object", b"x"]))}},
                    "an array of object"),
        "type": ({"params": {}, "params_ema": {"a": msgpack.ExtType(7, b"")}}, "an entry of type 7"),
        "size": ({"params": {}, "params_ema": {"a": msgpack.ExtType(1, msgpack.packb([[9], "float32", b"1234"]))}},
                 "damaged"),
        "lacking": ({"params": weights, "step": 1}, "not a flax checkpoint with params_ema"),
        "number": ({"params": weights, "params_ema": {"a": 3}}, "damaged"),
    }.values():  # fmt: skip
        path.write_bytes(msgpack.packb(content))
        with pytest.raises(ModelError, match=words):
            file_facts(path)
    whole = msgpack.packb({"params": weights, "params_ema": weights})
    path.write_bytes(whole[:-3])
    with pytest.raises(ModelError, match="damaged"):
        file_facts(path)
    path.write_bytes(whole)
    assert read_flax_checkpoint(path).others == ("params",)
    assert file_facts(path).network == "unknown"
    with pytest.raises(ModelError, match=r"checkpoint_80 is not laid out as an NCSN\+\+"):
        convert_denoiser(path, tmp_path / "out", Conversion("consistency"))
    with torch.device("meta"):
        state = ncsnpp_state(8, 1, 2)
    with pytest.raises(ModelError, match=r"1 tensors that such a network does not have, first Extra_0/bias"):
        ncsnpp({**state, "Extra_0/bias": torch.ones(1)}, 32, "checkpoint")

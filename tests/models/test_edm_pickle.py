"""NVlabs' EDM pickles: their tensors and arguments come out, their code does not run, whatever is hidden where."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edm_files import Persistent, pickled
from torch import nn

from raycp.errors import ModelError, UnsafeFileError
from raycp.models.edm_pickle import read_edm_pickle


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.enc = nn.ModuleDict({"8x8_conv": nn.Conv2d(2, 3, 3).half(), "8x8_block0": nn.GroupNorm(1, 3)})
        self.nothing = None
        self.register_module("skip", None)
        self.register_buffer("filter", torch.arange(6.0).reshape(2, 3).T)  # not contiguous
        self.register_buffer("cache", torch.ones(2), persistent=False)


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickled(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [4, 5])
def test_tensors_and_arguments(tmp_path: Path, protocol: int) -> None:
    network = Unet()
    shared = Persistent(network, img_resolution=32, sigma_data=np.float64(0.5), channel_mult=[2, 2])
    found = read_edm_pickle(written(tmp_path / "net.pkl", {"ema": shared, "loss_fn": None}, protocol))
    assert found.class_name == "Unet"
    assert found.arguments == {"img_resolution": 32, "sigma_data": 0.5, "channel_mult": [2, 2]}
    expected = network.state_dict()
    assert list(found.state) == list(expected) and "enc.8x8_conv.weight" in found.state
    for name, tensor in expected.items():
        assert found.state[name].dtype == tensor.dtype
        assert torch.equal(found.state[name], tensor), name


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def storage_bytes(content: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(content, sink)
    return sink.getvalue()


def test_hidden_calls_are_refused(tmp_path: Path) -> None:
    """A call at the top, within a network, behind an allowed one, or in the bytes of a tensor."""
    marker = tmp_path / "ran"
    attack = Call(os.system, f"touch {marker}")
    inner = Call(torch.storage._load_from_bytes, storage_bytes({"a": attack}))
    opened = Call(open, str(marker), "w")
    fields = {"_parameters": OrderedDict(w=attack), "_init_args": (), "_init_kwargs": {}}
    files = {
        "posix.system": [
            {"ema": attack},
            {"ema": Persistent(Unet(), x=attack)},
            [attack],
            attack,
            {"ema": fields},
        ],
        "io.open": [{"ema": None, "hook": opened}],
        "builtins.eval": [{"ema": Call(eval, f"open({str(marker)!r}, 'w')")}],
        "builtins.getattr": [{"ema": Call(getattr, "x", "upper")}],
        "torch._utils._rebuild_device_tensor_from_numpy": [
            {
                "ema": Call(
                    torch._utils._rebuild_device_tensor_from_numpy, np.ones(1), torch.float32, "cpu", False
                )
            }
        ],
        "hides another one": [{"ema": inner}],
    }
    for refused, contents in files.items():
        for content in contents:
            path = written(tmp_path / "evil.pkl", content)
            with pytest.raises(UnsafeFileError, match=refused.replace(".", r"\.")) as caught:
                read_edm_pickle(path)
            assert str(path) in str(caught.value)
    path.write_bytes(f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode())  # as the oldest protocol has it
    with pytest.raises(UnsafeFileError, match=r"posix\.system"):
        read_edm_pickle(path)
    assert not marker.exists()


def test_a_file_cannot_change_what_the_next_one_is_read_with(tmp_path: Path) -> None:
    """A pickle may set attributes of any object that it was handed, such as the stand-ins."""
    name = b"ctorch.nn.modules.container\nModuleDict\n"
    poisoned = b"\x80\x02}(X\x03\x00\x00\x00ema" + name + b"N}X\x05\x00\x00\x00state}s\x86bu."
    (tmp_path / "poison.pkl").write_bytes(poisoned)
    with pytest.raises(ModelError):
        read_edm_pickle(tmp_path / "poison.pkl")
    network = Unet()
    found = read_edm_pickle(written(tmp_path / "net.pkl", {"ema": Persistent(network)}))
    assert list(found.state) == list(network.state_dict())


def test_what_is_no_edm_pickle_is_named(tmp_path: Path) -> None:
    whole = pickled({"ema": Persistent(Unet())})
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cut\.pkl is damaged or not an EDM pickle"):
        read_edm_pickle(tmp_path / "cut.pkl")
    with pytest.raises(ModelError, match=r"weights: there is no file .*none\.pkl"):
        read_edm_pickle(tmp_path / "none.pkl")
    with pytest.raises(
        ModelError, match=r"must hold a network of NVlabs' EDM under 'ema'; it holds model, step"
    ):
        read_edm_pickle(written(tmp_path / "other.pkl", {"model": 1, "step": 2}))
    beyond = Call(torch._utils._rebuild_tensor_v2, torch.ones(2), 0, (1000,), (1,), False, OrderedDict())
    network = Unet()
    network.register_buffer("filter", None)
    state = Persistent(network, x=beyond)
    with pytest.raises(ModelError, match="damaged"):
        read_edm_pickle(written(tmp_path / "beyond.pkl", {"ema": state}))
    objects = Call(np.dtype, "O")
    with pytest.raises(ModelError, match="numbers of dtype 'O'"):
        read_edm_pickle(written(tmp_path / "objects.pkl", {"ema": Persistent(Unet(), x=objects)}))

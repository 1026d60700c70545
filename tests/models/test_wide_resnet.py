"""Wide-ResNets out of files that pickle the whole network: equal logits, and nothing of any file is run."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.backends.thnn import _get_thnn_function_backend

from raycp.config import parse_config
from raycp.config.models import WideResNetClassifier
from raycp.errors import ModelError, RaycpError, UnsafeFileError
from raycp.models import build_classifier, read_classifier
from raycp.models.file_facts import WHOLE_NETWORK, file_facts
from raycp.models.wide_resnet import WideResNet
from tests.models.wide_resnet_files import MODULE, networks_package, random_network, save

MEAN, STD = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2471, 0.2435, 0.2616])


def read(path: Path, **extra: Any) -> Any:
    return read_classifier(
        parse_config(WideResNetClassifier, {"kind": "wide_resnet", "weights": str(path), **extra})
    )


def test_the_published_size() -> None:
    """Wide-ResNet-28-10: 36.5 M parameters in the paper, without the biases that these convolutions have."""
    with torch.device("meta"):
        network = WideResNet(10, 28, 10)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 28
    biases = sum(module.bias.numel() for module in convolutions if module.bias is not None)
    assert sum(parameter.numel() for parameter in network.parameters()) == 36_479_194 + biases
    assert biases == 16 + 9 * (160 + 320 + 640)


@torch.no_grad()
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_whole_network_is_read_without_its_classes(tmp_path: Path, zipped: bool, parallel: bool) -> None:
    path = tmp_path / "wide-resnet-10x2.t7"
    x = torch.rand(3, 3, 32, 32)
    with networks_package(tmp_path) as module:
        network = random_network(module)
        expected = network((x - MEAN[:, None, None]) / STD[:, None, None])
        net = nn.DataParallel(network) if parallel else network
        save(path, {"net": net, "acc": torch.tensor(96.2), "epoch": 3}, zipped)
    assert MODULE not in sys.modules
    bundle = read(path)
    assert bundle.recipe["arguments"] == {"num_classes": 7, "depth": 10, "widen_factor": 2}
    logits = build_classifier(bundle)(x)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert MODULE not in sys.modules
    facts = file_facts(path)
    assert (facts.format, facts.network, facts.state_key, facts.others, facts.prefix) == (
        WHOLE_NETWORK, "wide residual network for CIFAR", "net", ("acc", "epoch"), "module." if parallel else "",
    )  # fmt: skip


def test_every_layout_is_one_bundle(tmp_path: Path) -> None:
    with networks_package(tmp_path) as module:
        network = random_network(module)
        for name, zipped in (("zip.t7", True), ("old.t7", False)):
            save(tmp_path / name, {"net": network, "acc": 1.0}, zipped)
        state = network.state_dict()
    torch.save(state, tmp_path / "state.pt")
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "module.pt"
    )
    save_file(state, tmp_path / "state.safetensors")
    names = ("zip.t7", "old.t7", "state.pt", "module.pt", "state.safetensors")
    assert len({read(tmp_path / name).sha256 for name in names}) == 1
    other = read(tmp_path / "state.pt", std=[0.2023, 0.1994, 0.2010])
    assert other.recipe["std"] == [0.2023, 0.1994, 0.2010]
    assert other.sha256 != read(tmp_path / "state.pt").sha256


class _Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.function, self.arguments, *(() if self.state is None else (self.state,)))


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_before_pytorch_0_4(tmp_path: Path, zipped: bool) -> None:
    """Parameters of a tensor and a state, tensors by `_rebuild_tensor`, modules with a `_backend`."""
    with networks_package(tmp_path) as module:
        network = random_network(module)
        save(tmp_path / "new.t7", {"net": network}, zipped)
        for layer in network.modules():
            layer.__dict__["_backend"] = _Call(_get_thnn_function_backend)
            for name, value in layer._parameters.items():
                tensor = _Call(
                    torch._utils._rebuild_tensor,
                    value.data._typed_storage(),
                    0,
                    tuple(value.shape),
                    value.stride(),
                )
                layer.__dict__["_parameters"][name] = _Call(
                    nn.Parameter, tensor, state=(True, False, OrderedDict())
                )
        save(tmp_path / "old.t7", {"net": network}, zipped)
    assert b"torch._utils\n_rebuild_tensor\n" in (tmp_path / "old.t7").read_bytes()
    assert read(tmp_path / "old.t7").sha256 == read(tmp_path / "new.t7").sha256


def attacks(network: nn.Module, victim: Path) -> dict[str, Any]:
    call = _Call(os.system, f"touch {victim}")
    nested = copy_of(network)
    nested.__dict__["extra"] = call
    deep = copy_of(network)
    deep.layer1[0]._forward_hooks = OrderedDict({0: call})  # type: ignore[index,union-attr]
    return {
        "at the top": {"net": network, "acc": call},
        "in a module": {"net": nested},
        "in a hook of a layer": {"net": deep},
        "behind an allowed call": {"net": network, "acc": _Call(OrderedDict, [("a", call)])},
        "as the state of an allowed object": {"net": network, "acc": _Call(OrderedDict, state={"x": call})},
        "eval": {"net": network, "acc": _Call(eval, f"open({str(victim)!r}, 'w')")},
        "getattr": {"net": network, "acc": _Call(getattr, network, "forward")},
        "import": {"net": network, "acc": _Call(__import__, "os")},
    }


def copy_of(network: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(network))


@pytest.mark.parametrize("zipped", [True, False])
def test_attacks_are_refused_by_name(tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim"
    with networks_package(tmp_path) as module:
        network = random_network(module)
        files = {}
        for index, (what, content) in enumerate(attacks(network, victim).items()):
            files[what] = tmp_path / f"{index}.t7"
            save(files[what], content, zipped)
    named = {"eval": "__builtin__.eval", "getattr": "__builtin__.getattr", "import": "__builtin__.__import__"}
    for what, path in files.items():
        with pytest.raises(UnsafeFileError) as caught:
            read(path)
        assert f"would call {named.get(what, 'posix.system')} if" in str(caught.value), what
        assert not victim.exists(), what


def test_an_attack_before_the_network_is_refused_by_the_plain_reader(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = tmp_path / "far.t7"
    with networks_package(tmp_path) as module:
        save(
            path,
            {
                "acc": "x" * 2**17,
                "call": _Call(os.system, f"touch {victim}"),
                "net": module.Wide_ResNet(10, 1, 2),
            },
            True,
        )
    with pytest.raises(UnsafeFileError, match=r"would call .*system"):
        read(path)
    assert not victim.exists()


def hand_written(body: bytes, path: Path) -> Path:
    """A zip whose pickle is `{"net": a Wide_ResNet with an empty state, "x": body}`."""
    network = b"cnetworks.wide_resnet\nWide_ResNet\n)\x81}b"
    data = b"\x80\x02}(X\x03\x00\x00\x00net" + network + b"X\x01\x00\x00\x00x" + body + b"u."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
    return path


@pytest.mark.parametrize(
    "body",
    [
        b"cnetworks.wide_resnet\nWide_ResNet\n}X\x0d\x00\x00\x00__setstate__Nsb",  # state for a class
        b"ctorch._utils\n_rebuild_parameter\n(}}X\x08\x00\x00\x00__code__Nstb",  # slots of a function
        b"cnetworks.wide_resnet\nWide_ResNet\n)\x81(}}X\x09\x00\x00\x00__class__ccollections\nOrderedDict\nstb",
        b"ccollections\nOrderedDict\n(}}X\x0b\x00\x00\x00__setitem__ctorch\ndevice\nstb",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x01\x00\x00\x00tQ}b",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQ",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\xfftQ",
    ],
)  # fmt: skip
def test_tricks_with_state_are_refused(tmp_path: Path, body: bytes) -> None:
    """States for classes, functions and storages, sizes that are none."""
    before = dict(vars(WideResNet)), OrderedDict.__setitem__
    with pytest.raises(RaycpError, match="damaged or not a torch file with a whole network"):
        read(hand_written(body, tmp_path / "trick.t7"))
    assert (dict(vars(WideResNet)), OrderedDict.__setitem__) == before


def test_the_hand_written_file_is_otherwise_fine(tmp_path: Path) -> None:
    """So the tests above fail for their bodies; here the network has no parameters, which is said."""
    with pytest.raises(
        ModelError, match=r"damaged or not a torch file with a whole network \(KeyError: '_parameters'\)"
    ):
        read(hand_written(b"N", tmp_path / "plain.t7"))


def test_damage_and_compression_are_errors(tmp_path: Path) -> None:
    with networks_package(tmp_path) as module:
        network = random_network(module)
        save(tmp_path / "zip.t7", {"net": network}, True)
        save(tmp_path / "old.t7", {"net": network}, False)
        save(tmp_path / "other.t7", {"model": network}, True)
    for name in ("zip.t7", "old.t7"):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes((tmp_path / name).read_bytes()[:-4000])
        with pytest.raises(ModelError, match=f"cut-{name} is damaged"):
            read(cut)
    small = tmp_path / "small.t7"
    with (
        zipfile.ZipFile(tmp_path / "zip.t7") as source,
        zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            compressed = zipfile.ZIP_STORED if member.endswith("data.pkl") else zipfile.ZIP_DEFLATED
            target.writestr(member, source.read(member), compressed)
    with pytest.raises(ModelError, match="is compressed"):
        read(small)
    with pytest.raises(ModelError, match="no network under 'net', only model"):
        read(tmp_path / "other.t7")


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.ones(2, 2)}, path)
    with pytest.raises(
        ModelError, match=r"other\.pt is a torch file of this network: unknown; kind wide_resnet takes"
    ):
        read(path)
    with pytest.raises(ModelError, match="there is no file"):
        read(tmp_path / "absent.t7")

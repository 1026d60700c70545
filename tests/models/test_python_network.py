"""Classifiers made by a user's function, the published ResNet-56 among them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from raycp.config.models import PythonClassifier
from raycp.errors import ModelError, UnsafeFileError
from raycp.models import (
    Bundle,
    build_classifier,
    hashes,
    read_classifier,
)
from raycp.models.user_code import source_sha256


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def travelled(bundle: Bundle) -> Bundle:
    """The bundle as it reaches a replica."""
    copy: Bundle = pickle.loads(pickle.dumps(bundle))
    json.dumps(copy.recipe)
    return copy


def test_weights_of_a_function_are_those_it_made_and_the_same_every_time() -> None:
    config = PythonClassifier(kind="python", factory="user_resnet:linear", num_classes=3)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = read_classifier(config)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    torch.manual_seed(12)
    second = read_classifier(config)
    assert first.sha256 == second.sha256
    classifier = build_classifier(travelled(first))
    assert not classifier.network.training
    x = images(4, 3, 2, 2)
    logits = classifier(x)
    assert logits.dtype == torch.float32
    weight, bias = (torch.from_numpy(first.state[f"2.{name}"]) for name in ("weight", "bias"))
    torch.testing.assert_close(logits, x.flatten(1) @ weight.T + bias)


def test_the_source_of_the_function_is_part_of_the_classifier() -> None:
    bundle = read_classifier(PythonClassifier(kind="python", factory="user_resnet:linear", num_classes=3))
    source = source_sha256("user_resnet:linear", "classifier")
    assert hashes(classifier=bundle, purifier=None) == {
        "classifier": bundle.sha256,
        "classifier_source": source,
        "purifier": None,
    }
    bundle.recipe["arguments"]["source"] = "another"
    with pytest.raises(
        ModelError, match=r"classifier\.factory: the source of user_resnet:linear is not the same"
    ):
        build_classifier(bundle)


@pytest.mark.parametrize(
    ("factory", "kwargs", "message"),
    [
        (
            "no_such_package.nets:make",
            {},
            r"classifier\.factory: cannot import no_such_package\.nets: .* PYTHONPATH",
        ),
        ("user_resnet:resnt", {}, r"user_resnet has no resnt; did you mean resnet\?"),
        ("user_resnet:not_a_function", {}, r"user_resnet:not_a_function is a int, which cannot be called"),
        (
            "user_resnet:not_a_network",
            {},
            r"user_resnet:not_a_network must return a torch\.nn\.Module, got a str",
        ),
        (
            "user_resnet:resnet",
            {"deep": 3},
            r"kwargs \{'deep': 3\} do not fit user_resnet:resnet\(depth: .*'deep'",
        ),
    ],
)
def test_functions_that_are_refused(factory: str, kwargs: dict[str, Any], message: str) -> None:
    config = PythonClassifier(kind="python", factory=factory, kwargs=kwargs, num_classes=3)
    with pytest.raises(ModelError, match=message):
        read_classifier(config)


def test_weights_of_a_function_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(12, 3), tmp_path / "w.pt")
    config = PythonClassifier(
        kind="python", factory="user_resnet:linear", num_classes=3, weights=str(tmp_path / "w.pt")
    )
    with pytest.raises(UnsafeFileError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_classifier(config)


RESNET56 = {
    "kind": "python",
    "factory": "user_resnet:resnet",
    "kwargs": {"depth": 56},
    "num_classes": 10,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}


@torch.no_grad()
def test_the_published_resnet56_in_a_users_module(shared_data: Path) -> None:
    folder = shared_data / "parity" / "cifar-resnet-th"
    weights = str(folder / "resnet56-4bfd9763.th")
    config = PythonClassifier(**RESNET56, weights=weights, state_key="state_dict", strip_prefix="module.")
    bundle = travelled(read_classifier(config))
    assert bundle.parameters == 853_018
    classifier = build_classifier(bundle)
    io = load_file(folder / "io.safetensors")
    logits = classifier(io["images_uint8"].float() / 255)
    assert float((logits - io["logits"]).abs().max()) <= 1e-3
    assert torch.equal(logits.argmax(dim=1), io["predicted_class"])


def test_the_published_resnet56_without_its_key_or_prefix(shared_data: Path) -> None:
    weights = str(shared_data / "parity" / "cifar-resnet-th" / "resnet56-4bfd9763.th")
    with pytest.raises(ModelError, match=r"it holds .*state_dict.* name it with state_key"):
        read_classifier(PythonClassifier(**RESNET56, weights=weights))
    with pytest.raises(
        ModelError, match=r"missing: conv1\.weight.*not in the network: module\.conv1\.weight"
    ):
        read_classifier(PythonClassifier(**RESNET56, weights=weights, state_key="state_dict"))

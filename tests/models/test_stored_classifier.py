"""Classifiers of every kind in directories of raycp's: round trips, and directories that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_classifiers import CLASSES, KINDS, NORMALISATION, RESIZE, SIDE, section

from raycp.config.models import DirectoryClassifier
from raycp.config.train import TrainConfig
from raycp.errors import ModelError
from raycp.models import Bundle, Classifier, build_classifier, read_classifier, save_stored_classifier

NAMES = ("a", "b", "c", "d")


def original(kind: str, folder: Path) -> Bundle:
    raw = {"data": {"name": "digits"}, "models": {"net": section(kind, folder)}}
    config = TrainConfig.model_validate(
        raw | {"stages": [{"stage": "classifier", "start": "net", "steps": 1}]}
    )
    return read_classifier(config.models["net"])  # type: ignore[arg-type]


def changed(bundle: Bundle) -> Classifier:
    """Other weights and statistics, as after training."""
    classifier = build_classifier(bundle)
    generator = torch.Generator().manual_seed(1)
    for tensor in classifier.network.state_dict().values():
        if tensor.is_floating_point():
            tensor += 0.05 * torch.rand(tensor.shape, generator=generator)
    return classifier


def directory(path: Path, **changes: Any) -> DirectoryClassifier:
    return DirectoryClassifier.model_validate({"kind": "directory", "path": str(path), **changes})


FUNCTION = {"factory": "tiny_classifiers:with_dropout", "kwargs": {"width": 8}}


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_is_bitwise(tmp_path: Path, kind: str) -> None:
    bundle = original(kind, tmp_path)
    classifier = changed(bundle)
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    expected = classifier(x)
    assert not torch.equal(expected, build_classifier(bundle)(x))
    save_stored_classifier(
        tmp_path / "out", classifier, bundle.recipe, image_size=(SIDE, SIDE), class_names=NAMES
    )
    again = read_classifier(directory(tmp_path / "out"), [FUNCTION])
    assert again.recipe == bundle.recipe and again.sha256 != bundle.sha256
    assert torch.equal(build_classifier(again)(x), expected)
    text = (tmp_path / "out" / "classifier.json").read_text()
    assert str(tmp_path) not in text  # the directory may move
    content = json.loads(text)
    assert content["class_names"] == list(NAMES) and content["image_size"] == [SIDE, SIDE]
    assert content["classifier"]["kind"] == kind


@torch.no_grad()
def test_transformers_reads_its_own_format_back(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    bundle = original("transformers", tmp_path)
    classifier = changed(bundle)
    out = tmp_path / "out"
    save_stored_classifier(out, classifier, bundle.recipe, image_size=(SIDE, SIDE), class_names=NAMES)
    model: Any = AutoModelForImageClassification.from_pretrained(out).eval()
    assert model.config.id2label == dict(enumerate(NAMES))
    pixels = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    given = AutoImageProcessor.from_pretrained(out)(list(pixels), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(model(given).logits, classifier(pixels / 255), atol=2e-2, rtol=0)
    # The folder is one of kind transformers, too, for which truncate is the user's to say.
    raw = {"kind": "transformers", "path": str(out), "truncate": True}
    config = TrainConfig.model_validate(
        {"data": {"name": "digits"}, "models": {"net": raw}, "stages": [{"stage": "denoiser", "steps": 1}]}
    )
    assert read_classifier(config.models["net"]).sha256 == read_classifier(directory(out)).sha256  # type: ignore[arg-type]


def stored(tmp_path: Path, kind: str, /, **changes: Any) -> Path:
    """A directory whose section `classifier` was edited."""
    bundle = original(kind, tmp_path)
    out = tmp_path / "out"
    save_stored_classifier(out, build_classifier(bundle), bundle.recipe, image_size=(SIDE, SIDE))
    content = json.loads((out / "classifier.json").read_text())
    content["classifier"] |= changes
    (out / "classifier.json").write_text(json.dumps(content))
    return out


def test_a_function_that_a_directory_names_is_not_called(tmp_path: Path) -> None:
    out = stored(tmp_path, "python")
    other = FUNCTION | {"kwargs": {"width": 16}}
    for functions in ((), (other,)):
        with pytest.raises(
            ModelError, match=r"names the function tiny_classifiers:with_dropout, .* never called"
        ) as err:
            read_classifier(directory(out), functions)
        assert f"weights: {out / 'model.safetensors'}" in str(err.value)
    out = stored(tmp_path, "python", factory="os:system", kwargs={"command": f"touch {tmp_path / 'ran'}"})
    with pytest.raises(ModelError, match="names the function os:system"):
        read_classifier(directory(out), [FUNCTION])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("timm", {"kwargs": {"checkpoint_path": "/x"}}, r"kwargs must not hold 'checkpoint_path'"),
        ("timm", {"pretrained": True}, r"classifier\.json:\n  classifier: give either weights"),
        ("timm", {"num_classes": CLASSES + 1}, r"fc\.weight is \(4, .*\) in the file and \(5, "),
        ("torchvision", {"nam": "x"}, r"classifier\.nam is not a known key; did you mean classifier\.name\?"),
        ("cifar_resnet", {"kind": "wide_resnet"}, r"kind wide_resnet takes a wide residual network"),
        ("cifar_resnet", {"kind": "directory"}, r"classifier\.kind must be one of .*, got 'directory'"),
        ("cifar_resnet", {"kind": None}, r"classifier\.kind must be one of"),
    ],
)
def test_directories_that_are_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_classifier(directory(stored(tmp_path, kind, **changes)))


def test_the_place_of_the_weights_is_not_the_directorys_to_say(tmp_path: Path) -> None:
    out = stored(tmp_path, "cifar_resnet", weights=str(tmp_path / "elsewhere.th"))
    assert read_classifier(directory(out)).recipe["kind"] == "cifar_resnet"
    (out / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_classifier(directory(out))


def test_what_contradicts_the_directory_is_refused(tmp_path: Path) -> None:
    out = stored(tmp_path, "torchvision")
    same = read_classifier(directory(out, resize=RESIZE))
    assert same.recipe["resize"] == RESIZE
    with pytest.raises(ModelError, match=r"classifier\.resize contradicts .*classifier\.json"):
        read_classifier(directory(out, resize={"size": 64}))
    with pytest.raises(ModelError, match=r"classifier\.mean contradicts .*classifier\.json"):
        read_classifier(directory(out, **NORMALISATION))

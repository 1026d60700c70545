"""Classifier directories: round trips and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raycp.config.models import DirectoryClassifier
from raycp.errors import ModelError
from raycp.models import (
    ResidualClassifier,
    build_classifier,
    read_classifier,
    save_classifier,
)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def small_network(**changes: Any) -> ResidualClassifier:
    torch.manual_seed(0)
    network = ResidualClassifier(
        **({"num_classes": 4, "in_channels": 2, "widths": (8, 16), "blocks": 2} | changes)
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


@torch.no_grad()
def test_a_directory_round_trip_is_bitwise(tmp_path: Path) -> None:
    network = small_network()
    mean, std = (0.1, 0.2), (0.5, 0.25)
    save_classifier(tmp_path / "c", network, image_size=(8, 8), class_names="abcd", mean=mean, std=std)
    written = json.loads((tmp_path / "c" / "config.json").read_text())
    assert written == {
        "format": "raycp-classifier",
        "architecture": {"name": "residual", "widths": [8, 16], "blocks": 2, "groups": 8},
        "num_classes": 4,
        "in_channels": 2,
        "image_size": [8, 8],
        "class_names": ["a", "b", "c", "d"],
        "mean": [0.1, 0.2],
        "std": [0.5, 0.25],
        "resize": None,
    }
    bundle = read_classifier(DirectoryClassifier(kind="directory", path=str(tmp_path / "c")))
    shutil.rmtree(tmp_path / "c")
    assert bundle.parameters == sum(p.numel() for p in network.parameters())
    classifier = build_classifier(bundle)
    assert (classifier.num_classes, classifier.in_channels) == (4, 2)
    assert not classifier.training and not classifier.network.training
    assert not any(p.requires_grad for p in classifier.parameters())
    x = images(3, 2, 8, 8)
    expected = network((x - torch.tensor(mean).view(1, 2, 1, 1)) / torch.tensor(std).view(1, 2, 1, 1))
    assert torch.equal(classifier(x), expected)


def test_the_names_are_not_part_of_the_hash_but_the_normalisation_is(tmp_path: Path) -> None:
    def sha256(**changes: Any) -> str:
        save_classifier(tmp_path, small_network(), image_size=(8, 8), **changes)
        return read_classifier(DirectoryClassifier(kind="directory", path=str(tmp_path))).sha256

    plain = sha256()
    assert sha256(class_names="abcd") == plain
    assert sha256(mean=(0.0, 0.0), std=(1.0, 1.0)) != plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, r"config\.json:\n  format must be one of 'raycp-classifier', got 'other'"),
        ({"num_classes": 1}, r"num_classes must be at least 2, got 1"),
        ({"chanels": 1}, r"chanels is not a known key"),
        ({"mean": [0.5], "std": [0.5]}, r"mean must have one value per channel \(2\), got \[0\.5\]"),
        ({"mean": [0.5, 0.5]}, r"mean and std must be given together"),
        ({"mean": [0.5, 0.5], "std": [0.5, 0.0]}, r"std be above 0"),
        ({"class_names": ["a"]}, r"class_names must have 4 names, got 1"),
        ({"num_classes": 9}, r"head\.weight is \(4, 16\) in the file and \(9, 16\) in the network"),
        (
            {"architecture": {"widths": [8, 12], "blocks": 2, "groups": 8}},
            r"widths must be multiples of groups \(8\)",
        ),
        (
            {"architecture": {"widths": [8, 16], "blocks": 3, "groups": 8}},
            r"does not fit the network .* missing: ",
        ),
    ],
)
def test_directories_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_classifier(tmp_path, small_network(), image_size=(8, 8))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        read_classifier(DirectoryClassifier(kind="directory", path=str(tmp_path)))


def test_directories_that_are_incomplete(tmp_path: Path) -> None:
    config = DirectoryClassifier(kind="directory", path=str(tmp_path / "c"))
    with pytest.raises(ModelError, match=r"classifier\.path: there is no directory .*c\."):
        read_classifier(config)
    (tmp_path / "c").mkdir()
    with pytest.raises(ModelError, match=r"there is no config\.json in .*c\."):
        read_classifier(config)
    save_classifier(tmp_path / "c", small_network(), image_size=(8, 8))
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"classifier\.path: there is no file .*model\.safetensors"):
        read_classifier(config)


def test_a_normalisation_that_contradicts_the_directory_is_refused(tmp_path: Path) -> None:
    save_classifier(tmp_path, small_network(), image_size=(8, 8), mean=(0.5, 0.5), std=(0.2, 0.2))
    same = DirectoryClassifier(kind="directory", path=str(tmp_path), mean=(0.5, 0.5), std=(0.2, 0.2))
    assert read_classifier(same).recipe["mean"] == [0.5, 0.5]
    other = DirectoryClassifier(kind="directory", path=str(tmp_path), mean=(0.4, 0.5), std=(0.2, 0.2))
    with pytest.raises(ModelError, match=r"contradict those that .*config\.json was trained with"):
        read_classifier(other)

"""Image classifiers of transformers: what a folder says of its images, and folders that are refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from raycp.config import parse_config
from raycp.config.models import TransformersClassifier
from raycp.errors import ModelError, UnsafeFileError
from raycp.models import Bundle, build_classifier, classifier_input, read_classifier

PREPROCESSOR = {
    "do_resize": True, "size": 32, "resample": 2, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2], "feature_extractor_type": "ViTFeatureExtractor",
}  # fmt: skip
VIT = {
    "image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip

SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
}  # fmt: skip


def read(folder: Path, **extra: Any) -> Bundle:
    raw = {"kind": "transformers", "path": str(folder), **extra}
    return read_classifier(parse_config(TransformersClassifier, raw))


def network(model_type: str = "vit", classes: int = 5, **config: Any) -> Any:
    from transformers import AutoConfig, AutoModelForImageClassification

    torch.manual_seed(0)
    made = AutoConfig.for_model(model_type, num_labels=classes, **config)
    return AutoModelForImageClassification.from_config(made).eval()


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as `save_pretrained` writes it, with an old preprocessor_config.json."""
    folder = tmp_path_factory.mktemp("vit") / "model"
    network(**VIT).save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def edit(folder: Path, name: str = "preprocessor_config.json", **changes: Any) -> None:
    """Change entries of a JSON file; None deletes one."""
    content = json.loads((folder / name).read_text()) | changes
    write_json(folder / name, {key: value for key, value in content.items() if value is not None})


def expected_logits(folder: Path, x: Tensor, mode: str = "bilinear") -> Tensor:
    """By the library's own loading, after F.interpolate and the normalisation of PREPROCESSOR."""
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    x = F.interpolate(x, (32, 32), mode=mode, align_corners=False, antialias=True)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.5, 0.25, 0.2])
    return model(pixel_values=(x - mean[:, None, None]) / std[:, None, None]).logits


def test_the_processor_of_a_vit_is_read(shared_data: Path) -> None:
    bundle = read(shared_data / "parity" / "hf-vit-classifier" / "model")
    assert bundle.recipe["num_classes"] == 10
    assert bundle.recipe["resize"] == {"size": 32, "interpolation": "bilinear", "antialias": True}
    assert bundle.recipe["mean"] == bundle.recipe["std"] == [0.5, 0.5, 0.5]


@torch.no_grad()
def test_small_images_are_resized_as_the_folder_says(folder: Path) -> None:
    x = torch.rand(3, 3, 16, 16)
    for code, mode in ((2, "bilinear"), (3, "bicubic")):
        edit(folder, resample=code)
        classifier = build_classifier(read(folder))
        torch.testing.assert_close(classifier(x), expected_logits(folder, x, mode), rtol=1e-4, atol=1e-5)
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in classifier.parameters())
    edit(folder, resample=0)
    assert read(folder).recipe["resize"]["interpolation"] == "nearest"


def test_nothing_comes_from_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert read(folder).recipe["num_classes"] == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"height": 32, "width": 32}, "feature_extractor_type": None},
        {"feature_extractor_type": None, "image_processor_type": "ViTImageProcessor"},
        {"size": {"shortest_edge": 32}},
        {"size": [32, 32]},
        {"size": 36, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        {"size": None},
        {"do_rescale": True, "rescale_factor": 0.00392156862745098},
    ],
)  # fmt: skip
def test_old_and_new_preprocessors_say_the_same(folder: Path, made: Path, changes: dict[str, Any]) -> None:
    edit(folder, **changes)
    assert read(folder).sha256 == read(made).sha256


def test_what_a_classifier_sees_is_said(made: Path, folder: Path) -> None:
    resized = "resized to 32x32 (bilinear, antialias); less mean 0.5, 0.4, 0.3, by std 0.5, 0.25, 0.2"
    assert classifier_input(read(made)) == resized
    assert classifier_input(read(made, truncate=True)) == f"pixels cut to whole 255ths; {resized}"
    edit(folder, do_resize=False, do_normalize=False)
    assert classifier_input(read(folder)) == "the image as it is"


def test_the_configuration_goes_before_the_folder(folder: Path, made: Path) -> None:
    hashes = {read(made).sha256}
    edit(folder, do_normalize=False)
    bundle = read(folder)
    assert (bundle.recipe["mean"], bundle.recipe["std"]) == (None, None)
    hashes.add(bundle.sha256)
    bundle = read(folder, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    assert bundle.recipe["mean"] == [0.1, 0.2, 0.3]
    hashes.add(bundle.sha256)
    edit(folder, do_resize=False, do_normalize=True)
    bundle = read(folder)
    assert bundle.recipe["resize"] is None
    hashes.add(bundle.sha256)
    bundle = read(folder, resize={"size": 32, "interpolation": "bicubic"})
    assert bundle.recipe["resize"] == {"size": 32, "interpolation": "bicubic", "antialias": True}
    hashes.add(bundle.sha256)
    (folder / "preprocessor_config.json").unlink()
    everything: dict[str, Any] = {"resize": {"size": 32}, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2]}
    assert read(folder, **everything).sha256 == bundle.sha256
    hashes.add(read(made, truncate=True).sha256)
    assert len(hashes) == 6


@torch.no_grad()
def test_truncation_comes_before_the_resize(made: Path) -> None:
    plain, cutting = (build_classifier(read(made, truncate=truncate)) for truncate in (False, True))
    levels = torch.randint(-40, 300, (2, 3, 16, 16)).float()
    x = (levels + 0.4 * levels.sign() + 0.3 * (levels == 0)) / 255
    torch.testing.assert_close(cutting(x), plain(levels / 255), rtol=1e-5, atol=1e-6)
    assert float((plain(x) - plain(levels / 255)).abs().max()) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("beit", {**VIT, "use_relative_position_bias": True, "use_mean_pooling": True}),
        ("swin", SWIN),
        ("convnext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32}),
        ("resnet", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"}),
        ("deit", {**VIT, "architectures": ["DeiTForImageClassificationWithTeacher"]}),
    ],
)  # fmt: skip
def test_other_architectures(tmp_path: Path, model_type: str, config: dict[str, Any]) -> None:
    """Swin keeps buffers outside of its state_dict: on the meta device they would be empty."""
    model = network(model_type, **config)
    model.save_pretrained(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", PREPROCESSOR)
    bundle = read(tmp_path)
    assert json.loads(json.dumps(bundle.recipe)) == bundle.recipe
    assert str(tmp_path) not in json.dumps(bundle.recipe)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        build_classifier(bundle)(x), expected_logits(tmp_path, x), rtol=1e-4, atol=1e-5
    )


def test_every_layout_of_the_weights_is_one_bundle(folder: Path, made: Path, tmp_path: Path) -> None:
    """Old names and new ones, shards, float16 that loses nothing, and a weights-only torch file."""
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder)
    weights = folder / "model.safetensors"
    stored = load_file(weights)
    renamed = dict(model.state_dict())
    assert "vit.encoder.layer.0.attention.attention.query.weight" in stored
    assert stored.keys() != renamed.keys()
    expected = read(made).sha256
    save_file(renamed, weights)
    assert read(folder).sha256 == expected
    weights.unlink()
    torch.save(stored, folder / "pytorch_model.bin")
    assert read(folder).sha256 == expected
    (folder / "pytorch_model.bin").unlink()
    names = sorted(stored)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for shard, held in shards.items():
        save_file({name: stored[name] for name in held}, folder / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    write_json(folder / "model.safetensors.index.json", index)
    assert read(folder).sha256 == expected


def test_the_version_of_the_library_and_code_beside_the_weights_are_no_part(folder: Path, made: Path) -> None:
    edit(
        folder, "config.json", transformers_version="4.10.0", torch_dtype="float16", _name_or_path="/somewhere",
        auto_map={"AutoModelForImageClassification": "evil.Model"}, _attn_implementation="sdpa",
    )  # fmt: skip
    (folder / "evil.py").write_text("raise SystemExit('run')\n")
    assert read(folder).sha256 == read(made).sha256
    edit(folder, "config.json", num_attention_heads=2)
    assert read(folder).sha256 != read(made).sha256


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_a_torch_file_that_would_run_code_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"vit": _Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"would call posix\.system"):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resample": 1}, r"resample must be one of 0 \(nearest\), 2 \(bilinear\), 3 \(bicubic\), got 1"),
        ({"resample": None}, "got None; give classifier.resize"),
        ({"size": 48}, "must agree on one square size of the network's input, got 48 and image_size 32"),
        ({"size": {"height": 32, "width": 48}}, "must agree on one square size"),
        ({"size": {"longest_edge": 32}}, "must agree on one square size"),
        ({"rescale_factor": 0.00784313725490196}, r"does not bring pixels to \[0,1\] first"),
        ({"do_rescale": False}, r"does not bring pixels to \[0,1\] first"),
        ({"do_flip_channel_order": True}, "takes blue, green, red"),
        ({"image_mean": 0.5}, "must be lists of one number per channel"),
        ({"image_std": [0.0, 1.0, 1.0]}, "image_std above 0"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "one value per channel of the network"),
    ],
)
def test_preprocessors_that_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(ModelError, match=message):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vitt"}, "has no image classifier of model_type 'vitt'.*did you mean vit"),
        ({"model_type": None}, "model_type None"),
        ({"model_type": "bert"}, "has no image classifier of model_type 'bert'"),
        ({"model_type": "timm_wrapper"}, "does not take model_type 'timm_wrapper'; use kind timm"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantised"),
        ({"hidden_size": "wide"}, "transformers can build"),
        ({"hidden_act": "no_such"}, "transformers can build"),
        ({"id2label": {"0": "only"}, "label2id": None}, r"1 label\(s\)"),
        (
            {"hidden_size": 64},
            r"its config\.json; 37 of another shape: classifier\.weight is \(5, 32\) in the file and \(5, 64\)",
        ),
        ({"num_hidden_layers": 3}, "does not fit .* 16 missing: vit.layers.2"),
        ({"num_hidden_layers": 1}, "does not fit .* 16 not in the network"),
    ],
)
def test_configurations_that_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read(folder)


def test_folders_that_lack_something(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"classifier\.path: there is no directory"):
        read(tmp_path / "absent")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(
        ModelError, match=r"has no preprocessor_config\.json.*give all of classifier\.resize, mean"
    ):
        read(folder, resize={"size": 32})
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no weights; looked for model\.safetensors, "):
        read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"there is no config\.json"):
        read(folder)


def test_the_library_is_as_loud_as_before(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    read(folder)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before

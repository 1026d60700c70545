"""What a user reads when a configuration cannot be used: the dotted path, what is allowed, what was given."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from raycp.config import RunConfig, parse_config
from raycp.config.train import TrainConfig
from raycp.errors import ConfigError

BASE = {
    "data": {"name": "digits"},
    "purifier": {"kind": "none"},
    "classifier": {"kind": "directory", "path": "models/classifier"},
}
TIMM = "{kind: timm, name: resnet18, num_classes: 10, weights: a.safetensors"


def problems(text: str) -> list[str]:
    """The lines of the error for these sections, given as YAML on top of a complete configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_config(RunConfig, BASE | yaml.safe_load(text), source="run.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "run.yaml:"
    assert all(line.startswith("  ") for line in lines)
    return [line[2:] for line in lines]


def test_the_base_is_complete() -> None:
    assert parse_config(RunConfig, BASE).certify.num_estimation == 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("certfy: {}", "certfy is not a known key; did you mean certify?"),
        ("certify: {num_estimations: 5}",
         "certify.num_estimations is not a known key; did you mean certify.num_estimation?"),
        ("certify: {N: 5}", "certify.N is not a known key; known keys here: sigmas, num_selection, num_estimation, "
         "alpha, rule, sequential, bound, skip_wrong, radii, noise, seed."),
        ("data: {name: digits, select: {skp: 2}}",
         "data.select.skp is not a known key; did you mean data.select.skip?"),
        ("data: {name: digits, path: x}", "data.path is not a known key; known keys here: select, name, split."),
        ("purifier: {kind: none, model: {path: x}}", "purifier.model is not a known key; known keys here: kind."),
        ("purifier: {kind: edm, model: {path: x, sigma_mx: 1}}",
         "purifier.model.sigma_mx is not a known key; did you mean purifier.model.sigma_max?"),
        ("purifier: {kind: ddpm, model: {path: x}, timesteps: search}",
         "purifier.timesteps is not a known key; did you mean purifier.timestep?"),
        # A key of another member of the union is not a key of this one.
        ("purifier: {kind: edm, model: {path: x}, timestep: search}",
         "purifier.timestep is not a known key; known keys here: kind, model, clip."),
        (f"classifier: {TIMM}, resize: {{size: 64, antialas: false}}}}",
         "classifier.resize.antialas is not a known key; did you mean classifier.resize.antialias?"),
    ],
)  # fmt: skip
def test_unknown_keys(text: str, message: str) -> None:
    assert problems(text) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("certify: {num_estimation: 0}", "certify.num_estimation must be at least 1, got 0."),
        ("certify: {alpha: 1}", "certify.alpha must be less than 1, got 1."),
        ("certify: {alpha: 0.0}", "certify.alpha must be greater than 0, got 0.0."),
        ("certify: {alpha: 2e3}", "certify.alpha must be less than 1, got '2e3'."),
        ("certify: {sigmas: [0.5, -1]}", "certify.sigmas.1 must be greater than 0, got -1."),
        ("certify: {radii: [-0.1]}", "certify.radii.0 must be at least 0, got -0.1."),
        ("certify: {seed: 18446744073709551616}",
         "certify.seed must be less than 18446744073709551616, got 18446744073709551616."),
        ("certify: {seed: -1}", "certify.seed must be at least 0, got -1."),
        ("engine: {tasks_in_flight: 9}", "engine.tasks_in_flight must be at most 8, got 9."),
        ("engine: {replicas: 0}", "engine.replicas must be at least 1, got 0."),
        ("data: {name: digits, select: {indices: [3, -1]}}", "data.select.indices.1 must be at least 0, got -1."),
        (f"classifier: {TIMM}, resize: {{size: 0}}}}", "classifier.resize.size must be at least 1, got 0."),
        ("numerics: {batch_size: 0}", "numerics.batch_size must be at least 1 or auto, got 0."),
        ("certify: {sigmas: []}", "certify.sigmas must have at least 1 entry, got []."),
    ],
)  # fmt: skip
def test_bounds(text: str, message: str) -> None:
    assert problems(text) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("certify: {num_estimation: many}", "certify.num_estimation: input should be a valid integer, unable to parse "
         "string as an integer, got 'many'."),
        ("certify: {alpha: small}",
         "certify.alpha: input should be a valid number, unable to parse string as a number, got 'small'."),
        ("certify: {alpha: .nan}", "certify.alpha: input should be a finite number, got nan."),
        ("certify: {sigmas: [.inf]}", "certify.sigmas.0: input should be a finite number, got inf."),
        ("certify: {sigmas: [inf]}", "certify.sigmas.0: input should be a finite number, got inf."),
        ("certify: {sigmas: 0.5}", "certify.sigmas must be a list, got 0.5."),
        ("certify: [1]", "certify must be a mapping of keys to values, got [1]."),
        ("certify:", "certify must be a mapping of keys to values, got None."),
        ("purifier: none", "purifier must be a mapping of keys to values, got 'none'."),
        ("purifier: {kind: edm, model: x}", "purifier.model must be a mapping of keys to values, got 'x'."),
        ("purifier: {kind: edm, model: {path: 3}}", "purifier.model.path: input should be a valid string, got 3."),
        # YAML reads yes, no, on and off as truth values; none of them is 1 or 0.
        ("certify: {num_estimation: yes}", "certify.num_estimation must not be true or false."),
        ("certify: {alpha: true}", "certify.alpha must not be true or false."),
        ("certify: {sigmas: [true]}", "certify.sigmas.0 must be a number."),
        ("numerics: {batch_size: on}", "numerics.batch_size must not be true or false."),
        ("engine: {replicas: no}", "engine.replicas must not be true or false."),
        ("data: {name: digits, select: {count: true}}", "data.select.count must not be true or false."),
        ("numerics: {dtype: float16}", "numerics.dtype must be one of 'float32' or 'bfloat16', got 'float16'."),
        ("certify: {bound: best}", "certify.bound must be one of 'one_sided' or 'two_class', got 'best'."),
    ],
)  # fmt: skip
def test_wrong_types_and_choices(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_both_kinds_of_batch_size_are_named() -> None:
    assert problems("numerics: {batch_size: outo}") == [
        "numerics.batch_size: input should be a valid integer, unable to parse string as an integer, got 'outo'.",
        "numerics.batch_size must be one of 'auto', got 'outo'.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("purifier: {kind: emd}",
         "purifier.kind must be one of 'none', 'ddpm', 'edm', 'pf_ode', 'consistency', 'densepure', 'diffsmooth', "
         "'python', got 'emd'."),
        ("purifier: {king: edm}", "purifier needs the key 'kind'."),
        ("data: {}", "data needs the key 'name'."),
        ("data: {name: cifar11}",
         "data.name must be one of 'digits', 'cifar10', 'cifar100', 'mnist', 'fashion_mnist', 'kmnist', "
         "'downsampled_imagenet', 'parquet', 'folder', 'npz', got 'cifar11'."),
        ("purifier: {kind: edm}", "purifier.model is required."),
        ("purifier: {kind: edm, model: {}}", "purifier.model.path is required."),
        ("data: {name: cifar10}", "data.path is required."),
        ("classifier: {kind: timm, name: x, weights: y}", "classifier.num_classes is required."),
    ],
)  # fmt: skip
def test_tags_and_required_keys(text: str, message: str) -> None:
    assert problems(text) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("certify: {sigmas: [0.5, 0.25, 0.5]}", "certify.sigmas must not repeat a value, got [0.5, 0.25, 0.5]."),
        ("purifier: {kind: edm, model: {path: x, sigma_min: 2, sigma_max: 2}}",
         "purifier.model.sigma_min must be below sigma_max, got 2.0 and 2.0."),
        ("classifier: {kind: timm, name: x, num_classes: 10}",
         "classifier: give either weights (a file) or pretrained: true, exactly one of them."),
        (f"classifier: {TIMM}, pretrained: true}}",
         "classifier: give either weights (a file) or pretrained: true, exactly one of them."),
        (f"classifier: {TIMM}, mean: [0.5]}}",
         "classifier.mean and std must be given together, with one value per channel each."),
        (f"classifier: {TIMM}, mean: [0.5], std: [1, 1]}}",
         "classifier.mean and std must be given together, with one value per channel each."),
        (f"classifier: {TIMM}, mean: [0.5], std: [0]}}",
         "classifier.std must be greater than 0 in every channel, got [0.0]."),
        ("data: {name: digits, select: {indices: [1], skip: 2}}",
         "data.select.indices excludes start, skip and count; give one or the other."),
        ("data: {name: digits, select: {indices: []}}",
         "data.select.indices must name at least one image, got an empty list."),
        ("data: {name: digits, select: {indices: [1, 1]}}", "data.select.indices must not repeat an image."),
        ("engine: {replicas: 2, min_replicas: 3}", "engine.min_replicas must be at most replicas, 2, got 3."),
        ("data: {name: folder, path: x, resize: 32, crop: 64}",
         "data.crop must be at most resize, the shorter side it is cut from, got crop 64 and resize 32."),
    ],
)  # fmt: skip
def test_rules_over_several_fields(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_all_problems_are_listed_once() -> None:
    text = "{certify: {alpha: 2, num_selection: 0, sed: 1}, numerics: {threads: 0}, engin: {}}"
    assert problems(text) == [
        "certify.num_selection must be at least 1, got 0.",
        "certify.alpha must be less than 1, got 2.",
        "certify.sed is not a known key; did you mean certify.seed?",
        "numerics.threads must be at least 1, got 0.",
        "engin is not a known key; did you mean engine?",
    ]


def test_nothing_given() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(RunConfig, {})
    assert str(caught.value) == (
        "the configuration:\n  data is required.\n  purifier is required.\n  classifier is required."
    )


def train(**stage: Any) -> dict[str, Any]:
    return {"data": {"name": "digits"}, "stages": [{"stage": "denoiser", "steps": 10, **stage}]}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"step": 1}, "stages.0.step is not a known key; did you mean stages.0.steps?"),
        ({"learning_rate": 0}, "stages.0.learning_rate must be greater than 0, got 0."),
        ({"stage": "denoise"}, "stages.0.stage must be one of 'classifier', 'denoiser', 'ddpm', 'consistency', "
         "'finetune', 'calibrate', got 'denoise'."),
        ({"steps": True}, "stages.0.steps must not be true or false."),
    ],
)  # fmt: skip
def test_lists_of_tagged_members(stage: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(TrainConfig, train(**stage), source="train.yaml")
    assert str(caught.value) == f"train.yaml:\n  {message}"

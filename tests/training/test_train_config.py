"""What `raycp train` refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from training_setups import DIGITS, train_config

from raycp.config import resolved
from raycp.config.models import TransformersClassifier
from raycp.config.stages import ConsistencyStage
from raycp.config.train import TrainedModel
from raycp.errors import ConfigError

CLASSIFIER = {"stage": "classifier", "steps": 1}
DENOISER = {"stage": "denoiser", "steps": 1}
CONSISTENCY = {"stage": "consistency", "steps": 1}
FINETUNE = {"stage": "finetune", "steps": 1}


def refused(*stages: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        train_config(*stages, **sections)
    return str(caught.value)


def test_the_four_stages_fit_together() -> None:
    config = train_config(CLASSIFIER, DENOISER, CONSISTENCY, FINETUNE)
    assert [stage.stage for stage in config.stages] == ["classifier", "denoiser", "consistency", "finetune"]


def test_stages_need_what_they_are_made_from_before_them() -> None:
    words = "teacher of consistency is denoiser, which must be a stage before it or one of models, got ['classifier']"
    assert words in refused(CLASSIFIER, CONSISTENCY)
    assert words in refused(CLASSIFIER, CONSISTENCY, DENOISER)
    assert "start of finetune is consistency, which must be a stage before it" in refused(
        CLASSIFIER, DENOISER, FINETUNE
    )
    assert (
        "start of finetune must be a consistency or finetune stage; denoiser is a denoiser stage"
        in refused(CLASSIFIER, DENOISER, {**FINETUNE, "start": "denoiser"})
    )


def test_only_lpips_needs_the_classifier() -> None:
    l2 = {"loss": "l2"}
    assert len(train_config(DENOISER, CONSISTENCY | l2, FINETUNE | l2).stages) == 3
    assert "perceptual of consistency is classifier, which must be a stage before it" in refused(
        DENOISER, CONSISTENCY
    )
    assert "perceptual of finetune is classifier" in refused(DENOISER, CONSISTENCY | l2, FINETUNE)


def test_models_of_other_trainings_stand_in_for_stages() -> None:
    models = {"teacher": {"path": "t"}, "judge": {"path": "j"}}
    config = train_config(
        {**CONSISTENCY, "teacher": "teacher", "perceptual": "judge"},
        {**FINETUNE, "perceptual": "judge"},
        models=models,
    )
    assert [stage.name for stage in config.stages] == ["consistency", "finetune"]
    assert "got ['teacher', 'judge']" in refused(CONSISTENCY, models=models)


def test_consistency_training_without_a_teacher_has_a_shape_of_its_own() -> None:
    alone = {**CONSISTENCY, "teacher": None, "method": "training", "loss": "l2"}
    (default,) = train_config(alone).stages
    assert isinstance(default, ConsistencyStage) and default.teacher is None
    assert (default.block_out_channels, default.layers_per_block, default.norm_num_groups, default.sigma_data) == (
        (16, 32), 1, 8, 0.5,
    )  # fmt: skip
    config = train_config({**alone, "block_out_channels": [12, 24], "norm_num_groups": 4, "sigma_data": 0.7})
    assert train_config(*resolved(config)["stages"]) == config
    (own,) = config.stages
    assert isinstance(own, ConsistencyStage) and own.block_out_channels == (12, 24) and own.sigma_data == 0.7


def test_distillation_needs_a_teacher() -> None:
    assert "stages.0.teacher must name a denoiser for method distillation" in refused(
        {**CONSISTENCY, "teacher": None, "loss": "l2"}
    )


@pytest.mark.parametrize(
    ("key", "value"),
    # the defaults too: whoever writes them expects them to be used
    [("block_out_channels", [16, 32]), ("layers_per_block", 1), ("norm_num_groups", 4), ("sigma_data", 0.5)],
)
@pytest.mark.parametrize("method", ["distillation", "training"])
def test_the_shape_is_inherited_where_there_is_a_teacher(key: str, value: Any, method: str) -> None:
    message = refused(DENOISER, {**CONSISTENCY, "loss": "l2", "method": method, key: value})
    assert f"stages.1.{key} must be left out where there is a teacher, denoiser," in message
    resolved_again = resolved(train_config(DENOISER, {**CONSISTENCY, "loss": "l2", "method": method}))
    assert train_config(*resolved_again["stages"]).stages[1].stage == "consistency"


def test_a_kind_may_be_trained_several_times_under_names() -> None:
    tuned = [{**FINETUNE, "name": f"finetune-{loss}", "loss": loss} for loss in ("lpips", "l1", "l2")]
    config = train_config(CLASSIFIER, DENOISER, CONSISTENCY, *tuned)
    assert [stage.name for stage in config.stages[3:]] == ["finetune-lpips", "finetune-l1", "finetune-l2"]
    assert "classifier must not repeat" in refused(CLASSIFIER, CLASSIFIER)
    assert "denoiser must not repeat" in refused(DENOISER, models={"denoiser": {"path": "d"}})
    assert "name" in refused({**CLASSIFIER, "name": "../up"})


def test_a_ddpm_is_a_purifier_but_no_teacher() -> None:
    ddpm = {"stage": "ddpm", "steps": 1}
    config = train_config(ddpm, {**CLASSIFIER, "noise_sigma": 0.5, "purifier": "ddpm"})
    assert [stage.stage for stage in config.stages] == ["ddpm", "classifier"]
    assert train_config(*resolved(config)["stages"]) == config
    assert "teacher of consistency must be a denoiser stage; ddpm is a ddpm stage" in refused(
        ddpm, {**CONSISTENCY, "loss": "l2", "teacher": "ddpm"}
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sigma_data", 0.5, "sigma_data"),  # it has no preconditioning
        ("max_sigma", 0, "stages.0.max_sigma must be greater than 0, got 0"),
        ("max_sigma", 79.0, "stages.0.max_sigma must be at most 78.0, got 79.0"),
        ("schedule", "quadratic", "stages.0.schedule must be one of 'linear' or 'cosine', got 'quadratic'"),
        ("block_out_channels", [12], "block_out_channels must be multiples of norm_num_groups, 8, got [12]"),
    ],
)
def test_keys_of_a_ddpm(key: str, value: Any, words: str) -> None:
    assert words in refused({"stage": "ddpm", "steps": 1, key: value})


def test_noise_that_a_ddpm_is_not_trained_on() -> None:
    ddpm = {"stage": "ddpm", "steps": 1, "max_sigma": 0.5}
    behind = {**CLASSIFIER, "noise_sigma": 0.6, "purifier": "ddpm"}
    words = "noise_sigma of classifier has 0.6, 1.2 in [-1,1] units, outside 0 to 1, the noise that ddpm is trained on"
    assert words in refused(ddpm, behind)
    train_config({**ddpm, "max_sigma": 0.6}, behind)
    words = "validation_sigmas has 1, 2 in [-1,1] units, outside 0 to 1"
    assert words in refused(ddpm, validation=DIGITS)
    train_config(ddpm, validation=DIGITS, validation_sigmas=[0.5])


GRID = {**CONSISTENCY, "loss": "l2", "sigma_min": 0.5, "sigma_max": 2.0}


@pytest.mark.parametrize(
    ("stages", "sections", "words"),
    [
        (
            [GRID, {**FINETUNE, "loss": "l2", "sigmas": [0.25, 1.1]}], {},
            "sigmas of finetune has 1.1, 2.2 in [-1,1] units, outside 0.5 to 2, the noise that finetune is "
            "trained on; allowed are 0.25 to 1.",
        ),
        (
            [GRID, {**CLASSIFIER, "noise_sigma": 0.2, "purifier": "consistency"}], {},
            "noise_sigma of classifier has 0.2, 0.4 in [-1,1] units",
        ),
        ([GRID], {"validation": DIGITS, "validation_sigmas": [0.2]}, "validation_sigmas has 0.2, 0.4 in [-1,1] units"),
    ],
)  # fmt: skip
def test_noise_levels_outside_the_grid_are_named(
    stages: list[dict[str, Any]], sections: dict[str, Any], words: str
) -> None:
    assert words in refused(DENOISER, *stages, **sections)
    wide = {**GRID, "sigma_min": 0.3, "sigma_max": 3.0}
    train_config(DENOISER, *[wide if stage is GRID else stage for stage in stages], **sections)


def test_parts_share_a_batch_evenly() -> None:
    message = refused({**CLASSIFIER, "batch_size": 12, "accumulate": 4}, engine={"workers": 2})
    assert (
        "the share of a worker in the batch of classifier, 12 / 2, must be a multiple of accumulate, 4"
        in message
    )


def test_workers_share_a_batch_evenly() -> None:
    message = refused({**CLASSIFIER, "batch_size": 10}, engine={"workers": 3})
    assert "batch_size of classifier, 10, must be a multiple of engine.workers, 3, for example 9." in message
    message = refused({**CLASSIFIER, "batch_size": 64}, engine={"workers": 4, "min_workers": 2})
    assert (
        "batch_size of classifier, 64, must be a multiple of every number from engine.min_workers to workers, 2, 3, 4, "
        "for example 60."
    ) in message
    message = refused(CLASSIFIER, engine={"workers": 2, "min_workers": 3})
    assert "min_workers must be at most workers, 2, got 3" in message


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({**CLASSIFIER, "steps": 0}, "steps must be at least 1, got 0"),
        ({**CLASSIFIER, "learning_rte": 1}, "did you mean stages.0.learning_rate?"),
        ({"stage": "gan", "steps": 1}, "got 'gan'"),
        ({**DENOISER, "log_std": 0}, "log_std must be greater than 0, got 0"),
        (
            {**DENOISER, "block_out_channels": [16, 20]},
            "stages.0.block_out_channels must be multiples of norm_num_groups, 8, got [16, 20]",
        ),
        ({**CLASSIFIER, "widths": [8, 12]}, "stages.0.widths must be multiples of groups, 8, got [8, 12]"),
        (
            {**CONSISTENCY, "sigma_min": 3, "sigma_max": 2},
            "stages.0.sigma_min must be below sigma_max, got 3 and 2",
        ),
        ({**CLASSIFIER, "ema_decay": 1}, "ema_decay must be less than 1"),
        ({**CLASSIFIER, "copies": 2}, "noise_sigma must be above 0"),
        ({**CLASSIFIER, "noise_sigma": 0.5, "consistency_weight": 5}, "copies must be at least 2"),
        (
            {**CLASSIFIER, "noise_sigma": 0.5, "purifier": "finetune"},
            "purifier of classifier is finetune, which must",
        ),
        (
            {**CLASSIFIER, "start": "classifier"},
            "start of classifier is classifier, which must be a stage before it",
        ),
        ({**FINETUNE, "perceptual": {"net": "resnet"}}, "resnet"),
        (
            {**CLASSIFIER, "start": "net", "widths": [16, 32]},
            "stages.0.widths must be left out where there is a start, net, whose network is trained on; got (16, 32)",
        ),
        ({**CLASSIFIER, "start": "net", "blocks": 1}, "stages.0.blocks must be left out"),
        ({**CLASSIFIER, "start": "net", "groups": 8}, "stages.0.groups must be left out"),
    ],
)
def test_values_outside_their_range_are_named(stage: dict[str, Any], words: str) -> None:
    assert words in refused(stage)


def test_a_model_may_be_the_section_of_a_classifier() -> None:
    vit = {"kind": "transformers", "path": "v", "truncate": True}
    stage = {**CLASSIFIER, "name": "tuned", "start": "vit"}
    config = train_config(stage, models={"vit": vit, "old": {"path": "o"}})
    assert isinstance(config.models["vit"], TransformersClassifier) and config.models["vit"].truncate
    assert isinstance(config.models["old"], TrainedModel)
    again = resolved(config)
    assert again["models"]["old"] == {"path": "o"}
    assert train_config(*again["stages"], models=again["models"]) == config
    assert (new := train_config(CLASSIFIER).stages[0]).stage == "classifier"
    assert new.architecture == {"widths": (16, 32), "blocks": 1, "groups": 8}
    for model, words in (
        (
            {"kind": "transformer", "path": "v"},
            "models.vit.kind must be one of 'timm', 'directory', 'transformers'",
        ),
        ({"kind": "cifar_resnet"}, "models.vit.weights is required"),
        ({**vit, "truncat": True}, "did you mean models.vit.truncate?"),
        ({"path": "v", "truncate": True}, "models.vit.truncate is not a known key; known keys here: path."),
    ):
        assert words in refused(stage, models={"vit": model})


def test_only_parquet_and_folders_stream() -> None:
    words = "streaming must be null for data.name digits, which is only read whole; parquet and folder data can stream"
    assert words in refused(CLASSIFIER, streaming={})
    for name in ("parquet", "folder"):
        config = train_config(CLASSIFIER, streaming={}, data={"name": name, "path": "anywhere"})
        assert config.streaming is not None and config.streaming.window == 16384

"""From a fixture to a verdict on every output that it records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raycp.errors import ModelError, UnsafeFileError
from raycp.parity.classifiers import cifar_resnet, image_classifier
from raycp.parity.comparison import Comparison, compare, not_compared
from raycp.parity.edm import edm
from raycp.parity.fixture import Case
from raycp.parity.openai import cifar10_consistency_models, consistency_models, improved_diffusion
from raycp.parity.pipelines import consistency_pipeline, ddpm_pipeline

# What torch modules raise on an input that they were not made for.
_REFUSALS = (RuntimeError, ValueError, TypeError, LookupError)


@dataclass(frozen=True)
class Format:
    """A published format.

    Attributes:
        repository: that fixture.json names as its source.
        word: in fixture.json's format, where a repository has several.
        inputs: recorded tensors that are taken as they are. All others are outputs, and so is an input with a
            tolerance.
        compute: from a case and an empty folder for converted models to all outputs by name; may raise ModelError.
    """

    repository: str
    word: str
    inputs: frozenset[str]
    compute: Callable[[Case, Path], dict[str, Tensor]]


_FORMATS = (
    Format(
        "openai/consistency_models",
        "state_dict",
        frozenset({"x0", "noise", "sigmas", "class_labels", "x_t"}),
        consistency_models,
    ),
    Format(
        "openai/improved-diffusion",
        "state_dict",
        frozenset({"x", "noise", "sigma", "x_t"}),
        improved_diffusion,
    ),
    Format(
        "openai/consistency_models_cifar10",
        "flax",
        frozenset({"x0", "noise", "t", "x_t"}),
        cifar10_consistency_models,
    ),
    Format("NVlabs/edm", "EDMPrecond", frozenset({"x0", "noise", "sigma", "x_t", "class_labels"}), edm),
    Format(
        "huggingface/diffusers",
        "ConsistencyModelPipeline",
        frozenset(
            {f"{grid}{name}" for grid in ("", "offgrid_") for name in ("x0", "noise", "class_labels", "x_t")}
            | {"train_timestep", "offgrid_sigma", "pipeline_latents"}
        ),
        consistency_pipeline,
    ),
    Format("huggingface/diffusers", "DDPMPipeline", frozenset({"x", "noise", "t"}), ddpm_pipeline),
    Format(
        "huggingface/transformers", "ForImageClassification", frozenset({"images_uint8"}), image_classifier
    ),
    Format("akamaster/pytorch_resnet_cifar10", "torch", frozenset({"images_uint8", "labels"}), cifar_resnet),
)


@torch.no_grad()
def check_case(case: Case) -> list[Comparison]:
    """Load the checkpoint as raycp loads a published one, run the recorded inputs, compare every recorded output.

    Returns:
        A row per output, in the order of the record. Those of a checkpoint that could not be loaded or evaluated, and
        those that raycp has no name for, are among them, with the reason.

    Raises:
        ModelError: the fixture is of no known format.
    """
    format_ = _format_of(case)
    outputs = [name for name in case.recorded if name not in format_.inputs or name in case.tolerances]
    try:
        with tempfile.TemporaryDirectory(prefix="raycp-parity-") as folder:
            computed: Mapping[str, Tensor] = format_.compute(case, Path(folder))
    except (ModelError, UnsafeFileError) as err:
        return [not_compared(case, name, str(err)) for name in outputs]
    except _REFUSALS as err:
        reason = f"the network fails on the recorded inputs: {type(err).__name__}: {err}"
        return [not_compared(case, name, reason) for name in outputs]
    unknown = f"raycp computes no output of this name for files of {format_.repository}"
    return [
        compare(case, name, computed[name]) if name in computed else not_compared(case, name, unknown)
        for name in outputs
    ]


def inputs_of(case: Case) -> list[str]:
    """The recorded tensors that `check_case` takes as they are, and compares with nothing."""
    inputs = _format_of(case).inputs
    return [name for name in case.recorded if name in inputs and name not in case.tolerances]


def _format_of(case: Case) -> Format:
    repository, text = case.entry("source", "repository", of=str), case.entry("format", of=str)
    repository = repository.removeprefix("https://github.com/")
    for format_ in _FORMATS:
        if format_.repository == repository and format_.word in text:
            return format_
    known = ", ".join(f"{format_.repository} ({format_.word})" for format_ in _FORMATS)
    raise ModelError(
        f"{case.path} is of {repository} ({text}), which raycp has no reader for; it has for {known}."
    )

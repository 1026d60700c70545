"""Image classifiers of the transformers library."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raycp.errors import ModelError

# Entries of config.json that do not describe the network: where it came from, its dtype on disk, code beside it.
_LEFT_OUT = (
    "auto_map", "name_or_path", "transformers_version", "torchscript", "dtype", "torch_dtype", "id2label", "label2id",
    "attn_implementation", "experts_implementation", "output_attentions", "output_hidden_states", "return_dict",
    "use_cache", "problem_type",
)  # fmt: skip
# Not by their pixels alone, or by files of another library.
_REFUSED = {
    "timm_wrapper": "use kind timm",
    "imagegpt": "it takes colour clusters, not pixels",
    "shieldgemma2": "it takes a text beside the image",
}
# Softmax written out. The fused kernels behind `sdpa` are chosen by the device, the shapes and global switches of
# torch; this one is the same everywhere, and on a CPU as fast (ViT-B/16: 0.38 s per image and core, both).
_ATTENTION = "eager"
_UNBUILDABLE = (
    ValueError, TypeError, AttributeError, RuntimeError, LookupError, ArithmeticError, AssertionError, ImportError,
    OSError,
)  # fmt: skip


class TransformersNetwork(nn.Module):
    """A model of transformers as images [B,C,H,W] -> logits [B,K]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B,K] of normalised images [B,C,H,W]."""
        logits_BK: Tensor = self.model(pixel_values=x_BCHW).logits
        return logits_BK


def transformers_arguments(content: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The plain JSON arguments that `make_transformers_network` builds the network from.

    Args:
        content: of config.json.
        source: its path, for messages.

    Returns:
        model_type, num_labels, and config: all that the library's configuration class knows, defaults included.

    Raises:
        ModelError: it describes no image classifier that transformers knows without code from elsewhere.
    """
    model_type = content.get("model_type")
    _require_known_type(model_type, source)
    if "quantization_config" in content:
        raise ModelError(f"{source} describes a quantised network; raycp takes floating-point weights.")
    with _building(str(source)):
        config = _config_class(str(model_type)).from_dict(_stripped(content, keep=("id2label",)))
        values = json.loads(config.to_json_string(use_diff=False))
        num_labels = int(config.num_labels)
    if num_labels < 2:
        raise ModelError(
            f"{source} describes a network of {num_labels} label(s); a classifier has at least 2 (id2label)."
        )
    config_values = {**_stripped(values), "architectures": content.get("architectures") or []}
    return {"model_type": model_type, "num_labels": num_labels, "config": config_values}


def make_transformers_network(arguments: Mapping[str, Any]) -> TransformersNetwork:
    """Build the network: on the meta device, or with random weights where some of it is outside its state_dict.

    Raises:
        ModelError: transformers cannot build it.
    """
    with _building(f"the configuration of a {arguments['model_type']}"):
        config = make_transformers_config(arguments)
        with torch.device("meta"):
            network = _from_config(config)
        if not _all_in_state(network):
            # Seeded, though what such a network keeps outside is computed and not drawn.
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                network = _from_config(config)
    return network.eval()


def _from_config(config: Any) -> TransformersNetwork:
    from transformers import AutoModelForImageClassification

    model_class: Any = AutoModelForImageClassification
    model = model_class.from_config(config, attn_implementation=_ATTENTION, dtype=torch.float32)
    return TransformersNetwork(model)


def make_transformers_config(arguments: Mapping[str, Any]) -> Any:
    """The configuration object of the library."""
    return _config_class(arguments["model_type"]).from_dict(
        {**arguments["config"], "num_labels": arguments["num_labels"]}
    )


def transformers_state(
    arguments: Mapping[str, Any], network: TransformersNetwork, tensors: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The tensors of a file under the names of this version of transformers, which renames layers now and then.

    Raises:
        ModelError: some are missing, unknown to the network, or of another shape.
    """
    model_class: Any = type(network.model)
    with quietly(), _building(source):
        model, found = model_class.from_pretrained(
            None,
            config=make_transformers_config(arguments),
            state_dict=dict(tensors),
            attn_implementation=_ATTENTION,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    problems = [
        f"{len(found[key])} {what}: {', '.join(sorted(map(_name, found[key]))[:5])}"
        for key, what in (
            ("missing_keys", "missing"),
            ("unexpected_keys", "not in the network"),
            ("mismatched_keys", "of another shape"),
            ("error_msgs", "failures"),
        )
        if found[key]
    ]
    if problems:
        raise ModelError(
            f"{source} does not fit a {model_class.__name__} of its config.json; {'; '.join(problems)}."
        )
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def _name(problem: str | tuple[str, torch.Size, torch.Size]) -> str:
    if isinstance(problem, str):
        return problem
    name, given, wanted = problem
    return f"{name} is {tuple(given)} in the file and {tuple(wanted)} in the network"


def _config_class(model_type: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    mapping: Any = CONFIG_MAPPING
    return mapping[model_type]


def _require_known_type(model_type: Any, source: Path) -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    known = sorted(set(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES) - set(_REFUSED))
    if model_type in known:
        return
    if model_type in _REFUSED:
        raise ModelError(f"{source}: raycp does not take model_type {model_type!r}; {_REFUSED[model_type]}.")
    close = difflib.get_close_matches(str(model_type), known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(close)}?" if close else f"allowed are {', '.join(known)}."
    raise ModelError(
        f"{source}: transformers {transformers.__version__} has no image classifier of model_type {model_type!r} (code "
        f"beside the weights is never run); {hint}"
    )


def _stripped(values: Mapping[str, Any], keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """Without what does not describe the network, here and in the configurations within."""
    return {
        name: _stripped(value) if isinstance(value, dict) and name not in keep else value
        for name, value in values.items()
        if name in keep or not (name.startswith("_") or name in _LEFT_OUT)
    }


def _all_in_state(network: nn.Module) -> bool:
    state = network.state_dict()
    return all(name in state for name, _ in [*network.named_parameters(), *network.named_buffers()])


@contextmanager
def _building(source: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        StrictDataclassError,
    )  # what a configuration says of a value of another type

    try:
        yield
    except (*_UNBUILDABLE, StrictDataclassError) as err:
        raise ModelError(
            f"{source} is not one that transformers can build an image classifier of: {err}"
        ) from err


@contextmanager
def quietly() -> Iterator[None]:
    """Without the library's progress bars and reports: what they say goes into an error."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

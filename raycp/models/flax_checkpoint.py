"""Flax checkpoints of consistency_models_cifar10: NCSN++ networks, read without JAX and as data.

Source: github.com/openai/consistency_models_cifar10; flax.serialization for the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from torch import Tensor

from raycp.errors import ModelError
from raycp.models.score_unet import ScoreUNet

AVERAGED = "params_ema"
_ARRAY = 1
_DTYPES = ("float32", "float16", "float64", "int32", "int64", "uint32", "uint8", "bool")
_DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    msgpack.exceptions.UnpackException,
)
_ATTENTION = 16
"""Height at which all published networks attend; the files do not say it."""


@dataclass(frozen=True)
class FlaxCheckpoint:
    """The parameters that were read, by path such as `Conv_0/kernel`, and what else the file holds, by name."""

    state: Mapping[str, Tensor]
    others: tuple[str, ...]


def is_flax_checkpoint(head: bytes) -> bool:
    """Whether the first bytes of a file are a MessagePack map with parameters."""
    return bool(head) and (0x81 <= head[0] <= 0x8F or head[0] == 0xDE) and b"params" in head


def read_flax_checkpoint(path: Path, which: str = AVERAGED) -> FlaxCheckpoint:
    """Read the averaged parameters, `params_ema`, which are the published model; or others, such as `params`.

    Raises:
        ModelError: the file is damaged, or holds something else.
    """
    try:
        content = msgpack.unpackb(path.read_bytes(), ext_hook=_extension, raw=False, strict_map_key=False)
        parameters = content.pop(which)
        return FlaxCheckpoint(dict(_leaves(parameters)), tuple(map(str, content)))
    except _DAMAGED as err:
        raise ModelError(
            f"{path} is damaged or not a flax checkpoint with {which} ({type(err).__name__}: {err})."
        ) from err


def is_ncsnpp(state: Mapping[str, Any]) -> bool:
    """Whether parameters have the names of that repository's NCSN++."""
    return {
        "Conv_0/kernel",
        "GaussianFourierProjection_0/W",
        "ResnetBlockBigGANpp_0/Conv_0/kernel",
    } <= state.keys()


def ncsnpp(
    state: Mapping[str, Tensor], image_size: int, source: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of a `ScoreUNet`, and its tensors.

    Args:
        state: the parameters.
        image_size: height and width, pixels.
        source: where they come from, for messages.

    Raises:
        ModelError: they are those of another network.
    """
    try:
        arguments = _arguments(state, image_size)
        with torch.device("meta"):
            network = ScoreUNet(**arguments)
        return arguments, _converted(dict(state), network)
    except (LookupError, ValueError, ArithmeticError, RuntimeError) as err:
        raise ModelError(
            f"{source} is not laid out as an NCSN++ of consistency_models_cifar10: {err!r}."
        ) from err


def _extension(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"an entry of type {code}, which is no array")
    shape, dtype, numbers = msgpack.unpackb(data, raw=False)
    if dtype not in _DTYPES:
        raise ValueError(f"an array of {dtype}")
    return torch.from_numpy(np.frombuffer(numbers, dtype).reshape(shape).copy())


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in tree.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _leaves(value, f"{prefix}{name}/")


def _arguments(state: Mapping[str, Tensor], image_size: int) -> dict[str, Any]:
    channels = state["Conv_0/kernel"].shape[3]
    blocks = _count(state, "ResnetBlockBigGANpp")
    levels = _count(state, "Downsample") + 1
    # On the way down and up, n and n + 1 of each resolution, one for each change, and two in the middle.
    num_blocks, rest = divmod(blocks - 3 * levels, 2 * levels)
    if rest or num_blocks < 1:
        raise ValueError(f"{blocks} residual blocks for {levels} resolutions")
    firsts = [f"ResnetBlockBigGANpp_{level * (num_blocks + 1)}/Conv_0/kernel" for level in range(levels)]
    return {
        "sample_size": image_size,
        "in_channels": state["Conv_0/kernel"].shape[2],
        "channels": channels,
        "channel_mult": [state[first].shape[3] // channels for first in firsts],
        "num_blocks": num_blocks,
        "attention_resolutions": [_ATTENTION],
        "fourier": True,
        "residual_input": True,
        "noise_mult": 2 * len(state["GaussianFourierProjection_0/W"]) // channels,
        "resample_filter": [1, 3, 3, 1],
        "num_class_embeds": None,
    }


def _count(state: Mapping[str, Tensor], kind: str) -> int:
    """Modules of a kind; flax numbers them in the order in which they are called."""
    return len({name.partition("/")[0] for name in state if name.startswith(f"{kind}_")})


def _converted(state: dict[str, Tensor], network: ScoreUNet) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def move(old: str, new: str) -> None:
        names = {
            "kernel": "weight",
            "weight": "weight",
            "scale": "weight",
            "W": "weight",
            "bias": "bias",
            "b": "bias",
        }
        for name, ours in names.items():
            tensor = state.pop(f"{old}/{name}", None)
            if tensor is not None:
                order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(tensor.dim())
                found[f"{new}.{ours}"] = tensor if order is None else tensor.permute(order)

    found["map_noise.freqs"] = state.pop("GaussianFourierProjection_0/W")
    move("Dense_0", "map_layer0")
    move("Dense_1", "map_layer1")
    resnets = attentions = pyramids = 0
    for part in ("enc", "dec"):
        for name, layer in getattr(network, part).items():
            new = f"{part}.{name}"
            if name.endswith("_conv"):
                move("Conv_0" if part == "enc" else "Conv_1", new)
            elif name.endswith("_aux_norm"):
                move("GroupNorm_0", new)
            elif name.endswith("_aux_residual"):
                move(f"Downsample_{pyramids}/Conv2d_0", new)
                pyramids += 1
            else:
                old = f"ResnetBlockBigGANpp_{resnets}"
                resnets += 1
                for before, after in _BLOCK.items():
                    move(f"{old}/{before}", f"{new}.{after}")
                if layer.attends:
                    _move_attention(f"AttnBlockpp_{attentions}", new, state, found)
                    attentions += 1
    if state:
        raise ValueError(f"{len(state)} tensors that such a network does not have, first {next(iter(state))}")
    return found


_BLOCK = {
    "GroupNorm_0": "norm0",
    "Conv_0": "conv0",
    "Dense_0": "affine",
    "GroupNorm_1": "norm1",
    "Conv_1": "conv1",
    "Conv_2": "skip",
}


def _move_attention(old: str, new: str, state: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    found[f"{new}.norm2.weight"] = state.pop(f"{old}/GroupNorm_0/scale")
    found[f"{new}.norm2.bias"] = state.pop(f"{old}/GroupNorm_0/bias")
    weights = [state.pop(f"{old}/NIN_{number}/W").T for number in range(4)]
    biases = [state.pop(f"{old}/NIN_{number}/b") for number in range(4)]
    # The three are next to each other, channel by channel.
    found[f"{new}.qkv.weight"] = torch.stack(weights[:3], dim=1).flatten(0, 1)[:, :, None, None]
    found[f"{new}.qkv.bias"] = torch.stack(biases[:3], dim=1).flatten()
    found[f"{new}.proj.weight"] = weights[3][:, :, None, None]
    found[f"{new}.proj.bias"] = biases[3]

"""OpenAI's U-Net (guided diffusion, improved-diffusion, consistency_models) as a diffusers `UNet2DModel`.

The architecture is read off the tensors, but for what they do not show: the number of attention heads and the size of
the images. Both computations are the same up to rounding.

Source: github.com/openai/consistency_models (cm/unet.py), github.com/openai/improved-diffusion (unet.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from raycp.errors import ModelError
from raycp.models.diffusers_unet import ATTENTION_HEADS

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
PUBLISHED_HEAD_WIDTH = 64
"""Channels of a head in the models of consistency_models."""
PUBLISHED_HEADS = 4
"""Heads of a layer in the models of improved-diffusion."""


def is_openai_unet(names: Mapping[str, Any]) -> bool:
    """Whether tensors have the names of such a network."""
    return {
        "time_embed.0.weight",
        "input_blocks.0.0.weight",
        "middle_block.0.in_layers.0.weight",
    } <= names.keys()


def diffusers_unet(
    state: Mapping[str, Tensor], image_size: int, head_width: int | None, source: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of a `UNet2DModel`, and its tensors.

    Args:
        state: the published state_dict.
        image_size: height and width, pixels.
        head_width: channels of an attention head; None: as published, 64 channels for consistency_models, 4 heads for
            improved-diffusion.
        source: where the tensors come from, for messages.

    Raises:
        ModelError: the tensors are those of another network, or of one that a `UNet2DModel` cannot express.
    """
    try:
        return _Converter(dict(state), head_width, source).convert(image_size)
    except (LookupError, ValueError, ArithmeticError, RuntimeError) as err:
        raise ModelError(f"{source} is not laid out as a U-Net of OpenAI: {err!r}.") from err


class _Converter:
    """Takes tensors out of one dictionary and puts them into another."""

    def __init__(self, state: dict[str, Tensor], head_width: int | None, source: str) -> None:
        self._state, self._head_width, self._source = state, head_width, source
        self._converted: dict[str, Tensor] = {}
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("output_blocks."))
        ends = [
            name for number in range(blocks) if (name := self._change(f"output_blocks.{number}")) is not None
        ]
        self._levels = len(ends) + 1
        self._resnets = blocks // self._levels - 1
        if self._levels * (self._resnets + 1) != blocks or self._resnets < 1:
            raise ValueError(f"{blocks} blocks on the way up, for {self._levels} resolutions")
        self._convolves = any(f"{name}.conv.weight" in state for name in ends)
        # improved-diffusion fuses [heads, 3, width] in a 1-D convolution, consistency_models [3, heads, width].
        self._heads_first = any(name.endswith(".qkv.weight") and t.dim() == 3 for name, t in state.items())

    def convert(self, image_size: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        each, state = self._resnets + 1, self._state
        down = [
            [1 + level * each + number for number in range(self._resnets)] for level in range(self._levels)
        ]
        channels = [state[f"input_blocks.{first}.0.out_layers.3.weight"].shape[0] for first, *_ in down]
        attends = [f"input_blocks.{first}.1.qkv.weight" in state for first, *_ in down]
        attending = [count for count, has in zip(channels, attends, strict=True) if has]
        counts = {*attending, channels[-1]}
        arguments = self._arguments(channels, attends, image_size) | self._heads(counts)
        for old, new in _OUTSIDE.items():
            self._move(old, new)
        if arguments["num_class_embeds"] is not None:
            self._converted["class_embedding.weight"] = state.pop("label_emb.weight")
        for level, numbers in enumerate(down):
            for place, number in enumerate(numbers):
                self._move_block(f"input_blocks.{number}", f"down_blocks.{level}", place)
            if level < self._levels - 1:
                self._move_change(
                    f"input_blocks.{numbers[-1] + 1}.0", "op", f"down_blocks.{level}.downsamplers.0"
                )
        for level in range(self._levels):
            for place in range(each):
                self._move_block(f"output_blocks.{level * each + place}", f"up_blocks.{level}", place)
            if level < self._levels - 1:
                change = self._change(f"output_blocks.{level * each + self._resnets}")
                if change is None:
                    raise ValueError(
                        f"output_blocks.{level * each + self._resnets} does not change the resolution"
                    )
                self._move_change(change, "conv", f"up_blocks.{level}.upsamplers.0")
        for number in (0, 1):
            self._move_resnet(f"middle_block.{2 * number}", f"mid_block.resnets.{number}")
        self._move_attention("middle_block.1", "mid_block.attentions.0")
        if state:
            raise ValueError(
                f"{len(state)} tensors that such a network does not have, first {next(iter(state))}"
            )
        return arguments, self._converted

    def _arguments(self, channels: list[int], attends: list[bool], image_size: int) -> dict[str, Any]:
        state, labels = self._state, self._state.get("label_emb.weight")
        down, up, change = ("DownBlock2D", "UpBlock2D", "conv")
        if not self._convolves:
            down, up, change = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", "resnet")
        scaled = state["middle_block.0.emb_layers.1.weight"].shape[0] == 2 * channels[-1]
        return {
            "sample_size": image_size,
            "in_channels": state["input_blocks.0.0.weight"].shape[1],
            "out_channels": state["out.2.weight"].shape[0],
            "time_embedding_type": "positional",
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "down_block_types": ["AttnDownBlock2D" if has else down for has in attends],
            "up_block_types": ["AttnUpBlock2D" if has else up for has in reversed(attends)],
            "block_out_channels": channels,
            "layers_per_block": self._resnets,
            "downsample_padding": 1,
            "downsample_type": change,
            "upsample_type": change,
            "act_fn": "silu",
            "norm_num_groups": 32,
            "attn_norm_num_groups": 32,
            "norm_eps": 1e-5,
            "resnet_time_scale_shift": "scale_shift" if scaled else "default",
            "num_class_embeds": None if labels is None else labels.shape[0],
        }

    def _heads(self, counts: set[int]) -> dict[str, int]:
        """What says so of the heads in layers of these numbers of channels: diffusers has one width for all."""
        widths = {self._width(count) for count in counts}
        if len(widths) == 1:
            return {"attention_head_dim": widths.pop()}
        # A width that divides all of them gives layers of the right size, whose heads are set afterwards.
        return {"attention_head_dim": math.gcd(*counts), ATTENTION_HEADS: PUBLISHED_HEADS}

    def _width(self, count: int) -> int:
        """Channels of a head in a layer of `count` channels."""
        width = self._head_width or (count // PUBLISHED_HEADS if self._heads_first else PUBLISHED_HEAD_WIDTH)
        if count % width:
            raise ModelError(
                f"{self._source} has an attention layer of {count} channels, which heads of {width} channels do not "
                "divide; give the width of its heads."
            )
        return width

    def _change(self, block: str) -> str | None:
        """The module at the end of a block that changes the resolution."""
        for number in (1, 2):
            name = f"{block}.{number}"
            if f"{name}.in_layers.0.weight" in self._state or f"{name}.conv.weight" in self._state:
                return name
        return None

    def _move(self, old: str, new: str) -> None:
        for kind in ("weight", "bias"):
            self._converted[f"{new}.{kind}"] = self._state.pop(f"{old}.{kind}")

    def _move_block(self, old: str, new: str, place: int) -> None:
        self._move_resnet(f"{old}.0", f"{new}.resnets.{place}")
        if f"{old}.1.qkv.weight" in self._state:
            self._move_attention(f"{old}.1", f"{new}.attentions.{place}")

    def _move_resnet(self, old: str, new: str) -> None:
        for before, after in _RESNET.items():
            if before != "skip_connection" or f"{old}.{before}.weight" in self._state:
                self._move(f"{old}.{before}", f"{new}.{after}")

    def _move_change(self, old: str, convolution: str, new: str) -> None:
        if self._convolves:
            self._move(f"{old}.{convolution}", f"{new}.conv")
        else:
            self._move_resnet(old, new)

    def _move_attention(self, old: str, new: str) -> None:
        self._move(f"{old}.norm", f"{new}.group_norm")
        for kind in ("weight", "bias"):
            fused = (
                self._state.pop(f"{old}.qkv.{kind}").flatten(1)
                if kind == "weight"
                else self._state.pop(f"{old}.qkv.{kind}")
            )
            rest = fused.shape[1:]
            width = self._width(fused.shape[0] // 3)
            heads = fused.shape[0] // (3 * width)
            parts = (
                fused.reshape(heads, 3, width, *rest).transpose(0, 1)
                if self._heads_first
                else fused.reshape(3, heads, width, *rest)
            )
            for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
                self._converted[f"{new}.{name}.{kind}"] = part.reshape(heads * width, *rest)
        self._converted[f"{new}.to_out.0.weight"] = self._state.pop(f"{old}.proj_out.weight").flatten(1)
        self._converted[f"{new}.to_out.0.bias"] = self._state.pop(f"{old}.proj_out.bias")

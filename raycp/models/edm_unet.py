"""The networks of NVlabs' EDM: DDPM++ and NCSN++ as `ScoreUNet`, ADM as a `UNet2DModel` of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raycp.errors import ModelError
from raycp.models.diffusers_unet import MIN_CHANNELS_PER_GROUP, NOISE_CHANNELS

_HEAD_WIDTH = 64
_GROUPS, _CHANNELS_PER_GROUP = 32, 4
"""A layer has as many groups of normalisation, or as many fewer as give each group this many channels."""
_RESNET = {"norm0": "norm1", "conv0": "conv1", "affine": "time_emb_proj", "norm1": "norm2", "conv1": "conv2"}
_OUTSIDE = {
    "map_layer0": "time_embedding.linear_1",
    "map_layer1": "time_embedding.linear_2",
    "out_norm": "conv_norm_out",
    "out_conv": "conv_out",
}
# What the arguments of EDM's networks are where a file leaves them out.
_DEFAULTS: dict[str, Any] = {
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "num_blocks": 4,
    "attn_resolutions": [16],
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "channel_mult_emb": 4,
    "resample_filter": [1, 1],
    "label_dim": 0,
    "augment_dim": 0,
}
_ADM_DEFAULTS: dict[str, Any] = {
    "model_channels": 192, "channel_mult": [1, 2, 3, 4], "num_blocks": 3, "attn_resolutions": [32, 16, 8],
}  # fmt: skip


def edm_unet(
    arguments: Mapping[str, Any], state: Mapping[str, Tensor], source: str, head_width: int | None = None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The class that evaluates a network, its arguments and its tensors.

    Args:
        arguments: of the constructor of EDM's preconditioner, by name.
        state: its state_dict.
        source: where both come from, for messages.
        head_width: channels of an attention head of ADM, a constant in EDM's code; None: 64, as published.

    Returns:
        `ScoreUNet` or `UNet2DModel`; the arguments of that class; the tensors by its names.

    Raises:
        ModelError: the network is of another kind, or its tensors are not those of its arguments.
    """
    try:
        inner = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        kind = arguments["model_type"]
        if kind == "DhariwalUNet":
            given = {**_DEFAULTS, **_ADM_DEFAULTS, **arguments}
            return "UNet2DModel", *_Adm(given, inner, head_width or _HEAD_WIDTH).convert()
        if kind != "SongUNet":
            raise ModelError(f"{source} is a network of kind {kind}; known are SongUNet and DhariwalUNet.")
        if head_width is not None:
            raise ModelError(
                f"{source} is a SongUNet of EDM, whose layers have one head each; give no head width."
            )
        return "ScoreUNet", *_score({**_DEFAULTS, **arguments}, inner, source)
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as err:
        raise ModelError(f"{source} is not laid out as a network of EDM: {err!r}.") from err


def _score(
    given: Mapping[str, Any], state: dict[str, Tensor], source: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    embedding, encoder, decoder = (given[f"{part}_type"] for part in ("embedding", "encoder", "decoder"))
    if (
        embedding not in ("positional", "fourier")
        or encoder not in ("standard", "residual")
        or decoder != "standard"
    ):
        raise ModelError(
            f"{source} has embedding_type {embedding}, encoder_type {encoder} and decoder_type {decoder}; evaluated "
            "are positional and fourier, standard and residual, and standard."
        )
    row = torch.tensor(given["resample_filter"], dtype=torch.float32)
    kernel = torch.outer(row, row) / row.sum() ** 2
    for name, tensor in state.items():
        if name.endswith("resample_filter") and not torch.allclose(tensor.float().squeeze(), kernel):
            raise ValueError(f"{name} is not {given['resample_filter']}")
    arguments = {
        "sample_size": int(given["img_resolution"]),
        "in_channels": int(given["img_channels"]),
        "channels": int(given["model_channels"]),
        "channel_mult": list(given["channel_mult"]),
        "num_blocks": int(given["num_blocks"]),
        "attention_resolutions": list(given["attn_resolutions"]),
        "fourier": embedding == "fourier",
        "residual_input": encoder == "residual",
        "noise_mult": int(given["channel_mult_noise"]),
        "resample_filter": list(given["resample_filter"]),
        "num_class_embeds": int(given["label_dim"]) or None,
    }
    # The augmentation that training told the network about is absent when it is used.
    kept = {n: t for n, t in state.items() if not n.endswith("resample_filter") and n != "map_augment.weight"}
    return arguments, kept


class _Adm:
    """Takes tensors out of one dictionary and puts them into another."""

    def __init__(self, given: Mapping[str, Any], state: dict[str, Tensor], head_width: int) -> None:
        self._given, self._head_width = given, head_width
        self._state = {name: tensor for name, tensor in state.items() if not name.endswith("resample_filter")}
        self._converted: dict[str, Tensor] = {}

    def convert(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        given, state = self._given, self._state
        size, mults, blocks = (
            int(given["img_resolution"]),
            list(given["channel_mult"]),
            int(given["num_blocks"]),
        )
        if list(given["resample_filter"]) != [1, 1]:
            raise ValueError(f"resample_filter {given['resample_filter']}, which must be [1, 1] in diffusers")
        sizes = [f"{size >> level}x{size >> level}" for level in range(len(mults))]
        attends = [f"enc.{name}_block0.qkv.weight" in state for name in sizes]
        self._move(f"enc.{sizes[0]}_conv", "conv_in")
        for old, new in _OUTSIDE.items():
            self._move(old, new)
        if given["label_dim"]:
            self._converted["class_embedding.weight"] = state.pop("map_label.weight").T
        state.pop("map_augment.weight", None)
        last = len(sizes) - 1
        for level, name in enumerate(sizes):
            if level:
                self._move_block(f"enc.{name}_down", f"down_blocks.{level - 1}", "downsamplers.0")
                self._move_block(f"dec.{sizes[level - 1]}_up", f"up_blocks.{last - level}", "upsamplers.0")
            for number in range(blocks):
                self._move_block(f"enc.{name}_block{number}", f"down_blocks.{level}", f"resnets.{number}")
            for number in range(blocks + 1):
                self._move_block(
                    f"dec.{name}_block{number}", f"up_blocks.{last - level}", f"resnets.{number}"
                )
        for number in (0, 1):
            self._move_block(f"dec.{sizes[-1]}_in{number}", "mid_block", f"resnets.{number}")
        if state:
            raise ValueError(
                f"{len(state)} tensors that such a network does not have, first {next(iter(state))}"
            )
        return self._arguments(size, mults, blocks, attends), self._converted

    def _arguments(self, size: int, mults: list[int], blocks: int, attends: list[bool]) -> dict[str, Any]:
        given = self._given
        channels = int(given["model_channels"])
        widths = [channels * mult for mult in mults]
        own = {}
        if min(widths) < _GROUPS * _CHANNELS_PER_GROUP:
            own[MIN_CHANNELS_PER_GROUP] = _CHANNELS_PER_GROUP
        if widths[0] != channels:
            own[NOISE_CHANNELS] = channels
        return {
            "sample_size": size,
            "in_channels": int(given["img_channels"]),
            "out_channels": int(given["img_channels"]),
            "time_embedding_type": "positional",
            "time_embedding_dim": channels * int(given["channel_mult_emb"]),
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "down_block_types": ["AttnDownBlock2D" if has else "ResnetDownsampleBlock2D" for has in attends],
            "up_block_types": [
                "AttnUpBlock2D" if has else "ResnetUpsampleBlock2D" for has in reversed(attends)
            ],
            "block_out_channels": widths,
            "layers_per_block": blocks,
            "downsample_type": "resnet",
            "upsample_type": "resnet",
            "act_fn": "silu",
            "attention_head_dim": self._head_width,
            "norm_num_groups": _GROUPS,
            "attn_norm_num_groups": _GROUPS,
            "norm_eps": 1e-5,
            "resnet_time_scale_shift": "scale_shift",
            "num_class_embeds": int(given["label_dim"]) or None,
            **own,
        }

    def _move(self, old: str, new: str) -> None:
        for kind in ("weight", "bias"):
            self._converted[f"{new}.{kind}"] = self._state.pop(f"{old}.{kind}")

    def _move_block(self, old: str, group: str, new: str) -> None:
        for before, after in _RESNET.items():
            self._move(f"{old}.{before}", f"{group}.{new}.{after}")
        if f"{old}.skip.weight" in self._state:
            self._move(f"{old}.skip", f"{group}.{new}.conv_shortcut")
        if f"{old}.qkv.weight" in self._state:
            self._move_attention(old, f"{group}.{new}".replace("resnets", "attentions"))

    def _move_attention(self, old: str, new: str) -> None:
        self._move(f"{old}.norm2", f"{new}.group_norm")
        for kind in ("weight", "bias"):
            fused = self._state.pop(f"{old}.qkv.{kind}")
            if len(fused) % (3 * self._head_width):
                raise ValueError(
                    f"{old} has {len(fused) // 3} channels, which heads of {self._head_width} channels do not divide"
                )
            # [heads, width, 3]: the three are next to each other, channel by channel.
            for number, name in enumerate(("to_q", "to_k", "to_v")):
                self._converted[f"{new}.{name}.{kind}"] = (
                    fused[number::3].flatten(1) if kind == "weight" else fused[number::3]
                )
        self._converted[f"{new}.to_out.0.weight"] = self._state.pop(f"{old}.proj.weight").flatten(1)
        self._converted[f"{new}.to_out.0.bias"] = self._state.pop(f"{old}.proj.bias")

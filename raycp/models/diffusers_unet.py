"""A `UNet2DModel` of diffusers, and what published networks have that diffusers has no argument for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

ATTENTION_HEADS = "attention_heads"
"""Heads of every attention layer, where their widths differ (improved-diffusion, ImageNet-64)."""
MIN_CHANNELS_PER_GROUP = "min_channels_per_group"
"""Narrow layers of EDM's ADM have fewer groups than `norm_num_groups`: so many that each has this many channels."""
NOISE_CHANNELS = "noise_channels"
"""Width of the noise embedding, where it is not that of the first layer (EDM's ADM with `channel_mult[0]` above 1)."""
OWN_ARGUMENTS = (ATTENTION_HEADS, MIN_CHANNELS_PER_GROUP, NOISE_CHANNELS)


def make_unet(arguments: Mapping[str, Any]) -> Any:
    """A `UNet2DModel`; its config says all its arguments, those of ours among them.

    Args:
        arguments: of the class, and of `OWN_ARGUMENTS`, each a whole number above 0.

    Raises:
        ValueError: the heads do not divide a layer's channels, or the groups; or what diffusers objects to.
    """
    from diffusers import UNet2DModel

    own = {name: arguments[name] for name in OWN_ARGUMENTS if name in arguments}
    for name, value in own.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    given = {name: value for name, value in arguments.items() if name not in own}
    groups = {name: given[name] for name in ("norm_num_groups", "attn_norm_num_groups") if name in given}
    if MIN_CHANNELS_PER_GROUP in own:
        given |= dict.fromkeys(groups, 1)  # which fits every layer, until they are set one by one
    network_class: Any = UNet2DModel
    network = network_class.from_config(given)
    if ATTENTION_HEADS in own:
        _set_heads(network, own[ATTENTION_HEADS])
    if MIN_CHANNELS_PER_GROUP in own:
        _set_groups(network, groups.get("norm_num_groups", 32), own[MIN_CHANNELS_PER_GROUP])
    if NOISE_CHANNELS in own:
        _set_noise_channels(network, own[NOISE_CHANNELS])
    network.register_to_config(**groups, **own)
    return network


def _set_heads(network: nn.Module, heads: int) -> None:
    from diffusers.models.attention_processor import Attention

    for layer in network.modules():
        if isinstance(layer, Attention):
            if layer.inner_dim % heads:
                raise ValueError(
                    f"{ATTENTION_HEADS} {heads} for an attention layer of {layer.inner_dim} channels"
                )
            layer.heads, layer.scale = heads, (layer.inner_dim // heads) ** -0.5


def _set_groups(network: nn.Module, most: int, channels_per_group: int) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            groups = min(most, layer.num_channels // channels_per_group)
            if not groups or layer.num_channels % groups:
                raise ValueError(
                    f"{MIN_CHANNELS_PER_GROUP} {channels_per_group}, up to {most} groups, for a layer of "
                    f"{layer.num_channels} channels"
                )
            layer.num_groups = groups


def _set_noise_channels(network: Any, channels: int) -> None:
    if network.config.time_embedding_type != "positional":
        raise ValueError(f"{NOISE_CHANNELS} with time_embedding_type {network.config.time_embedding_type!r}")
    network.time_proj.num_channels = channels
    network.time_embedding.linear_1 = nn.Linear(channels, network.time_embedding.linear_1.out_features)

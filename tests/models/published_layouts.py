"""Weights with the names and shapes of published networks, for writing files of their layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch


def array(value: np.ndarray) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb([list(value.shape), value.dtype.name, value.tobytes()]))


def ncsnpp_state(channels: int = 128, blocks: int = 4, levels: int = 3) -> dict[str, torch.Tensor]:
    """Of an NCSN++ of consistency_models_cifar10, in the order in which flax numbers its modules."""
    state: dict[str, torch.Tensor] = {}
    width, numbered = 2 * channels, {"r": 0, "a": 0}

    def dense(name: str, inside: int, outside: int) -> None:
        state[f"{name}/kernel"], state[f"{name}/bias"] = torch.empty(inside, outside), torch.empty(outside)

    def convolution(name: str, inside: int, outside: int, size: int = 3, kernel: str = "kernel") -> None:
        state[f"{name}/{kernel}"] = torch.empty(size, size, inside, outside)
        state[f"{name}/bias"] = torch.empty(outside)

    def norm(name: str, count: int) -> None:
        state[f"{name}/scale"], state[f"{name}/bias"] = torch.empty(count), torch.empty(count)

    def resnet(inside: int, change: bool = False) -> None:
        name = f"ResnetBlockBigGANpp_{numbered['r']}"
        numbered["r"] += 1
        norm(f"{name}/GroupNorm_0", inside)
        convolution(f"{name}/Conv_0", inside, width)
        dense(f"{name}/Dense_0", 4 * channels, width)
        norm(f"{name}/GroupNorm_1", width)
        convolution(f"{name}/Conv_1", width, width)
        if change or inside != width:
            convolution(f"{name}/Conv_2", inside, width, 1)

    def attention() -> None:
        name = f"AttnBlockpp_{numbered['a']}"
        numbered["a"] += 1
        norm(f"{name}/GroupNorm_0", width)
        for number in range(4):
            state[f"{name}/NIN_{number}/W"] = torch.empty(width, width)
            state[f"{name}/NIN_{number}/b"] = torch.empty(width)

    state["GaussianFourierProjection_0/W"] = torch.empty(channels)
    dense("Dense_0", 2 * channels, 4 * channels)
    dense("Dense_1", 4 * channels, 4 * channels)
    convolution("Conv_0", 3, channels)
    kept, now, pyramid = [channels], channels, 3
    for level in range(levels):
        for _ in range(blocks):
            resnet(now)
            now = width
            if level == 1:
                attention()
            kept.append(now)
        if level < levels - 1:
            resnet(now, change=True)
            convolution(f"Downsample_{level}/Conv2d_0", pyramid, width, kernel="weight")
            pyramid = width
            kept.append(now)
    resnet(now)
    attention()
    resnet(now)
    for level in reversed(range(levels)):
        for _ in range(blocks + 1):
            resnet(now + kept.pop())
        if level == 1:
            attention()
        if level:
            resnet(now, change=True)
    norm("GroupNorm_0", width)
    convolution("Conv_1", width, 3)
    return state


def write_flax_file(path: Path, state: Mapping[str, torch.Tensor]) -> Path:
    """A checkpoint whose average parameters these are."""
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        *parents, last = name.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = array(tensor.numpy())
    path.write_bytes(msgpack.packb({"step": 1, "params": {}, "params_ema": tree}))
    return path


def adm_state(
    channels: int, mults: list[int], blocks: int, attends: list[bool], size: int, classes: int
) -> dict[str, torch.Tensor]:
    """Of EDM's DhariwalUNet."""
    state: dict[str, torch.Tensor] = {}
    embedding = 4 * channels

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.empty(shape), torch.empty(shape[0])

    def block(name: str, inside: int, outside: int, attention: bool, change: bool = False) -> None:
        layer(f"{name}.norm0", inside)
        layer(f"{name}.conv0", outside, inside, 3, 3)
        layer(f"{name}.affine", 2 * outside, embedding)
        layer(f"{name}.norm1", outside)
        layer(f"{name}.conv1", outside, outside, 3, 3)
        if inside != outside:
            layer(f"{name}.skip", outside, inside, 1, 1)
        if attention:
            layer(f"{name}.norm2", outside)
            layer(f"{name}.qkv", 3 * outside, outside, 1, 1)
            layer(f"{name}.proj", outside, outside, 1, 1)
        if change:
            state[f"{name}.conv0.resample_filter"] = torch.full((1, 1, 2, 2), 0.25)

    layer("model.map_layer0", embedding, channels)
    layer("model.map_layer1", embedding, embedding)
    state["model.map_label.weight"] = torch.empty(embedding, classes)
    layer(f"model.enc.{size}x{size}_conv", channels, 3, 3, 3)
    kept, now = [channels], channels
    for level, mult in enumerate(mults):
        side = size >> level
        if level:
            block(f"model.enc.{side}x{side}_down", now, now, False, change=True)
            kept.append(now)
        for number in range(blocks):
            block(f"model.enc.{side}x{side}_block{number}", now, mult * channels, attends[level])
            kept.append(now := mult * channels)
    for level, mult in reversed(list(enumerate(mults))):
        side = size >> level
        if level == len(mults) - 1:
            block(f"model.dec.{side}x{side}_in0", now, now, True)
            block(f"model.dec.{side}x{side}_in1", now, now, False)
        else:
            block(f"model.dec.{side}x{side}_up", now, now, False, change=True)
        for number in range(blocks + 1):
            inside = now + kept.pop()
            block(f"model.dec.{side}x{side}_block{number}", inside, now := mult * channels, attends[level])
    layer("model.out_norm", now)
    layer("model.out_conv", 3, now, 3, 3)
    return state

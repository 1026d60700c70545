"""OpenAI's U-Net in few words, as an oracle: names and order of channels are the published ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


class ResBlock(nn.Module):
    def __init__(
        self, inside: int, outside: int, embedding: int, scaled: bool, change: float | None = None
    ) -> None:
        super().__init__()
        self.scaled, self.change = scaled, change
        self.in_layers = nn.Sequential(norm(inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outside * (2 if scaled else 1)))
        drop, last = nn.Dropout(0.0), nn.Conv2d(outside, outside, 3, padding=1)
        self.out_layers = nn.Sequential(norm(outside), nn.SiLU(), drop, last)
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def resized(self, x: Tensor) -> Tensor:
        if self.change is None:
            return x
        return F.avg_pool2d(x, 2) if self.change < 1 else F.interpolate(x, scale_factor=2, mode="nearest")

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](self.resized(self.in_layers[1](self.in_layers[0](x))))
        e = self.emb_layers(emb)[:, :, None, None]
        if self.scaled:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](self.out_layers[1](h))
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(self.resized(x)) + h


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int, improved: bool) -> None:
        super().__init__()
        self.heads, self.improved = heads, improved
        convolution = nn.Conv1d if improved else nn.Conv2d
        self.norm, self.qkv = norm(channels), convolution(channels, 3 * channels, 1)
        self.proj_out = convolution(channels, channels, 1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        batch, channels, *spatial = x.shape
        h = self.norm(x)
        h = (self.qkv(h.flatten(2)) if self.improved else self.qkv(h)).reshape(batch, 3 * channels, -1)
        width = channels // self.heads
        if self.improved:
            q, k, v = h.reshape(batch, self.heads, 3, width, -1).unbind(2)
        else:
            q, k, v = h.reshape(batch, 3, self.heads, width, -1).unbind(1)
        weight = torch.einsum("bhct,bhcs->bhts", q, k).div(math.sqrt(width)).softmax(-1)
        out = torch.einsum("bhts,bhcs->bhct", weight, v).reshape(batch, channels, -1)
        projected = self.proj_out(out if self.improved else out.reshape(batch, channels, *spatial))
        return x + projected.reshape(x.shape)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Convolution(nn.Conv2d):
    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        return super().forward(x)


class OpenaiUnet(nn.Module):
    """`improved`: as in improved-diffusion, else as in consistency_models, where residual blocks change resolutions."""

    def __init__(
        self, channels: list[int], resnets: int, attends: list[bool], heads: int, improved: bool, scaled: bool = True,
        classes: int | None = None, outside: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        first = self.width = channels[0]
        embedding = 4 * first
        self.time_embed = nn.Sequential(
            nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        if classes is not None:
            self.label_emb = nn.Embedding(classes, embedding)
        self.input_blocks = nn.ModuleList([nn.ModuleList([Convolution(3, first, 3, padding=1)])])
        kept, now = [first], first
        for level, count in enumerate(channels):
            for _ in range(resnets):
                block = [ResBlock(now, count, embedding, scaled)]
                self.input_blocks.append(
                    nn.ModuleList([*block, *self.attention(count, attends[level], heads, improved)])
                )
                kept.append(now := count)
            if level < len(channels) - 1:
                change = Downsample(now) if improved else ResBlock(now, now, embedding, scaled, 0.5)
                self.input_blocks.append(nn.ModuleList([change]))
                kept.append(now)
        ends = [ResBlock(now, now, embedding, scaled) for _ in range(2)]
        self.middle_block = nn.ModuleList([ends[0], Attention(now, heads, improved), ends[1]])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(channels))):
            for place in range(resnets + 1):
                parts = [ResBlock(now + kept.pop(), channels[level], embedding, scaled)]
                parts += self.attention(now := channels[level], attends[level], heads, improved)
                if level and place == resnets:
                    parts.append(Upsample(now) if improved else ResBlock(now, now, embedding, scaled, 2.0))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(norm(now), nn.SiLU(), nn.Conv2d(now, outside, 3, padding=1))

    @staticmethod
    def attention(channels: int, wanted: bool, heads: int, improved: bool) -> list[nn.Module]:
        return [Attention(channels, heads, improved)] if wanted else []

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        half = self.width // 2
        angle = time[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1))
        if labels is not None:
            emb = emb + self.label_emb(labels)
        kept = []
        for block in self.input_blocks:
            for part in block:
                x = part(x, emb)
            kept.append(x)
        for part in self.middle_block:
            x = part(x, emb)
        for block in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for part in block:
                x = part(x, emb)
        return self.out(x)

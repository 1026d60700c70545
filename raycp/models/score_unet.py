"""DDPM++ and NCSN++ (Song et al. 2021), as EDM and the consistency models for CIFAR-10 use them.

diffusers cannot express them: filtered resampling, sums scaled by sqrt(1/2), a pyramid of the input. The modules have
the names of NVlabs' EDM, whose tensors load as they are.

Source: arXiv 2011.13456, appendix H; arXiv 2206.00364, appendix F.3, for the configurations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6
_HALF = math.sqrt(0.5)


class ScoreUNet(nn.Module):
    """Called as a `UNet2DModel` of diffusers: `network(x, conditioning, labels, return_dict=False)[0]`.

    Args:
        sample_size: height and width of the images, pixels.
        in_channels: channels of the images, which are also those of the output.
        channels: width of the first convolution.
        channel_mult: width of each resolution, in `channels`.
        num_blocks: residual blocks per resolution on the way down; one more on the way up.
        attention_resolutions: heights at which there is attention.
        fourier: NCSN++, random frequencies of the noise conditioning, from the weights; else DDPM++, fixed ones.
        residual_input: NCSN++, the input, downsampled and convolved, is added at each resolution.
        noise_mult: width of the noise embedding, in `channels`.
        resample_filter: separable filter of every change of resolution, such as [1, 1] or [1, 3, 3, 1].
        num_class_embeds: classes of a class-conditional network.
    """

    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        channels: int,
        channel_mult: Sequence[int],
        num_blocks: int,
        attention_resolutions: Sequence[int],
        fourier: bool,
        residual_input: bool,
        noise_mult: int,
        resample_filter: Sequence[float],
        num_class_embeds: int | None = None,
    ) -> None:
        super().__init__()
        self._num_classes = num_class_embeds or 0
        self.config: dict[str, Any] = {
            "sample_size": sample_size,
            "in_channels": in_channels,
            "channels": channels,
            "channel_mult": list(channel_mult),
            "num_blocks": num_blocks,
            "attention_resolutions": list(attention_resolutions),
            "fourier": fourier,
            "residual_input": residual_input,
            "noise_mult": noise_mult,
            "resample_filter": list(resample_filter),
            "num_class_embeds": num_class_embeds,
        }
        """What rebuilds the network; plain JSON values."""
        embedding, noise = 4 * channels, noise_mult * channels
        self.map_noise = _Frequencies(noise, fourier)
        self.map_label = nn.Linear(self._num_classes, noise) if self._num_classes else None
        self.map_layer0 = nn.Linear(noise, embedding)
        self.map_layer1 = nn.Linear(embedding, embedding)

        def block(inside: int, outside: int, change: str | None = None, attention: bool = False) -> _Block:
            return _Block(inside, outside, embedding, change, attention, resample_filter)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        widths, now, pyramid = [mult * channels for mult in channel_mult], channels, in_channels
        kept = []
        for level, width in enumerate(widths):
            size = sample_size >> level
            if level == 0:
                self.enc[f"{size}x{size}_conv"] = nn.Conv2d(in_channels, channels, 3, padding=1)
            else:
                self.enc[f"{size}x{size}_down"] = block(now, now, "down")
                if residual_input:
                    self.enc[f"{size}x{size}_aux_residual"] = _ConvolvedThenHalved(
                        pyramid, now, resample_filter
                    )
                    pyramid = now
            kept.append(now)
            for number in range(num_blocks):
                attends = size in attention_resolutions
                self.enc[f"{size}x{size}_block{number}"] = block(now, width, attention=attends)
                now = width
                kept.append(now)
        for level, width in reversed(list(enumerate(widths))):
            size = sample_size >> level
            if level == len(widths) - 1:
                self.dec[f"{size}x{size}_in0"] = block(now, now, attention=True)
                self.dec[f"{size}x{size}_in1"] = block(now, now)
            else:
                self.dec[f"{size}x{size}_up"] = block(now, now, "up")
            for number in range(num_blocks + 1):
                attends = number == num_blocks and size in attention_resolutions
                self.dec[f"{size}x{size}_block{number}"] = block(now + kept.pop(), width, attention=attends)
                now = width
        self.dec[f"{sample_size}x{sample_size}_aux_norm"] = _group_norm(now)
        self.dec[f"{sample_size}x{sample_size}_aux_conv"] = nn.Conv2d(now, in_channels, 3, padding=1)

    def forward(
        self,
        x_BCHW: Tensor,
        conditioning_B: Tensor,
        labels_B: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The output [B,C,H,W] for scaled noisy images.

        Of K classes, label K is none of them, as is no label at all, and K + 1 the mean of all.
        """
        assert not return_dict
        h = pyramid = x_BCHW
        embedding = self._embedding(conditioning_B, labels_B)
        kept: list[Tensor] = []
        for layer in self.enc.values():
            if isinstance(layer, _ConvolvedThenHalved):
                h = kept[-1] = pyramid = (h + layer(pyramid)) * _HALF
            else:
                h = layer(h, embedding) if isinstance(layer, _Block) else layer(h)
                kept.append(h)
        for name, layer in self.dec.items():
            if not isinstance(layer, _Block):
                h = layer(F.silu(h)) if name.endswith("_conv") else layer(h)
                continue
            if "_block" in name:
                h = torch.cat([h, kept.pop()], dim=1)
            h = layer(h, embedding)
        return (h,)

    def _embedding(self, conditioning_B: Tensor, labels_B: Tensor | None) -> Tensor:
        emb = self.map_noise(conditioning_B)
        if self.map_label is not None:
            classes = self._num_classes
            if labels_B is None:
                labels_B = torch.full((len(emb),), classes, device=emb.device)
            each = torch.eye(classes + 2, classes, device=emb.device)
            each[classes + 1] = 1 / classes
            emb = emb + self.map_label(each[labels_B].to(emb.dtype) * math.sqrt(classes))
        hidden: Tensor = F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))
        return hidden


class _Frequencies(nn.Module):
    """Sines, then cosines, of the conditioning times the frequencies."""

    def __init__(self, width: int, fourier: bool) -> None:
        super().__init__()
        self._width = width
        if fourier:
            self.register_buffer("freqs", torch.zeros(width // 2))
        self._fourier = fourier

    def forward(self, conditioning_B: Tensor) -> Tensor:
        if self._fourier:
            frequency = 2 * math.pi * self.get_buffer("freqs")
        else:
            half = self._width // 2
            exponent = torch.arange(half, dtype=torch.float32, device=conditioning_B.device) / (half - 1)
            frequency = (1 / 10_000) ** exponent
        angle = torch.outer(conditioning_B.float(), frequency.float())
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class _Block(nn.Module):
    """A residual block, which may change the resolution, with attention of one head behind it."""

    def __init__(
        self,
        inside: int,
        outside: int,
        embedding: int,
        change: str | None,
        attention: bool,
        taps: Sequence[float],
    ) -> None:
        super().__init__()
        self.norm0, self.norm1 = _group_norm(inside), _group_norm(outside)
        self.conv0 = nn.Conv2d(inside, outside, 3, padding=1)
        self.affine = nn.Linear(embedding, outside)
        self.conv1 = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside or change else nn.Identity()
        self._change = {"up": _doubled, "down": _halved, None: None}[change]
        self._taps = list(taps)
        self.attends = attention
        if attention:
            self.norm2 = _group_norm(outside)
            self.qkv = nn.Conv2d(outside, 3 * outside, 1)
            self.proj = nn.Conv2d(outside, outside, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h: Tensor = F.silu(self.norm0(x))
        if self._change is not None:
            x, h = self._change(x, self._taps), self._change(h, self._taps)
        h = self.conv0(h) + self.affine(embedding)[:, :, None, None]
        h = self.conv1(F.silu(self.norm1(h)))
        h = (self.skip(x) + h) * _HALF
        if not self.attends:
            return h
        batch, channels, height, width = h.shape
        # The fused channels are [channel, 3]; one head.
        fused = self.qkv(self.norm2(h)).reshape(batch, channels, 3, height * width).permute(2, 0, 3, 1)
        query, key, value = fused.unsqueeze(2)
        seen = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        projected: Tensor = self.proj(seen.transpose(1, 2).reshape(h.shape))
        return (h + projected) * _HALF


class _ConvolvedThenHalved(nn.Conv2d):
    """A convolution, then the filter at every second pixel, without an edge between the two."""

    def __init__(self, inside: int, outside: int, taps: Sequence[float]) -> None:
        super().__init__(inside, outside, 3)
        self._taps = list(taps)

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv2d(x, self.weight, padding=1 + _edge(self._taps))
        kernel = _kernel(self._taps, h)
        h = F.conv2d(h, kernel, stride=2, groups=h.shape[1])
        assert self.bias is not None
        return h + self.bias[:, None, None]


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels, eps=_EPS)


def _edge(taps: Sequence[float]) -> int:
    return (len(taps) - 1) // 2


def _kernel(taps: Sequence[float], like: Tensor) -> Tensor:
    """The filter for each channel of a tensor, [C,1,k,k], sum 1."""
    row = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(row, row) / row.sum() ** 2
    return kernel.to(like)[None, None].expand(like.shape[1], 1, -1, -1)


def _halved(x: Tensor, taps: Sequence[float]) -> Tensor:
    return F.conv2d(x, _kernel(taps, x), stride=2, padding=_edge(taps), groups=x.shape[1])


def _doubled(x: Tensor, taps: Sequence[float]) -> Tensor:
    return F.conv_transpose2d(x, 4 * _kernel(taps, x), stride=2, padding=_edge(taps), groups=x.shape[1])

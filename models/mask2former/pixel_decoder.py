"""Pixel decoder: a multi-scale deformable attention encoder over strides 32, 16, 8, and one FPN step to stride 4.

Mask2Former, section 3.2 (the encoder is Deformable DETR's, section 4.1). Parameter names are those of the released
checkpoints under ``sem_seg_head.pixel_decoder``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.mask2former.position_encoding import kept_by_size, sine_position_encoding
from harness.models.ops.deform_attn import fused_deformable_attention


class FeatureMaps(NamedTuple):
    """A backbone's feature maps, each ``(batch, channels, height / stride, width / stride)``."""

    res2: Tensor
    """Stride 4."""
    res3: Tensor
    """Stride 8."""
    res4: Tensor
    """Stride 16."""
    res5: Tensor
    """Stride 32."""


class PixelFeatures(NamedTuple):
    """The outputs of the pixel decoder, the inputs of the transformer decoder; all have ``dim`` channels."""

    mask_features: Tensor
    """``(batch, dim, height / 4, width / 4)``."""
    multi_scale: tuple[Tensor, Tensor, Tensor]
    """``(batch, dim, h, w)`` at strides 32, 16, 8."""


class ConvNorm(nn.Conv2d):
    """A convolution without bias followed by its own group normalisation, as ``weight`` and ``norm.*``."""

    def __init__(self, channels: int, dim: int, kernel_size: int) -> None:
        super().__init__(channels, dim, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.GroupNorm(32, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` to ``(batch, dim, h, w)``."""
        y: Tensor = self.norm(super().forward(x))
        return y


class MultiScaleDeformableAttention(nn.Module):
    """Attention over a few sampled points per level (Deformable DETR, equation 3)."""

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        source: Tensor,
        spatial_shapes: Tensor,
        padding: Tensor | None,
        value_type: torch.dtype = torch.float32,
    ) -> Tensor:
        """Attend from ``query`` ``(N, Lq, dim)`` to ``source`` ``(N, S, dim)``; returns ``(N, Lq, dim)``.

        ``reference_points`` is ``(Lq, 2)`` as ``(x, y)`` in [0, 1], ``spatial_shapes`` ``(levels, 2)`` as
        ``(height, width)``. Where ``padding`` ``(S,)`` is true the value is zero. ``value_type`` is that of the values
        that samples are read from; everything else is in float32.
        """
        batch, queries, dim = query.shape
        head_shape = (batch, queries, self.heads, self.levels, self.points)
        value = self.value_proj(source)
        if padding is not None:
            value = value.masked_fill(padding[:, None], 0.0)
        value = value.view(batch, -1, self.heads, dim // self.heads).to(value_type)
        offsets = self.sampling_offsets(query).view(*head_shape, 2)
        logits = self.attention_weights(query).view(head_shape)
        sampled = fused_deformable_attention(value, spatial_shapes, offsets, logits, reference_points)
        attended: Tensor = self.output_proj(sampled)
        return attended

    @torch.no_grad()
    def look_around(self) -> None:
        """Initialise for training: every query looks the same way, each head along its angle, with equal weights."""
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias.copy_(_offsets_by_head(self.heads, self.levels, self.points))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)


class EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each followed by a residual connection and a norm."""

    def __init__(self, dim: int, heads: int, levels: int, points: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(dim, heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor,
        padding: Tensor | None,
        value_type: torch.dtype = torch.float32,
    ) -> Tensor:
        """``(N, S, dim)`` to ``(N, S, dim)``; arguments as in `MultiScaleDeformableAttention`."""
        x = self.norm1(x + self.self_attn(x + position, reference_points, x, spatial_shapes, padding, value_type))
        y: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return y


class Encoder(nn.Module):
    """The stack of encoder layers, as ``layers.*``."""

    def __init__(self, layers: list[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class EncoderTransformer(nn.Module):
    """The encoder over all levels at once, with one learned embedding per level."""

    def __init__(self, dim: int, heads: int, levels: int, points: int, feedforward: int, layers: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.empty(levels, dim))
        self.encoder = Encoder([EncoderLayer(dim, heads, levels, points, feedforward) for _ in range(layers)])

    def forward(
        self, levels: list[Tensor], paddings: list[Tensor] | None, value_type: torch.dtype = torch.float32
    ) -> list[Tensor]:
        """Encode the levels ``(N, dim, h, w)``, coarse first; returns the same shapes."""
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        device = levels[0].device
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # (N, S, dim)
        position = torch.cat(
            [
                sine_position_encoding(h, w, levels[0].shape[1] // 2, device).flatten(2).transpose(1, 2) + embed
                for (h, w), embed in zip(sizes, self.level_embed, strict=True)
            ],
            dim=1,
        )
        reference, spatial_shapes = centres_of_levels(sizes, device), shapes_of_levels(sizes, device)
        padding = torch.cat([p.flatten() for p in paddings]) if paddings is not None else None
        for layer in self.encoder.layers:
            x = layer(x, position, reference, spatial_shapes, padding, value_type)
        parts = torch.split(x, [h * w for h, w in sizes], dim=1)
        return [part.transpose(1, 2).reshape(-1, x.shape[-1], *size) for part, size in zip(parts, sizes, strict=True)]


class PixelDecoder(nn.Module):
    """Computes mask features and multi-scale memory from a backbone's maps.

    ``channels`` are those of res2, res3, res4, res5. It computes in float32 even under autocast, as the released models
    were trained and evaluated. The one exception, which halves what deformable attention reads: under autocast to
    bfloat16 without gradients the values that it samples from are rounded to bfloat16.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        dim: int = 256,
        heads: int = 8,
        points: int = 4,
        feedforward: int = 1024,
        layers: int = 6,
    ) -> None:
        super().__init__()
        res2, *finer_first = channels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 1), nn.GroupNorm(32, dim)) for c in reversed(finer_first)
        )
        self.transformer = EncoderTransformer(dim, heads, len(finer_first), points, feedforward, layers)
        self.mask_features = nn.Conv2d(dim, dim, 1)
        self.adapter_1 = ConvNorm(res2, dim, 1)
        self.layer_1 = ConvNorm(dim, dim, 3)
        self._initialise()

    def forward(self, features: FeatureMaps, paddings: list[Tensor] | None = None) -> PixelFeatures:
        """Decode ``features``; ``paddings`` are boolean ``(h, w)`` maps at strides 32, 16, 8, true where padded.

        Without ``paddings`` the padded border counts as image, as in the released models (QUIRK).
        """
        device = features.res5.device.type
        value_type = _value_type(device)
        with torch.autocast(device, enabled=False):
            coarse_first = (features.res5.float(), features.res4.float(), features.res3.float())
            levels = [project(level) for project, level in zip(self.input_proj, coarse_first, strict=True)]
            encoded = self.transformer(levels, paddings, value_type)
            lateral = self.adapter_1(features.res2.float())
            raised = functional.interpolate(encoded[2], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            mask_features = self.mask_features(functional.relu(self.layer_1(lateral + raised)))
        return PixelFeatures(mask_features, (encoded[0], encoded[1], encoded[2]))

    @torch.no_grad()
    def _initialise(self) -> None:
        """Set the parameters as for training: Xavier uniform, in its Caffe2 form for the FPN's convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for conv in (self.mask_features, self.adapter_1, self.layer_1):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        nn.init.normal_(self.transformer.level_embed)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.look_around()


def _value_type(device: str) -> torch.dtype:
    """The type of the values that deformable attention samples from, by what autocast says outside the decoder."""
    # not float16, whose largest number a layer of somebody's checkpoint may exceed
    rounded = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    return torch.bfloat16 if rounded and not torch.is_grad_enabled() else torch.float32


@kept_by_size
def centres_of_levels(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Centres of the pixels of all levels, as `pixel_centres` gives them: ``(S, 2)``."""
    return torch.cat([pixel_centres(height, width, device) for height, width in sizes])


@kept_by_size
def shapes_of_levels(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The sizes as an int64 tensor ``(levels, 2)``."""
    # filled on the device: a copy from the host would synchronise, and a CUDA graph could not capture it
    return torch.cat([torch.full((1,), side, device=device) for size in sizes for side in size]).view(-1, 2)


def pixel_centres(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Centres of the pixels of a map, row-major, as ``(x, y)`` in [0, 1]: ``(height * width, 2)``."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
    return torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)), dim=-1).reshape(-1, 2)


def _offsets_by_head(heads: int, levels: int, points: int) -> Tensor:
    """First offsets, flat ``(heads * levels * points * 2,)``: point p is p + 1 away, in the direction of its head."""
    angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    distance = torch.arange(1, points + 1, dtype=torch.float32)
    return (direction[:, None, None, :] * distance[None, None, :, None]).expand(heads, levels, points, 2).reshape(-1)
